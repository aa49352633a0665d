"""Numbers that a network's code takes out of tensors, as in torch.arange(3).tolist().

Where they follow from its weights and from sizes alone they are the same in every call, which
torch.export does not know. So the network is run on shapes first, with the values of all that
depends on no input beside, and what its code reads of these is handed to it while it is exported.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from depthwise.graph.frontends.torch.arguments import ExportArguments
from depthwise.graph.frontends.torch.failure import BY_VALUES
from depthwise.graph.frontends.torch.stand_ins import run_on_shapes

NAMES = ("item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__")
READERS = {getattr(Tensor, name) for name in NAMES}
ITEMS = (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)


@dataclass(frozen=True)
class NumberRead:
    """What a function of PyTorch's gave of a tensor of a shape."""

    reader: Callable[..., Any]
    shape: tuple[int, ...]
    result: Any


def reads_numbers(program: ExportedProgram) -> bool:
    """Tell whether a program takes a number out of a tensor."""
    return any(node.target in ITEMS for node in program.graph.nodes)


def constant_reads(
    net: nn.Module, inputs: Sequence[Tensor], arguments: ExportArguments
) -> list[NumberRead]:  # fmt: skip
    """Run a network on shapes, and return what its code reads out of tensors, in order.

    Only what it reads before anything that depends on an input, which ends the run. It raises
    whatever else the network does.
    """
    known = _Known()
    with _read_as_tensors(), _Reading(known) as reading, suppress(*BY_VALUES):
        run_on_shapes(net, inputs, arguments, known)
    return reading.reads


@contextmanager
def handing(reads: Sequence[NumberRead]) -> Iterator[None]:
    """Give a network that is exported what it read before."""
    with _read_as_tensors(), _Handing(reads) as handing:
        yield
    assert next(handing.left, None) is None


class _Known(TorchDispatchMode):
    """Computes, beside a run on shapes, what depends on the network's own tensors alone."""

    def __init__(self):
        super().__init__()
        self._values: Any = WeakTensorKeyDictionary()  # stand-in -> tensor
        self._spoiled: dict[int, Tensor] = {}  # memory in which something unknown was written
        self._theirs: set[int] = set()  # memory of the network's own, which is only read

    def value(self, tensor: Tensor) -> Tensor | None:
        """Return a tensor with its elements, None where these are not known."""
        found = self._values.get(tensor) if isinstance(tensor, FakeTensor) else tensor
        known = found is not None and not found.is_meta and _memory(found) not in self._spoiled
        return found if known else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        """Compute an operator on shapes, and on what is known."""
        given = args, kwargs or {}
        result = func(*given[0], **given[1])
        tensors = _tensors(given)
        self._theirs |= {_memory(x) for x in tensors if not isinstance(x, FakeTensor)}
        written = [own for own in map(self.value, _written(func, *given)) if own is not None]
        ours = not any(_memory(own) in self._theirs for own in written)
        if ours and _is_function(func) and all(self.value(x) is not None for x in tensors):
            with _disable_current_modes():
                values = pytree.tree_map_only(Tensor, self.value, given)
                computed = func(*values[0], **values[1])
            for made, own in zip(_tensors(result), _tensors(computed), strict=True):
                if isinstance(made, FakeTensor):
                    self._values[made] = own
        else:
            self._spoiled |= {_memory(own): own for own in written}
        return result


class _Mode(TorchFunctionMode):
    """Answers, by `read`, where Python takes a number out of a tensor."""

    def read(self, reader: Callable[..., Any], tensor: Tensor, *rest: Any, **named: Any) -> Any:
        """Return what a reader gives of a tensor."""
        raise NotImplementedError

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Read numbers, as indices too; all else as it is."""
        if func in READERS:
            return self.read(func, *args, **(kwargs or {}))
        if func == Tensor.__getitem__:
            tensor, index = args
            parts = index if isinstance(index, tuple) else (index,)
            parts = tuple(map(self._place, parts))
            args = tensor, parts if isinstance(index, tuple) else parts[0]
        return func(*args, **(kwargs or {}))

    def _place(self, part: Any) -> Any:
        if isinstance(part, slice):
            return slice(*map(self._place, (part.start, part.stop, part.step)))
        return self.read(Tensor.item, part) if _is_number(part) else part


class _Reading(_Mode):
    """Answers from what is known where a network reads a tensor, and notes it in `reads`."""

    def __init__(self, known: _Known):
        super().__init__()
        self.reads: list[NumberRead] = []
        self._known = known

    def read(self, reader: Callable[..., Any], tensor: Tensor, *rest: Any, **named: Any) -> Any:
        """Return it of what is known; of all else PyTorch raises that it has no numbers."""
        value = self._known.value(tensor)
        if value is None:
            return reader(tensor, *rest, **named)
        with _disable_current_modes(), torch.no_grad():
            result = reader(value.detach(), *rest, **named)
        self.reads.append(NumberRead(reader, tuple(value.shape), deepcopy(result)))
        return result


class _Handing(_Mode):
    """Answers what was read before, in the same order."""

    def __init__(self, reads: Sequence[NumberRead]):
        super().__init__()
        self.left = iter(reads)

    def read(self, reader: Callable[..., Any], tensor: Tensor, *rest: Any, **named: Any) -> Any:
        """Return the next that was read; what comes after the last depends on an input."""
        read = next(self.left, None)
        if read is None:
            return reader(tensor, *rest, **named)
        assert (read.reader, read.shape) == (reader, tuple(tensor.shape))
        return deepcopy(read.result)


@contextmanager
def _read_as_tensors() -> Iterator[None]:
    """Let stand-ins be turned to lists by the method of all tensors, which modes see."""
    own = FakeTensor.tolist
    FakeTensor.tolist = Tensor.tolist
    try:
        yield
    finally:
        FakeTensor.tolist = own


def _is_number(index: Any) -> bool:
    """Tell whether an index is a whole number in a tensor."""
    return (
        isinstance(index, Tensor)
        and not index.ndim
        and not index.is_floating_point()
        and index.dtype != torch.bool
    )


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(values) if isinstance(x, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _is_function(func: Any) -> bool:
    """Tell whether an operator gives the same every time: no draw, and nothing left unset."""
    return torch.Tag.nondeterministic_seeded not in func.tags and "empty" not in str(func)


def _written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that an operator writes into."""
    known = func._schema.arguments
    given = {**dict(zip((a.name for a in known), args, strict=False)), **kwargs}
    names = [a.name for a in known if a.alias_info and a.alias_info.is_write]
    return _tensors([given.get(name) for name in names])
