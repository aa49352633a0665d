"""From a PyTorch network to a graph, by torch.export."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from depthwise.errors import Unsupported
from depthwise.graph.frontends.torch.arguments import ExportArguments, arguments_of
from depthwise.graph.frontends.torch.aten import RULES
from depthwise.graph.frontends.torch.export import export
from depthwise.graph.frontends.torch.functional import rewritten
from depthwise.graph.frontends.torch.importer import Importer
from depthwise.graph.frontends.torch.memory import WrittenView
from depthwise.graph.frontends.torch.signature import signature_of
from depthwise.graph.graph import NO_KWARGS, Graph, Shape
from depthwise.graph.supported import supported

Network = nn.Module | ExportedProgram


def capture(
    net: Network, *shapes: Shape, kwargs: Mapping[str, Any] = NO_KWARGS, unknown: bool = False
) -> Graph:
    """Return the graph of `net` in evaluation mode for inputs of `shapes`, one (N, C, H, W) each.

    `kwargs` are those of arguments that are given by name; see `ExportArguments`. `unknown` lets
    operators that we do not know be Opaque nodes, where PyTorch can be called with them.

    Works on the meta device too, where constants have no data. An ExportedProgram brings its own
    shapes. The network is not changed.
    Raises Unsupported for an operator that we do not know, ValueError for shapes that do not fit.
    """
    importer = _import(net, shapes, kwargs)
    if importer.impure:
        raise Unsupported(importer.impure[0])
    graph = importer.graph
    signature = signature_of(importer.program, graph.outputs)
    return supported(replace(graph, signature=signature), RULES, importer.called, unknown)


def trace(net: Network, *shapes: Shape, kwargs: Mapping[str, Any] = NO_KWARGS) -> Graph:
    """Return the graph as `capture` does, with operators that we do not know as Opaque nodes.

    It may be no function of its inputs: random draws are Opaque, dropout passes its input on.
    """
    return _import(net, shapes, kwargs).graph


def _import(net: Network, shapes: Sequence[Shape], kwargs: Mapping[str, Any]) -> Importer:
    if isinstance(net, ExportedProgram):
        check_arguments(net, shapes, kwargs)
    program = net if isinstance(net, ExportedProgram) else export(net, shapes, kwargs)
    try:
        return Importer(program)
    except WrittenView as error:
        return Importer(rewritten(program, error))


def check_arguments(
    program: ExportedProgram, shapes: Sequence[Shape] = (), kwargs: Mapping[str, Any] = NO_KWARGS
) -> ExportArguments:
    """Return a program's arguments. Raises ValueError where others are asked for."""
    found = arguments_of(program)
    asked = ExportArguments(tuple(shapes), kwargs)
    if (shapes or kwargs) and asked.shapes != found.shapes:
        raise ValueError(
            f"shapes {asked.shapes}: this program was exported for inputs of {found.shapes}"
        )
    for dtype, own in zip(asked.dtypes, found.dtypes, strict=False):
        if dtype not in (None, own):
            raise ValueError(f"an input of {dtype}: this program was exported for one of {own}")
    return found
