"""From a PyTorch network to a graph, by torch.export."""

from collections.abc import Sequence

from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from depthwise.errors import Unsupported
from depthwise.graph.frontends.torch.aten import RULES
from depthwise.graph.frontends.torch.export import export
from depthwise.graph.frontends.torch.importer import Importer
from depthwise.graph.frontends.torch.outputs import check_structure
from depthwise.graph.frontends.torch.tensors import type_of
from depthwise.graph.graph import Graph, Shape
from depthwise.graph.supported import supported

Network = nn.Module | ExportedProgram


def capture(net: Network, *shapes: Shape) -> Graph:
    """Return the graph of `net` in evaluation mode for inputs of `shapes`, one (N, C, H, W) each.

    Works on the meta device too, where constants have no data. An ExportedProgram brings its own
    shapes. The network is not changed.
    Raises Unsupported for an operator that we do not know, ValueError for shapes that do not fit.
    """
    importer = _import(net, shapes)
    if importer.impure:
        raise Unsupported(importer.impure[0])
    check_structure(importer.program)
    return supported(importer.graph, RULES, importer.called)


def trace(net: Network, *shapes: Shape) -> Graph:
    """Return the graph as `capture` does, with operators that we do not know as Opaque nodes.

    It may be no function of its inputs: random draws are Opaque, dropout passes its input on.
    """
    return _import(net, shapes).graph


def _import(net: Network, shapes: Sequence[Shape]) -> Importer:
    program = net if isinstance(net, ExportedProgram) else export(net, shapes)
    input_shapes(program, shapes)
    return Importer(program)


def input_shapes(program: ExportedProgram, asked: Sequence[Shape] = ()) -> tuple[Shape, ...]:
    """Return the shapes of a program's inputs. Raises ValueError where others are asked for."""
    named = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    specs = program.graph_signature.input_specs
    users = [named[s.arg.name] for s in specs if s.kind == InputKind.USER_INPUT]
    found = tuple(type_of(node.meta["val"], node.name).shape for node in users)
    if asked and tuple(map(tuple, asked)) != found:
        raise ValueError(f"shapes {asked}: this program was exported for inputs of {found}")
    return found
