"""Images made of nothing but what a network's BatchNorms remember of those it was trained on.

Their channels get the means and variances that the statistics hold, their neighbouring pixels are
alike, and the network is sure of some class of each (Yin et al., DeepInversion, arXiv:1912.08795,
section 3). They stand for images where there are none: what no BatchNorm has seen is not in them.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.calibration.images import batch_size, returning
from depthwise.calibration.scores import scores_of
from depthwise.graph import Graph, Node, ops
from depthwise.progress import report_progress

BATCH = 64  # images that have the statistics together
RATE = 0.1  # of Adam
LEAST = 20  # steps of a batch, however short the time
SMOOTH = 1e-3  # what differences of neighbouring pixels count
SURE = 0.05  # what a class counts
JITTER = 16  # of the side, the farthest that images are rolled in a step


def synthesise(graph: Graph, count: int, seconds: float, seed: int = 0) -> np.ndarray:
    """Return images that have the statistics of a network's BatchNorms: (count, C, H, W), float32.

    They are prepared as the network takes them. Every batch gets its share of the time.

    Args:
        graph: The network, whose BatchNorms are apart.
        count: How many images.
        seconds: What all of it may take, about.
        seed: Of what is drawn.

    Raises:
        ValueError: The network has no BatchNorm with statistics, takes no images of float32 alone,
            or none are wanted.
    """
    if count < 1:
        raise ValueError(f"{count} images are wanted: one at least")
    work = _Synthesis.of(graph)
    generator = torch.Generator().manual_seed(seed)
    sizes = [len(part) for part in torch.arange(count).split(work.batch)]
    found = []
    with report_progress("synthesising images", count, seconds) as advance:
        for size in sizes:
            found.append(work.images(size, seconds * size / count, generator))
            advance(size)
    return torch.cat(found).numpy()


@dataclass(frozen=True, eq=False)
class Remembered:
    """The statistics of one BatchNorm, (C) each."""

    mean: Tensor
    variance: Tensor

    def distance(self, x: Tensor) -> Tensor:
        """Return how far images' statistics are from these, as shares of the deviations."""
        variance, mean = torch.var_mean(x, (0, *range(2, x.ndim)), correction=0)
        scale = self.variance + 1e-5
        return ((mean - self.mean).square() / scale + (variance / scale - 1).square()).mean()


@dataclass(frozen=True, eq=False)
class _Synthesis:
    """A network that tells what its BatchNorms read, and its scores where it has any."""

    net: nn.Module
    shape: tuple[int, ...]
    remembered: tuple[Remembered, ...]
    has_scores: bool
    batch: int

    @classmethod
    def of(cls, graph: Graph) -> "_Synthesis":
        from depthwise.graph.exporters.torch import to_module  # noqa: PLC0415

        types = list(graph.inputs.values())
        if len(types) != 1 or len(types[0].shape) != 4 or types[0].dtype != "float32":
            found = " and ".join(map(str, types))
            raise ValueError(f"the network takes {found}: images of float32 are synthesised alone")
        norms = [node for node in graph if _has_statistics(graph, node)]
        if not norms:
            raise ValueError(
                "the network has no BatchNorm, whose statistics images could be made of: give "
                "images of its kind, some hundred without labels"
            )
        try:
            scores = [scores_of(graph)]
        except ValueError:
            scores = []
        net = to_module(returning(graph, [*(node.inputs[0] for node in norms), *scores]))
        remembered = tuple(
            Remembered(*(torch.tensor(graph.constants[name].numbers) for name in node.inputs[3:]))
            for node in norms
        )
        batch = min(BATCH, batch_size(graph))
        return cls(
            net.eval().requires_grad_(False), types[0].shape, remembered, bool(scores), batch
        )

    def images(self, count: int, seconds: float, generator: torch.Generator) -> Tensor:
        """Return a batch of images, made in this time."""
        x = torch.randn((count, *self.shape[1:]), generator=generator).requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=RATE)
        start, done, step = time.perf_counter(), 0.0, 0
        classes: Tensor | None = None
        while step < LEAST or done < 1:
            *read, last = self.net(_rolled(x, generator))
            read = read if self.has_scores else [*read, last]
            loss = sum(
                (known.distance(each) for known, each in zip(self.remembered, read, strict=True)),
                torch.zeros(()),
            ) / len(read)
            if self.has_scores:
                if classes is None:
                    classes = torch.randint(last.shape[1], (count,), generator=generator)
                loss = loss + SURE * F.cross_entropy(last.flatten(1), classes)
            loss = loss + SMOOTH * _roughness(x)
            optimizer.zero_grad()
            loss.backward()
            step += 1
            done = max((time.perf_counter() - start) / max(seconds, 1e-9), 0.0)
            optimizer.param_groups[0]["lr"] = RATE * (1 - min(done, 1.0)) + 1e-3
            optimizer.step()
        return x.detach()


def _has_statistics(graph: Graph, node: Node) -> bool:
    known = isinstance(node.op, ops.BatchNorm) and node.inputs[0] not in graph.constants
    return known and all(name in graph.constants for name in node.inputs[3:])


def _rolled(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return images a little to the side, and half of the times mirrored."""
    reach = max(1, min(x.shape[2:]) // JITTER)
    down, right, mirrored = torch.randint(-reach, reach + 1, (3,), generator=generator).tolist()
    rolled = x.roll((down, right), (2, 3))
    return rolled.flip(3) if mirrored > 0 else rolled


def _roughness(x: Tensor) -> Tensor:
    """Return the mean square of the differences of neighbouring pixels."""
    return (x.diff(dim=2).square().mean() + x.diff(dim=3).square().mean()) / 2
