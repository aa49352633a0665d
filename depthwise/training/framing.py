"""How images become what a network takes: as its weights record, else as fits them best.

Weights that record nothing were trained on images that were prepared somehow. What a network's
BatchNorms remember of them tells how: the right way gives each channel the mean and the variance
that it had in training. No labels are needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from depthwise.graph import Graph
from depthwise.graph.exporters.torch import to_module
from depthwise.training.data.dataset import ImageSource
from depthwise.training.data.decode import decode_framed, shorter_side
from depthwise.weights import Preprocessing, WeightsRecord, imagenet_preprocessing
from depthwise.weights.pictures import read_picture

LEAST_DEVIATION = 0.01  # that pixels are divided by
UNLIKE = 1e-5  # of a variance: a channel that was always the same


@dataclass(frozen=True)
class Framing:
    """How an image is prepared.

    Attributes:
        how: Its size and normalisation.
        bordered: Whether an image that is smaller gets a black border, and is not enlarged.
    """

    how: Preprocessing
    bordered: bool = False

    def pixels(self, content: bytes | np.ndarray, name: str) -> np.ndarray:
        """Return what the network sees of an image, however it is stored: uint8, (3, S, S)."""
        if self.bordered:
            content = with_border(content, name, self.how.crop)
        return decode_framed(content, name, self.how)

    def prepared(self, pixels: np.ndarray) -> Tensor:
        """Return pixels (N, 3, S, S) as the network takes them."""
        return self.how.normalised(torch.from_numpy(pixels))

    def __str__(self) -> str:
        """Return it in words."""
        how = self.how
        size = f"a black border up to {how.crop}" if self.bordered else f"resized to {how.resize}"
        mean, std = (", ".join(f"{x:.3f}" for x in each) for each in (how.mean, how.std))
        return f"{size} pixels, less {mean}, divided by {std}"


class Bordered:
    """Images of another source, with a black border where they are smaller than `side` pixels."""

    def __init__(self, images: ImageSource, side: int):
        self._images, self._side = images, side

    def __len__(self) -> int:
        """How many there are."""
        return len(self._images)

    def name(self, index: int) -> str:
        """What messages call an image."""
        return self._images.name(index)

    def read(self, index: int) -> np.ndarray:
        """Return pixels of uint8, (H, W, 3)."""
        return with_border(self._images.read(index), self.name(index), self._side)


def with_border(content: bytes | np.ndarray, name: str, side: int) -> np.ndarray:
    """Return an image as (H, W, 3) of at least `side` pixels along each side."""
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content).convert("RGB")
    else:
        image = read_picture(content, name, side, Image.Resampling.BILINEAR)
    wide, high = (max(0, side - length) for length in image.size)
    border = (wide // 2, high // 2, wide - wide // 2, high - high // 2)
    return np.asarray(ImageOps.expand(image, border))


def choose_framing(
    graph: Graph, known: WeightsRecord | None, images: Sequence[tuple[bytes | np.ndarray, str]]
) -> tuple[Framing, tuple[str, ...]]:
    """Return how images are to be prepared for a network, and a note where it was found out.

    Args:
        graph: The network.
        known: What its weights record, if anything.
        images: Some images, each with its name.
    """
    side = next(iter(graph.inputs.values())).shape[-1]
    if known is not None:
        return Framing(known.preprocessing.for_side(side)), ()
    tried = list(_to_try(side, images))
    unlike = _Mismatch(graph)
    if not unlike.measures:
        usual = tried[0][0]
        return usual, (f"its weights do not record how images are prepared: {usual}, as usual",)
    found = [(unlike(framing.prepared(pixels)), place) for place, (framing, pixels)
             in enumerate(tried)]  # fmt: skip
    best = tried[min(found)[1]][0]
    note = f"its weights do not record how images are prepared: {best} fits its BatchNorms best"
    return best, (note,)


def _to_try(
    side: int, images: Sequence[tuple[bytes | np.ndarray, str]]
) -> Iterator[tuple[Framing, np.ndarray]]:
    """Yield ways to prepare images, with their pixels: ImageNet's first, then as these are."""
    usual = imagenet_preprocessing(side)
    small = min(shorter_side(*image) for image in images) < side
    whole = usual.model_copy(update={"resize": side})
    for how, bordered in ((usual, False), (whole, False), *([(whole, True)] if small else [])):
        pixels = np.stack([Framing(how, bordered).pixels(*image) for image in images])
        yield Framing(how, bordered), pixels
        x = pixels / 255
        mean, std = x.mean((0, 2, 3)), np.maximum(x.std((0, 2, 3)), LEAST_DEVIATION)
        for own_mean, own_std in ((mean, std), ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3)):
            update = {"mean": tuple(np.round(own_mean, 4).tolist()),
                      "std": tuple(np.round(own_std, 4).tolist())}  # fmt: skip
            yield Framing(how.model_copy(update=update), bordered), pixels


def mismatch(graph: Graph, images: Tensor) -> float | None:
    """Return how far images are from those that a network's BatchNorms remember.

    In nats, the mean over all channels, each up to 1: near 1 where they are prepared otherwise.
    None where there are no BatchNorms.
    """
    unlike = _Mismatch(graph)
    return unlike(images) if unlike.measures else None


class _Mismatch:
    """How far what BatchNorms read is from what they remember of their training images."""

    def __init__(self, graph: Graph):
        self._net = to_module(graph).eval()
        self._norms = [m for m in self._net.modules() if isinstance(m, nn.BatchNorm2d)]
        self._found: list[Tensor] = []
        for norm in self._norms:
            norm.register_forward_pre_hook(self._look)

    @property
    def measures(self) -> bool:
        """Whether there are any."""
        return bool(self._norms)

    def _look(self, norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        """Add the divergence of one normal distribution from the other, of each channel."""
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        variance, mean = torch.var_mean(given[0], (0, 2, 3), correction=0)
        known = norm.running_var + norm.eps
        ratio = (variance + norm.eps) / known
        apart = (mean - norm.running_mean).square() / known
        self._found.append(0.5 * (ratio - 1 - ratio.log() + apart))

    def __call__(self, images: Tensor) -> float:
        """Return the mean over all channels, in nats; each counts up to 1."""
        self._found = []
        with torch.inference_mode():
            self._net(images)
        return float(torch.cat(self._found).nan_to_num(1.0).clamp(max=1.0).mean())
