"""From a photograph to the tensor that a network was trained on."""

from os import PathLike
from pathlib import Path
from typing import Literal

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

Channels = tuple[float, float, float]  # red, green, blue


class Preprocessing(BaseModel):
    """What is done to an image before a network sees it. Sizes in pixels, mean and std of [0, 1].

    The shorter side becomes `resize` pixels (antialiased), the middle `crop` x `crop` is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: PositiveInt
    crop: PositiveInt
    interpolation: Literal["bilinear", "bicubic"]
    mean: Channels
    std: Channels

    def apply(self, image: str | PathLike[str] | Image.Image) -> Tensor:
        """Return (1, 3, crop, crop) in float32. Raises ValueError for what is no whole image."""
        pixels = _upright_rgb(image) if isinstance(image, Image.Image) else _read(Path(image))
        return self._transform(pixels).unsqueeze(0)

    def for_side(self, side: int) -> "Preprocessing":
        """Return the same for a network that takes `side` pixels: both sizes are scaled."""
        return self.model_copy(
            update={"resize": round(self.resize * side / self.crop), "crop": side}
        )

    @property
    def _transform(self) -> v2.Compose:
        return v2.Compose(
            [
                v2.Resize(self.resize, InterpolationMode(self.interpolation), antialias=True),
                v2.CenterCrop(self.crop),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(self.mean), list(self.std)),
            ]
        )


def imagenet_preprocessing(resolution: int = 224) -> Preprocessing:
    """Return what ImageNet networks are usually tested with: 7/8 of the shorter side, centred."""
    return Preprocessing(
        resize=round(resolution * 256 / 224),
        crop=resolution,
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def _read(path: Path) -> Image.Image:
    if not path.is_file():
        raise ValueError(f"no image file at {path}")
    try:
        with Image.open(path) as image:
            return _upright_rgb(image)
    except UnidentifiedImageError:
        raise ValueError(
            f"{path} is no image that Pillow can read (JPEG, PNG, WebP, ...)"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is damaged or truncated: {error}") from None


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Turn as the EXIF orientation says, lay transparency over white, make 8 bits of 16."""
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode.startswith("I"):  # Pillow would clip 16-bit greys at 255
        image = image.convert("I").point(lambda grey: grey / 257).convert("L")
    return image.convert("RGB")
