"""Weights that are to stay as they are: parameters of a module with requires_grad=False.

A graph does not know of them, so they are asked of the module that it was captured from.
"""

from depthwise.graph import ops
from depthwise.sources.source import Source, TorchSource


def frozen_weights(source: Source) -> frozenset[str]:
    """Return the constants of a network that are not to be changed.

    With a normalisation's parameters its statistics are frozen, too. Raises ValueError where no
    convolution or linear layer is left that may be changed.
    """
    net = source.exported if isinstance(source, TorchSource) else None
    if net is None:
        return frozenset()
    named = net.named_parameters(remove_duplicate=False)
    parameters = {name for name, known in named if not known.requires_grad}
    graph = source.runnable
    found = parameters & graph.constants.keys()
    for node in graph:
        if isinstance(node.op, ops.BatchNorm) and not found.isdisjoint(node.inputs):
            found |= graph.constants.keys() & set(node.inputs[1:])
    layers = [node for node in graph if isinstance(node.op, ops.Convolution)]
    if layers and all(node.inputs[1] in found for node in layers):
        raise ValueError(
            f"all {len(layers)} layers of {source.name} are frozen (requires_grad=False), and "
            "frozen layers are left alone: call net.requires_grad_(True) to have it slimmed"
        )
    return frozenset(found)
