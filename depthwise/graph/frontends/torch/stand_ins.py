"""A network run on inputs of which the shapes alone are known: no memory, nothing computed."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from depthwise.graph.frontends.torch.arguments import ExportArguments
from depthwise.graph.graph import Shape

NOBODY = nullcontext()


def examples(net: nn.Module, arguments: ExportArguments) -> tuple[Tensor, ...]:
    """Return inputs to export a network with; they are never read.

    Raises ValueError for shapes that no tensor has.
    """
    first = next(net.parameters(), torch.empty(0))
    pairs = zip(arguments.shapes, arguments.dtypes, strict=True)
    return tuple(_example(shape, dtype or first.dtype, first.device) for shape, dtype in pairs)


def run_on_shapes(
    net: nn.Module, inputs: Sequence[Tensor], arguments: ExportArguments,
    observer: AbstractContextManager = NOBODY,
) -> None:  # fmt: skip
    """Run a network on stand-ins for its inputs, in a mode of PyTorch's that sees each operator.

    It raises whatever the network does.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, observer:
        arguments.call(net, (_stand_in(x, mode) for x in inputs))


def _example(shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an input of a shape; no memory may back it."""
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


def _stand_in(x: Tensor, mode: FakeTensorMode) -> Tensor:
    """Return a tensor of x's shape for a mode; x may be one itself, of another mode."""
    if isinstance(x, FakeTensor):
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return mode.from_tensor(x)
