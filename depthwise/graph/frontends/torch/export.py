"""A PyTorch network as an exported program; the network itself stays as it was."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from depthwise.graph.frontends.torch.arguments import ExportArguments, bind_arguments
from depthwise.graph.frontends.torch.assigned import following_assignments
from depthwise.graph.frontends.torch.constants import constant_reads, handing, reads_numbers
from depthwise.graph.frontends.torch.exported import without_unread
from depthwise.graph.frontends.torch.failure import assigns_weights, explain
from depthwise.graph.frontends.torch.normalizing import normalizing_by_arithmetic
from depthwise.graph.frontends.torch.preserve import changes_with_mode, evaluating
from depthwise.graph.frontends.torch.quiet import quiet
from depthwise.graph.frontends.torch.stand_ins import examples
from depthwise.graph.frontends.torch.torchscript import name_inner_modules, without_torchscript
from depthwise.graph.frontends.torch.until import Shortened
from depthwise.graph.graph import NO_KWARGS, Shape


def export(
    net: nn.Module, shapes: Sequence[Shape], kwargs: Mapping[str, Any] = NO_KWARGS
) -> ExportedProgram:
    """Export `net` in evaluation mode; raises ValueError or Unsupported naming the module."""
    return export_with(net, bind_arguments(net, shapes, kwargs))


def export_with(net: nn.Module, arguments: ExportArguments) -> ExportedProgram:
    """Export `net` as `export` does, with arguments that it takes."""
    if not arguments.shapes:
        raise ValueError("no input shape: give one such as (1, 3, 224, 224) for each input")
    _check_built(net)
    with without_torchscript(net) as plain:
        return _export_or_explain(plain, arguments)


def _export_or_explain(net: nn.Module, arguments: ExportArguments) -> ExportedProgram:
    inputs = examples(net, arguments)
    try:
        program = _export(net, arguments, inputs)
    except Exception as error:
        other = _follow_assignments if assigns_weights(error) else _hand_constants
        program = other(net, arguments, inputs)
        if program is None:
            # the network as it was before, whatever export left in it
            with evaluating(net), quiet(), normalizing_by_arithmetic():
                raise explain(error, net, inputs, arguments) from error
        return program
    handed = _hand_constants(net, arguments, inputs) if reads_numbers(program) else None
    return handed or program


def _follow_assignments(
    net: nn.Module, arguments: ExportArguments, inputs: Sequence[Any]
) -> ExportedProgram | None:
    with suppress(Exception), following_assignments(net):
        return _export(net, arguments, inputs)
    return None


def _hand_constants(
    net: nn.Module, arguments: ExportArguments, inputs: Sequence[Any]
) -> ExportedProgram | None:
    with suppress(Exception):
        with evaluating(net), quiet(), normalizing_by_arithmetic(), torch.no_grad():
            reads = constant_reads(net, inputs, arguments)
        if reads:
            with handing(reads):
                return _export(net, arguments, inputs)
    return None


def _export(net: nn.Module, arguments: ExportArguments, inputs: Sequence[Any]) -> ExportedProgram:
    with evaluating(net), quiet(), normalizing_by_arithmetic(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # export's advice on its own internals
        program = torch.export.export(net, *arguments.filled(inputs))
        name_inner_modules(program, net)
        if changes_with_mode(net):
            _give_own_tensors(program)
        return without_unread(program) if isinstance(net, Shortened) else program


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
