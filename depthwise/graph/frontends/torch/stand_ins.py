"""A network run on inputs of which the shapes alone are known: no memory, nothing computed."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

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

    It raises whatever the network does. The network's own tensors are read and never written.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, _Unwritten(mode), observer:
        arguments.call(net, (_stand_in(x, mode) for x in inputs))


class _Unwritten(TorchDispatchMode):
    """Lets operators write into stand-ins in the place of tensors that have elements."""

    def __init__(self, mode: FakeTensorMode):
        super().__init__()
        self._mode = mode

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        """Give an operator that writes stand-ins alone."""
        given = args, kwargs or {}
        if func._schema.is_mutable:
            given = pytree.tree_map_only(Tensor, self._mode.from_tensor, given)
        return func(*given[0], **given[1])


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
