"""How images become what a network takes: as its weights record, else as fits them best.

Weights that record nothing were trained on images that were prepared somehow. What a network's
BatchNorms remember of them tells how: the right way gives each channel the mean and the variance
that it had in training. No labels are needed.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from depthwise.graph import Graph
from depthwise.graph.exporters.torch import to_module
from depthwise.training.data.dataset import ImageSource
from depthwise.training.data.decode import decode_framed, shorter_side
from depthwise.weights import Preprocessing, WeightsRecord, imagenet_preprocessing

TRIED = 32  # images that a network is given in each way; pixels are measured on all
LEAST_DEVIATION = 0.01  # that pixels are divided by
UNLIKE = 1e-5  # of a variance: a channel that was always the same


class Framed:
    """Images of another source, as a network sees them, before it normalises."""

    def __init__(self, images: ImageSource, how: Preprocessing):
        self._images, self._how = images, how

    def __len__(self) -> int:
        """How many there are."""
        return len(self._images)

    def name(self, index: int) -> str:
        """What messages call an image."""
        return self._images.name(index)

    def read(self, index: int) -> np.ndarray:
        """Return pixels of uint8, (S, S, 3)."""
        content = self._images.read(index)
        return decode_framed(content, self.name(index), self._how).transpose(1, 2, 0)


def has_border(how: Preprocessing) -> bool:
    """Tell whether images get a black border: they are resized to less than a network takes."""
    return how.resize < how.crop


def in_words(how: Preprocessing) -> str:
    """Return how images are prepared."""
    size = f"resized to {how.resize}"
    size += f" pixels, a black border up to {how.crop}" if has_border(how) else " pixels"
    mean, std = (", ".join(f"{x:.3f}" for x in each) for each in (how.mean, how.std))
    return f"{size}, less {mean}, divided by {std}"


def choose_framing(
    graph: Graph, known: WeightsRecord | None, images: Sequence[tuple[bytes | np.ndarray, str]]
) -> tuple[Preprocessing, tuple[str, ...]]:
    """Return how images are to be prepared for a network, and a note where it was found out.

    Args:
        graph: The network.
        known: What its weights record, if anything.
        images: Some images, each with its name.
    """
    side = next(iter(graph.inputs.values())).shape[-1]
    if known is not None:
        return known.preprocessing.for_side(side), ()
    tried = list(_to_try(side, images))
    unlike = _Mismatch(graph)
    if not unlike.measures:
        usual = tried[0][0]
        said = f"{in_words(usual)}, as usual"
        return usual, (f"its weights do not record how images are prepared: {said}",)
    found = [
        (unlike(how.normalised(torch.from_numpy(pixels[:TRIED]))), place)
        for place, (how, pixels) in enumerate(tried)
    ]
    best = tried[min(found)[1]][0]
    said = f"{in_words(best)} fits its BatchNorms best"
    note = f"its weights do not record how images are prepared: {said}"
    return best, (note,)


def _to_try(
    side: int, images: Sequence[tuple[bytes | np.ndarray, str]]
) -> Iterator[tuple[Preprocessing, np.ndarray]]:
    """Yield ways to prepare images, with their pixels: ImageNet's first, then as these are.

    Where images are smaller than the network takes them, one way is a black border around them.
    """
    usual = imagenet_preprocessing(side)
    smallest = min(shorter_side(*image) for image in images)
    sizes = [usual.resize, side, *([smallest] if smallest < side else [])]
    for resize in sizes:
        how = usual.model_copy(update={"resize": resize})
        pixels = np.stack([decode_framed(*image, how) for image in images])
        yield how, pixels
        x = pixels / 255
        mean, std = x.mean((0, 2, 3)), np.maximum(x.std((0, 2, 3)), LEAST_DEVIATION)
        for own_mean, own_std in ((mean, std), ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3)):
            update = {"mean": tuple(np.round(own_mean, 4).tolist()),
                      "std": tuple(np.round(own_std, 4).tolist())}  # fmt: skip
            yield how.model_copy(update=update), pixels


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
        """Whether there are any that have seen images: not those of random weights."""
        return any(_has_seen(norm) for norm in self._norms)

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


def _has_seen(norm: nn.BatchNorm2d) -> bool:
    """Tell whether a BatchNorm remembers anything else than what it begins with."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool(norm.running_mean.any()) or bool((norm.running_var != 1).any())
