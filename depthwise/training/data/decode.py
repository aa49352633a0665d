"""An image, however it is stored, to the square of pixels that a network is trained on.

Ordinary JPEGs are decoded by torchcodec where it is installed: to the same pixels as by Pillow, and
faster. Whatever is not ordinary, damaged files among it, is Pillow's.
"""

from collections.abc import Callable
from importlib import import_module
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image

from depthwise.weights.pictures import (
    WHOLE,
    ignore_warnings_of_pillow,
    pixels_of,
    read_picture,
    upright_rgb,
)

BILINEAR = Image.Resampling.BILINEAR
END_OF_JPEG = b"\xff\xd9"


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
    image = _square(decode_upright(content, name, side), side)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def decode_upright(content: bytes | np.ndarray, name: str, side: int) -> Image.Image:
    """Return an image as upright RGB, to be resized so that its shorter side has `side` pixels.

    Raises ValueError for what is no whole image.
    """
    if isinstance(content, np.ndarray):
        if not content.size:
            raise ValueError(f"{name} has no pixels")
        return upright_rgb(Image.fromarray(content), side, BILINEAR)
    return _ordinary(content, side) or read_picture(content, name, side, BILINEAR)


def _square(image: Image.Image, side: int) -> Image.Image:
    """Resize so that the shorter side has `side` pixels; keep the middle. As torchvision rounds."""
    width, height = image.size
    long = int(side * max(image.size) / min(image.size))
    size = (side, long) if width <= height else (long, side)
    if image.size != size:
        image = image.resize(size, BILINEAR)
    left, top = (round((length - side) / 2) for length in size)
    return image.crop((left, top, left + side, top + side))


def _ordinary(content: bytes, side: int) -> Image.Image | None:
    """Return what torchcodec makes of an upright JPEG in colours; None for any other image."""
    if _torchcodec is None or not content.endswith(END_OF_JPEG):
        return None
    ignore_warnings_of_pillow()
    try:
        with Image.open(BytesIO(content), formats=("JPEG",)) as header:
            if header.mode != "RGB" or pixels_of(header) > WHOLE or not _is_upright(header):
                return None
        pixels = _torchcodec(content).permute(1, 2, 0).numpy()
        return upright_rgb(Image.fromarray(pixels), side, BILINEAR)
    except MemoryError:
        raise
    except Exception:  # damaged: Pillow says in what way
        return None


def _is_upright(image: Image.Image) -> bool:
    """Tell whether EXIF says so, or there is none: torchcodec may read it where Pillow cannot."""
    unsaid = 0 if "exif" in image.info else 1
    return image.getexif().get(ExifTags.Base.Orientation, unsaid) == 1


def _find_torchcodec() -> Callable | None:
    """Return torchcodec's decoder of JPEGs; None where it is not installed, or cannot be loaded."""
    try:
        return import_module("torchcodec.decoders").decode_jpeg
    except (ImportError, OSError, RuntimeError, AttributeError):  # no FFmpeg; an old version
        return None


_torchcodec = _find_torchcodec()
