"""PyTorch: an ordinary module of any graph, that can be trained.

build (`to_module`) - layers (nodes that modules of PyTorch's compute), tree (where these are) -
rules, and by them weighted, pooling, elementwise, moving, recurrent (all others, as functions),
unknown (operators that the graph does not know, as PyTorch has them) - axes, axes_rules, regroup
(which sizes follow from those of the images) - schedule, network (how it is computed).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from depthwise.graph.graph import Graph


def to_module(graph: "Graph") -> "nn.Module":
    """Return an ordinary module of PyTorch's that computes a graph: see `build.to_module`."""
    from depthwise.graph.exporters.torch.build import to_module  # noqa: PLC0415

    return to_module(graph)


def with_weights_of(graph: "Graph", net: "nn.Module") -> "Graph":
    """Return a graph with the weights that a module which was made of it has by now."""
    state = net.state_dict()
    missing = [n for n, known in graph.constants.items() if known.trainable and n not in state]
    assert not missing, f"{missing[0]} is no weight of the module: it was made of another graph"
    constants = {
        name: replace(known, data=known.type.element.encode(state[name].numpy(force=True)))
        if name in state else known
        for name, known in graph.constants.items()
    }  # fmt: skip
    return replace(graph, constants=constants)


__all__ = ["to_module", "with_weights_of"]
