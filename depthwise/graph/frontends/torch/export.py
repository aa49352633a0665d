"""A PyTorch network as an exported program; the network itself stays as it was."""

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram

from depthwise.graph.frontends.torch.arguments import ExportArguments, bind_arguments
from depthwise.graph.frontends.torch.failure import explain, quiet
from depthwise.graph.frontends.torch.normalizing import normalizing_by_arithmetic
from depthwise.graph.frontends.torch.preserve import changes_with_mode, evaluating
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
    first = next(net.parameters(), torch.empty(0))
    pairs = zip(arguments.shapes, arguments.dtypes, strict=True)
    inputs = tuple(_example(shape, dtype or first.dtype, first.device) for shape, dtype in pairs)
    try:
        with evaluating(net), quiet(), normalizing_by_arithmetic(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # export's advice on its own internals
            program = torch.export.export(net, *arguments.filled(inputs))
            if changes_with_mode(net):
                _give_own_tensors(program)
            return program
    except Exception as error:
        # the network as it was before, whatever export left in it
        with evaluating(net), quiet(), normalizing_by_arithmetic():
            raise explain(error, net, inputs, arguments) from error


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


def _example(shape: Shape, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return an input to export with; it is never read, so that no memory may back it."""
    kind = {"device": device, "dtype": dtype}
    try:
        return torch.empty(shape, **kind)
    except (RuntimeError, TypeError):  # more bytes than there are, or no sizes of anything
        with FakeTensorMode():
            try:
                return torch.empty(shape, **kind)
            except (RuntimeError, TypeError) as error:
                reason = str(error).partition("\n")[0]
                raise ValueError(f"input shape {tuple(shape)}: {reason}") from None
