"""Images that a network is calibrated on: checked, resized, and as many at once as memory holds."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depthwise.graph import Graph, Output, Shape

BATCH = 64  # images at once, where memory holds them
BATCH_BYTES = 1 << 30  # what the values of a batch may take


def as_tensor(graph: Graph, images: np.ndarray | Tensor) -> Tensor:
    """Return the images that a network is calibrated on as a tensor (N, ...), channels last.

    Raises:
        ValueError: The network takes several inputs, or none of float32; or the images are of
            another shape or type, no numbers, or none at all.
    """
    if len(graph.inputs) != 1:
        raise ValueError(
            f"the network takes {len(graph.inputs)} inputs ({', '.join(graph.inputs)}): one that "
            "is calibrated takes images alone"
        )
    (wanted,) = graph.inputs.values()
    if wanted.dtype != "float32":
        raise ValueError(f"the network takes {wanted.dtype}: one that is calibrated takes float32")
    found = torch.as_tensor(images)
    if found.ndim != len(wanted.shape) or tuple(found.shape[1:]) != wanted.shape[1:]:
        taken = ", ".join(map(str, wanted.shape[1:]))
        raise ValueError(
            f"the images have shape {tuple(found.shape)}: the network takes (N, {taken})"
        )
    if found.dtype != torch.float32:
        raise ValueError(
            f"the images are {found.dtype}: float32 is taken, prepared as for the network"
        )
    if not len(found):
        raise ValueError("there are no images: some hundred are needed")
    if not found.isfinite().all():
        raise ValueError("the images hold infinite numbers or no numbers: leave these out")
    last = torch.channels_last if found.ndim == 4 else torch.contiguous_format
    return found.contiguous(memory_format=last)


def resized_for(graph: Graph, images: Tensor) -> Tensor:
    """Return images (N, C, H, W) of the size that a graph takes: it may have a lower resolution."""
    return resized(images, next(iter(graph.inputs.values())).shape[2:])


def resized(images: Tensor, side: Shape) -> Tensor:
    """Return images or maps (N, C, H, W) with as many rows and columns as `side` says."""
    if tuple(images.shape[2:]) == side:
        return images
    return F.interpolate(images, side, mode="bilinear", antialias=True)


def held_out(count: int, every: int) -> Tensor:
    """Return which of some images are held out, (count) of bool: the last of each `every`."""
    return torch.arange(count) % every == every - 1


def batch_size(graph: Graph) -> int:
    """Return how many images go through a network at once while every value is kept."""
    one = 2 * sum(node.type.bytes for node in graph)  # and a gradient of each
    return max(1, min(BATCH, BATCH_BYTES // max(1, one)))


def returning(graph: Graph, values: Iterable[str]) -> Graph:
    """Return the network that returns a tuple of these values, and computes what they need."""
    wanted = list(values)
    needed = set(wanted)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return replace(
        graph,
        constants={name: known for name, known in graph.constants.items() if name in needed},
        nodes=tuple(node for node in graph if node.name in needed),
        outputs=tuple(Output(str(place), name) for place, name in enumerate(wanted)),
        signature=None,
    )
