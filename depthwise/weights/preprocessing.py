"""From a photograph to the tensor that a network was trained on."""

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from depthwise.weights.pictures import open_picture, upright_rgb

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
        if isinstance(image, Image.Image):
            pixels = upright_rgb(image, self.resize, self.filter)
        else:
            pixels = open_picture(Path(image), self.resize, self.filter)
        return self.normalised(self.framed(pixels).unsqueeze(0))

    def framed(self, image: Image.Image) -> Tensor:
        """Return what a network sees of an upright RGB image, in pixels: uint8, (3, crop, crop)."""
        mode = InterpolationMode(self.interpolation)
        frame = v2.Compose([v2.Resize(self.resize, mode, antialias=True), v2.CenterCrop(self.crop)])
        return F.pil_to_tensor(frame(image))

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return pixels, uint8 (N, 3, crop, crop), as a network takes them: float32."""
        return F.normalize(F.to_dtype(pixels, scale=True), list(self.mean), list(self.std))

    @property
    def framing(self) -> "Preprocessing":
        """The same without normalising: two that are alike in it see the same pixels."""
        return self.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})

    @property
    def filter(self) -> Image.Resampling:
        """How Pillow resizes."""
        return Image.Resampling[self.interpolation.upper()]

    def apply_each(
        self, images: Iterable[str | PathLike[str]]
    ) -> Iterator[tuple[Path, Tensor | ValueError]]:
        """Yield each path with what `apply` returns, or with the error of one that is no image."""
        for path in map(Path, images):
            try:
                yield path, self.apply(path)
            except ValueError as error:
                yield path, error

    def for_side(self, side: int) -> "Preprocessing":
        """Return the same for a network that takes `side` pixels: both sizes are scaled."""
        return self.model_copy(
            update={"resize": round(self.resize * side / self.crop), "crop": side}
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
