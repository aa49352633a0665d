"""Operators that the graph does not know: left as they are, named, and run by PyTorch."""

import torch

from depthwise.graph import Graph, Node, ops
from depthwise.graph.exporters.torch.axes import trace_axes
from depthwise.graph.exporters.torch.axes_rules import axes_of
from depthwise.graph.exporters.torch.unknown import drawn, unknown_function
from depthwise.report.slimming_record import Measure
from depthwise.slimming.budget import Budget

COMPILED: tuple[Measure, ...] = ("milliseconds", "arena_bytes")  # what only a library costs


def unknown_operators(graph: Graph) -> dict[str, str]:
    """Return the operators that are not known, several of a module in one text, by its path."""
    found: dict[str, list[str]] = {}
    for node in graph:
        if isinstance(node.op, ops.Opaque):
            found.setdefault(node.path or node.name, []).append(node.op.operator)
    return {path: ", ".join(dict.fromkeys(names)) for path, names in found.items()}


def check_unknown(graph: Graph, name: str, budget: Budget) -> None:
    """Raise ValueError where a network cannot be slimmed with the operators it has unknown ones of.

    Args:
        graph: The network.
        name: What it is called.
        budget: What it may cost: no library can be made of it, so no time is known.
    """
    unknown = [node for node in graph if isinstance(node.op, ops.Opaque)]
    if not unknown:
        return
    if budget.measure in COMPILED:
        raise ValueError(
            f"{name} has operators that no library computes, {said(graph)}, and a budget of "
            f"{budget} is of a library: give one of MACs, parameters or weights (50%, 3MB)"
        )
    for node in unknown:
        _check_slope(graph, node)
    _, fixed = trace_axes(graph, axes_of)
    if fixed:
        raise ValueError(
            f"{name} takes images one at a time alone, for {fixed}: it is slimmed on many at once"
        )


def said(graph: Graph) -> str:
    """Return the operators that are not known, each with its module, in a line."""
    return ", ".join(f"{names} in {path}" for path, names in unknown_operators(graph).items())


def _check_slope(graph: Graph, node: Node) -> None:
    """Raise ValueError where no gradient goes through an operator that has one.

    By gradients it is told what each layer before it matters.
    """
    assert isinstance(node.op, ops.Opaque)
    generator = torch.Generator().manual_seed(0)
    given = [drawn(graph.type(name), generator) for name in node.inputs]
    read = [
        tensor.requires_grad_() for name, tensor in zip(node.inputs, given, strict=True)
        if tensor.is_floating_point() and name not in graph.constants
    ]  # fmt: skip
    if not read or not node.type.element.is_floating:
        return
    try:
        torch.autograd.grad(unknown_function(node.op)(*given).sum(), read)
    except RuntimeError as error:
        raise ValueError(
            f"operator {node.op.operator} in {node.path or 'the network itself'} gives no "
            f"gradients ({str(error).splitlines()[0]}), by which it is told what the layers before "
            "it matter: give it a backward, or slim the part of the network before it"
        ) from None
