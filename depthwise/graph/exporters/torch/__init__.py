"""PyTorch: an ordinary module of any graph, that can be trained.

build (`to_module`) - layers (nodes that modules of PyTorch's compute), tree (where these are) -
rules, and by them weighted, pooling, elementwise, moving, recurrent (all others, as functions) -
axes, axes_rules, regroup (which sizes follow from those of the images) - schedule, network (how it
is computed).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from depthwise.graph.graph import Graph


def to_module(graph: "Graph") -> "nn.Module":
    """Return an ordinary module of PyTorch's that computes a graph: see `build.to_module`."""
    from depthwise.graph.exporters.torch.build import to_module  # noqa: PLC0415

    return to_module(graph)


__all__ = ["to_module"]
