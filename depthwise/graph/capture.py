"""From a PyTorch network to a graph, by torch.export."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from depthwise.graph.failure import explain, quiet, supported
from depthwise.graph.graph import Graph, Shape, Unsupported
from depthwise.graph.importer import Importer
from depthwise.graph.outputs import check_structure
from depthwise.graph.preserve import changes_with_mode, evaluating
from depthwise.graph.tensors import type_of

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
    return supported(importer.graph)


def trace(net: Network, *shapes: Shape) -> Graph:
    """Return the graph as `capture` does, with operators that we do not know as Opaque nodes.

    It may be no function of its inputs: random draws are Opaque, dropout passes its input on.
    """
    return _import(net, shapes).graph


def _import(net: Network, shapes: Sequence[Shape]) -> Importer:
    program = net if isinstance(net, ExportedProgram) else export(net, shapes)
    given = _input_shapes(program)
    if shapes and tuple(map(tuple, shapes)) != given:
        raise ValueError(f"shapes {shapes}: this program was exported for inputs of {given}")
    return Importer(program)


def export(net: nn.Module, shapes: Sequence[Shape]) -> ExportedProgram:
    """Export `net` in evaluation mode; raises ValueError or Unsupported naming the module."""
    if not shapes:
        raise ValueError("no input shape: give one such as (1, 3, 224, 224) for each input")
    _check_built(net)
    first = next(net.parameters(), torch.empty(0))
    inputs = tuple(_example(shape, first) for shape in shapes)
    try:
        with evaluating(net), quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # export's advice on its own internals
            program = torch.export.export(net, inputs)
            if changes_with_mode(net):
                _give_own_tensors(program)
            return program
    except Exception as error:
        with evaluating(net), quiet():  # as it was before, whatever export left in it
            raise explain(error, net, inputs) from error


def _give_own_tensors(program: ExportedProgram) -> None:
    """Let a program keep the weights of evaluation when the network's own are put back."""
    copies: dict[int, Any] = {}  # by which what was one tensor, or one memory, stays one
    for tensors in (program.state_dict, program.constants):
        for name, tensor in tensors.items():
            if isinstance(tensor, torch.Tensor):
                tensors[name] = deepcopy(tensor, copies)


def _check_built(net: nn.Module) -> None:
    """Raise ValueError where a module waits for its first input to know its weights' shapes."""
    tensors = (*net.named_parameters(), *net.named_buffers())
    lazy = next((name for name, tensor in tensors if nn.parameter.is_lazy(tensor)), None)
    if lazy:
        raise ValueError(
            f"{lazy} has no shape yet, for its module is built at its first input: run the network "
            "once on an input of the shape that it is for"
        )


def _example(shape: Shape, like: torch.Tensor) -> torch.Tensor:
    """Return an input to export with; it is never read, so that no memory may back it."""
    kind = {"device": like.device, "dtype": like.dtype}
    try:
        return torch.empty(shape, **kind)
    except (RuntimeError, TypeError):  # more bytes than there are, or no sizes of anything
        with FakeTensorMode():
            try:
                return torch.empty(shape, **kind)
            except (RuntimeError, TypeError) as error:
                reason = str(error).partition("\n")[0]
                raise ValueError(f"input shape {tuple(shape)}: {reason}") from None


def _input_shapes(program: ExportedProgram) -> tuple[Shape, ...]:
    named = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    specs = program.graph_signature.input_specs
    users = [named[s.arg.name] for s in specs if s.kind == InputKind.USER_INPUT]
    return tuple(type_of(node.meta["val"], node.name).shape for node in users)
