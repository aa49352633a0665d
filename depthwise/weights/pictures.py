"""Pictures that people give: made upright RGB, or refused in a sentence.

One of more than WHOLE pixels is resized strip by strip, so that it lies in memory once, and a JPEG
is made smaller as it is decoded; of a very long one only the middle is kept. But for such JPEGs, a
network sees what it would have seen, within rounding.
"""

import os
import re
import warnings
from collections.abc import Callable
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# Not all that Pillow knows: it has Ghostscript draw EPS, which is a program that a stranger wrote.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
WHOLE = 2**25  # pixels: cameras' pictures are read as they are
SPARE = 3  # times the side that is asked for is what a large JPEG keeps: resizing does the rest
STRIP = 2**22  # pixels of a strip
LONG = 16  # times as long as wide: from there on the middle alone is kept
MIDDLE = 8  # times as long as wide, at least
_OF_PILLOW = re.compile(r"PIL\.")  # as `warnings.filterwarnings` compiles it
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

Found = TypeVar("Found")


def open_picture(path: Path, side: int, filter: Image.Resampling) -> Image.Image:
    """Return a picture as upright RGB, to be resized so that its shorter side has `side` pixels.

    Raises ValueError for what is no whole picture, or has too many pixels.
    """
    check_file(path)
    return _opened(path, path, lambda image: _decoded(image, side, filter))


def read_picture(content: bytes, name: str, side: int, filter: Image.Resampling) -> Image.Image:
    """Return what `open_picture` does, of the bytes of a file that messages call `name`."""
    return _read(content, name, lambda image: _decoded(image, side, filter))


def read_shorter_side(content: bytes, name: str) -> int:
    """Return how many pixels the shorter side of a picture has, from the start of its bytes."""
    return _read(content, name, lambda image: min(image.size))


def check_file(path: str | PathLike[str]) -> None:
    """Raise ValueError, in a sentence, unless there is a file that is not empty."""
    if os.path.isfile(path):
        if not os.path.getsize(path):
            raise ValueError(f"{path} is empty")
    elif os.path.isdir(path):
        raise ValueError(f"{path} is a directory, and no image file")
    elif os.path.exists(path):  # a pipe: opening it would wait for somebody to write
        raise ValueError(f"{path} is no plain file")
    else:
        raise ValueError(f"no image file at {path}")


def upright_rgb(image: Image.Image, side: int, filter: Image.Resampling) -> Image.Image:
    """Return a picture as its EXIF orientation says, as RGB of 8 bits, transparency over white.

    A large one is resized on the way, as `filter` does, so that its shorter side has `side` pixels.
    """
    image.load()
    orientation = _orientation(image)
    image = _middle(image)
    rgb = _flat_rgb(image) if _pixels(image) <= WHOLE else _resized(image, side, filter)
    if orientation == 1:
        return rgb
    rgb.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(rgb)


def _read(content: bytes, name: str, use: Callable[[Image.Image], Found]) -> Found:
    if not content:
        raise ValueError(f"{name} is empty")
    return _opened(BytesIO(content), name, use)


def _opened(source: Path | BytesIO, name: str | Path, use: Callable[[Image.Image], Found]) -> Found:
    """Return what `use` does of a picture of which the start was read."""
    _ignore_warnings_of_pillow()
    try:
        with Image.open(source, formats=_formats()) as image:
            return use(image)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{name} {_what_it_is(source)}") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ValueError(
            f"{name} has more than {most} million pixels, which are not opened: make it smaller"
        ) from None
    except PermissionError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None
    except Exception as error:  # damaged bytes make its readers raise nearly anything
        raise ValueError(f"{name} is damaged or truncated: {error}") from None


def _decoded(image: Image.Image, side: int, filter: Image.Resampling) -> Image.Image:
    if _pixels(image) > WHOLE:
        image.draft(None, (SPARE * side, SPARE * side))
    return upright_rgb(image, side, filter)


def _ignore_warnings_of_pillow() -> None:
    """Let Pillow's modules warn of nothing: of many pixels, of odd metadata.

    For good, and by a filter that is added where it is missing: `warnings.catch_warnings` puts back
    what another thread has changed, and pictures are read by many threads at once.
    """
    if not any(row[0] == "ignore" and row[3] == _OF_PILLOW for row in warnings.filters):
        warnings.filterwarnings("ignore", module=_OF_PILLOW.pattern)


def _formats() -> list[str]:
    """Return those of FORMATS that this Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _what_it_is(source: Path | BytesIO) -> str:
    if isinstance(source, Path):
        with source.open("rb") as file:
            start = file.read(12)
    else:
        start = source.getvalue()[:12]
    if start[4:8] == b"ftyp" and start[8:] in HEIC:
        return "is a HEIC picture, which Pillow cannot read: save it as JPEG or PNG"
    return "is no image that Pillow can read (JPEG, PNG, WebP, ...)"


def _pixels(image: Image.Image) -> int:
    return image.width * image.height


def _orientation(image: Image.Image) -> int:
    """Return what EXIF says; 1, upright, where it says nothing that can be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a picture may be whole beside damaged metadata
        return 1
    return found if found in range(1, 9) else 1


def _middle(image: Image.Image) -> Image.Image:
    """Cut the ends off a very long picture: the square that a network sees is from its middle.

    As many pixels at either end, an even multiple of the width, so that what is left is resized
    and cropped at the same places.
    """
    short, long = sorted(image.size)
    if long <= LONG * short:
        return image
    cut = 2 * short * ((long - MIDDLE * short) // (4 * short))
    across, down = (cut, 0) if image.width > image.height else (0, cut)
    return image.crop((across, down, image.width - across, image.height - down))


def _resized(image: Image.Image, side: int, filter: Image.Resampling) -> Image.Image:
    """Resize so that the shorter side has `side` pixels, as Pillow does: all rows, then columns."""
    width, height = image.size
    short, long = min(image.size), int(side * max(image.size) / min(image.size))
    new_width, new_height = (side, long) if width == short else (long, side)
    narrow = Image.new("RGB", (new_width, height))
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = _flat_rgb(image.crop((0, top, width, min(height, top + rows))))
        narrow.paste(strip.resize((new_width, strip.height), filter), (0, top))
    return narrow.resize((new_width, new_height), filter)


def _flat_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode.startswith("I"):  # Pillow would clip 16-bit greys at 255
        image = image.convert("I").point(lambda grey: grey / 257).convert("L")
    return image if image.mode == "RGB" else image.convert("RGB")
