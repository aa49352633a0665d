"""An image, however it is stored, to the square of pixels that a network is trained on.

Pillow does it all, as it does for predictions, so that the pixels are the same. torchcodec decodes
to the same pixels too, and saves no time: what it gives must be copied to where Pillow resizes it
(0.91 ms a photograph of 320 x 240 to 128 x 128, against 0.80 ms; WebP 1.45 against 1.34 ms).
"""

import numpy as np
from PIL import Image

from depthwise.weights import Preprocessing
from depthwise.weights.pictures import read_picture, read_shorter_side, upright_rgb

# of files that are taken for images; one that cannot be decoded here is said when it is read
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif",
    ".jp2", ".j2k", ".jpe", ".jfif", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
BILINEAR = Image.Resampling.BILINEAR


def decode_square(content: bytes | np.ndarray, name: str, side: int) -> np.ndarray:
    """Return the middle of an image as `weights.Preprocessing` sees it, before it normalises.

    Args:
        content: A file's bytes, or pixels of uint8: (H, W) or (H, W, 3).
        name: What a message calls the image.
        side: Pixels to which the shorter side is resized.

    Returns:
        Pixels of uint8, (3, side, side).

    Raises ValueError for what is no whole image.
    """
    image = _square(_decode_upright(content, name, side), side)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def decode_framed(content: bytes | np.ndarray, name: str, how: Preprocessing) -> np.ndarray:
    """Return what a network sees of an image, however it is stored: uint8, (3, crop, crop).

    Raises ValueError for what is no whole image.
    """
    return how.framed(_decode_upright(content, name, how.resize, how.filter)).numpy()


def shorter_side(content: bytes | np.ndarray, name: str) -> int:
    """Return how many pixels the shorter side of an image has.

    Raises ValueError for what is known to be no image without being decoded.
    """
    if isinstance(content, np.ndarray):
        return min(content.shape[:2])
    return read_shorter_side(content, name)


def _decode_upright(
    content: bytes | np.ndarray, name: str, side: int, filter: Image.Resampling = BILINEAR
) -> Image.Image:
    """Return an image as upright RGB, to be resized so that its shorter side has `side` pixels."""
    if not isinstance(content, np.ndarray):
        return read_picture(content, name, side, filter)
    if not content.size:
        raise ValueError(f"{name} has no pixels")
    return upright_rgb(Image.fromarray(content), side, filter)


def _square(image: Image.Image, side: int) -> Image.Image:
    """Resize so that the shorter side has `side` pixels; keep the middle. As torchvision rounds."""
    width, height = image.size
    long = int(side * max(image.size) / min(image.size))
    size = (side, long) if width <= height else (long, side)
    if image.size != size:
        image = image.resize(size, BILINEAR)
    left, top = (round((length - side) / 2) for length in size)
    return image.crop((left, top, left + side, top + side))
