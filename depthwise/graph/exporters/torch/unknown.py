"""Operators that the graph does not know: PyTorch runs them as it did when they were captured."""

import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from depthwise.errors import Unsupported
from depthwise.graph import ops
from depthwise.graph.calls import arguments_of
from depthwise.graph.exporters.torch.rules import TensorFunction, function_of
from depthwise.graph.graph import TensorType
from depthwise.graph.structure import Leaf, Nest, Structure

OURS, DEVICE = "torch.", "torch.device."  # what texts begin with that stand for PyTorch's values
CLOSE = 1e-4  # of a number, by which results of other batches may differ


@function_of.register
def _(op: ops.Opaque, site):
    try:
        return unknown_function(op)
    except Unsupported as error:
        where = site.node.path or "(the network itself)"
        raise Unsupported(
            f"operator {op.operator} in module {where!r} has no meaning here: {op.reason or error}"
        ) from None


def unknown_function(op: ops.Opaque) -> TensorFunction:
    """Return what computes an operator from the tensors that its node reads.

    Raises Unsupported where nothing is known of how it is called, or PyTorch has none of its name.
    """
    if op.call is None:
        raise Unsupported("how it is called is not known")
    call, operator = op.call, find_operator(op.operator)

    def compute(*tensors: Tensor) -> Tensor:
        given, named = arguments_of(call)
        filled = {name: _filled(part, tensors) for name, part in named.items()}
        result = operator(*(_filled(part, tensors) for part in given), **filled)
        return result if op.result is None else result[op.result]

    return compute


def find_operator(name: str) -> Callable[..., Any]:
    """Return PyTorch's operator of a name as in "aten.cross.default", which writes into nothing.

    A file may name any operator: taken are those that make tensors of tensors and do nothing else.
    Raises Unsupported for any other.
    """
    space, _, rest = name.partition(".")
    if space == "torchvision":
        with suppress(ImportError):
            importlib.import_module(space)  # which registers them
    found = _lookup(space, rest)
    if isinstance(found, OpOverload) and found._schema.is_mutable:
        own, _, overload = rest.partition(".")
        found = _lookup(space, f"{own.removesuffix('_')}.{overload}")
    if not isinstance(found, OpOverload):
        raise Unsupported(
            f"PyTorch has no operator {name} here: where it is of a package, import that first"
        )
    schema = found._schema
    tensors = any("Tensor" in str(argument.type) for argument in schema.arguments)
    made = all("Tensor" in str(result.type) for result in schema.returns)
    if schema.is_mutable or not (tensors and made and schema.returns):
        raise Unsupported(f"{name} does something else than to make tensors of tensors")
    return found


def _lookup(space: str, rest: str) -> Any:
    found: Any = torch.ops
    for part in (space, *rest.split(".")):
        try:
            found = getattr(found, part)
        except (AttributeError, RuntimeError):
            return None
    return found


def _filled(part: Structure, tensors: Sequence[Tensor]) -> Any:
    """Return an argument with its tensors."""
    if isinstance(part, Leaf):
        return tensors[int(part.name)]
    if isinstance(part, Nest):
        return [_filled(each, tensors) for each in part.parts]
    value = part.value
    if isinstance(value, str) and value.startswith(DEVICE):
        return torch.device(value.removeprefix(DEVICE))
    if isinstance(value, str) and value.startswith(OURS):
        return getattr(torch, value.removeprefix(OURS))
    return value


@lru_cache(maxsize=256)  # a network is made again for each change that is looked at
def takes_images_alone(
    op: ops.Opaque, types: tuple[TensorType, ...], batched: tuple[bool, ...]
) -> bool:
    """Tell whether an operator computes each image of a batch by itself.

    It is tried on numbers that are drawn: two batches one after the other, and both at once.

    Args:
        op: The operator.
        types: Of what it reads.
        batched: Whether images lie along the first axis of it.
    """
    generator = torch.Generator().manual_seed(0)
    one = [drawn(type_, generator) for type_ in types]
    pairs = list(zip(one, batched, strict=True))
    other = [drawn(type_, generator) if own else a
             for (a, own), type_ in zip(pairs, types, strict=True)]  # fmt: skip
    both = [torch.cat([a, b]) if own else a for (a, own), b in zip(pairs, other, strict=True)]
    try:
        function = unknown_function(op)
        apart = torch.cat([function(*one), function(*other)])
        together = function(*both)
    except Exception:  # whatever it says to a batch that it does not take
        return False
    results = (each.to(torch.complex128) for each in (together, apart))  # of whatever type
    return together.shape == apart.shape and torch.allclose(
        *results, rtol=CLOSE, atol=CLOSE, equal_nan=True
    )


def drawn(type_: TensorType, generator: torch.Generator) -> Tensor:
    """Return numbers of a type, between 0 and 1."""
    dtype = getattr(torch, type_.dtype)
    numbers = torch.rand(type_.shape, generator=generator)
    return numbers.to(dtype) if dtype.is_floating_point else (numbers > 1 / 2).to(dtype)
