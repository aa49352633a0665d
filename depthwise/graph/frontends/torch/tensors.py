"""PyTorch's tensors as the graph has them: their types, their data, and which of them are one."""

from collections.abc import Hashable
from typing import Any, cast

import numpy as np
import torch

from depthwise.errors import Unsupported
from depthwise.graph.graph import Constant, Shape, TensorType


def type_of(tensor: Any, name: str) -> TensorType:
    """Return the type of the value `name`; raises Unsupported for what is no dense tensor."""
    if not isinstance(tensor, torch.Tensor):
        raise Unsupported(f"value {name} is {tensor!r}: only tensors are supported")
    shape = sizes_of(tensor)
    if None in shape:
        raise Unsupported(
            f"value {name} has the shape {tuple(tensor.shape)}: export with static shapes, and let "
            "no shape depend on the values of tensors"
        )
    if tensor.layout != torch.strided:
        raise Unsupported(f"value {name} is {tensor.layout}: make it dense with .to_dense()")
    try:
        return TensorType(cast("Shape", shape), dtype_of(tensor))
    except ValueError as error:
        raise Unsupported(f"value {name}: {error}") from None


def sizes_of(tensor: torch.Tensor) -> tuple[int | None, ...]:
    """Return a tensor's shape, None for a size that export leaves open."""
    return tuple(
        size if isinstance(size, int) else size.node.maybe_as_int()
        for size in cast("list[int | torch.SymInt]", tensor.shape)
    )


def numbers_of(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's numbers as an array, those of bfloat16, which NumPy lacks, in float32."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def dtype_of(result: Any) -> str:
    """Return a tensor's element type, as in float32, the first one's of several; else nothing."""
    first = result[0] if isinstance(result, tuple | list) and result else result
    return str(first.dtype).removeprefix("torch.") if isinstance(first, torch.Tensor) else ""


def is_empty(tensor: Any) -> bool:
    """Tell whether a tensor has no elements."""
    return isinstance(tensor, torch.Tensor) and any(
        isinstance(size, int) and size == 0 for size in tensor.shape
    )


def takes_values_for_sizes(result: Any) -> bool:
    """Tell whether the values of tensors decide how many elements a result, or one of them, has."""
    if isinstance(result, tuple | list):
        return any(map(takes_values_for_sizes, result))
    shape = result.shape if isinstance(result, torch.Tensor) else ()
    return any(not isinstance(size, int) for size in shape)


def constant_of(tensor: torch.Tensor, name: str, **facts: Any) -> Constant:
    """Return a constant that shares the tensor's memory; on the meta device it has no data."""
    tensor, type_ = tensor.detach(), type_of(tensor, name)
    if tensor.is_meta:
        return Constant(type_, **facts)
    stored = getattr(torch, str(type_.element.storage))
    return Constant(type_, tensor.cpu().contiguous().view(stored).numpy(), **facts)


def identity_of(tensor: torch.Tensor) -> Hashable:
    """Return what two names of the same elements have in common, on the meta device too."""
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def agrees(value: Any, tensor: Any, name: str) -> bool:
    """Tell whether a value, or a list of them, has the types that PyTorch says it has.

    None stands for a result that we do not compute.
    """
    if isinstance(tensor, tuple | list):
        return isinstance(value, tuple | list) and all(
            agrees(one, part, name) for one, part in zip(value, tensor, strict=False)
        )
    if value is None or tensor is None:
        return True
    if not hasattr(value, "type") or None not in sizes_of(tensor):
        return hasattr(value, "type") and value.type == type_of(tensor, name)
    sizes = zip(value.type.shape, sizes_of(tensor), strict=True)
    return value.type.dtype == dtype_of(tensor) and all(known in (n, None) for n, known in sizes)
