"""What a network is called with: shapes in the place of tensors, nested as its forward takes them.

As in torch.export.export, arguments are given by position, and by name in `kwargs`. Each is a
shape, a tuple, list, dict or dataclass of them, or what is no tensor: None, a number, a text. Where
an input has another element type than the weights, a TensorType says it, or an example tensor.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from depthwise.escaping import kind_of
from depthwise.graph.frontends.torch.tensors import type_of
from depthwise.graph.graph import NO_KWARGS, Shape, TensorType, shape_of

PLAIN = (type(None), bool, int, float, str)
WHOLE = (
    "give each input a tuple of whole numbers of 1 or more, as in (1, 3, 224, 224), and what is no "
    "tensor by its name in kwargs"
)


@dataclass(frozen=True)
class ExportArguments:
    """The arguments of a network, each a nest of shapes and of what is no tensor.

    Raises ValueError for what is neither.
    """

    positional: tuple[Any, ...]
    named: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for value in self._leaves():
            if is_shape(value) and any(size < 0 for size in value):
                raise ValueError(f"the shape {value!r}: {WHOLE}")
            if not (is_input(value) or isinstance(value, PLAIN)):
                raise ValueError(
                    f"an input is given as {kind_of(value)}: give its shape, such as "
                    "(1, 3, 224, 224), an example tensor, or a tuple, list or dict of them"
                )

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of each tensor, in the order in which torch.export lists them."""
        return tuple(map(shape_of, filter(is_input, self._leaves())))

    @property
    def dtypes(self) -> tuple[torch.dtype | None, ...]:
        """The element type of each tensor; None where it is that of the network's weights."""
        return tuple(map(_dtype_of, filter(is_input, self._leaves())))

    def filled(self, tensors: Iterable[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments and the named ones with tensors in the place of shapes."""
        left = iter(tensors)

        def nest(value: Any) -> Any:
            return pytree.tree_map(
                lambda leaf: next(left) if is_input(leaf) else leaf, value, is_leaf=is_input
            )

        return tuple(map(nest, self.positional)), {k: nest(x) for k, x in self.named.items()}

    def flat(self, tensors: Iterable[Any]) -> list[Any]:
        """Return tensors in order, between them what is none."""
        left = iter(tensors)
        return [next(left) if is_input(value) else value for value in self._leaves()]

    def call(self, net: Callable[..., Any], tensors: Iterable[Any]) -> Any:
        """Call a network with tensors in the place of shapes."""
        positional, named = self.filled(tensors)
        return net(*positional, **named)

    def _leaves(self) -> list[Any]:
        nests = (*self.positional, *self.named.values())
        return [leaf for nest in nests for leaf in _leaves(nest)]


def _leaves(nest: Any) -> list[Any]:
    return pytree.tree_leaves(nest, is_leaf=is_input)


def is_shape(value: Any) -> bool:
    """Tell whether a value is the shape of one tensor: whole numbers, in a tuple, list or array."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu"
    return (
        isinstance(value, tuple | list)
        and not hasattr(value, "_fields")
        and all(isinstance(size, Integral) and not isinstance(size, bool) for size in value)
    )


def is_input(value: Any) -> bool:
    """Tell whether a value stands for one tensor: by its shape, its type, or an example."""
    return is_shape(value) or isinstance(value, torch.Tensor | TensorType)


def _dtype_of(value: Any) -> torch.dtype | None:
    if isinstance(value, TensorType):
        return getattr(torch, value.dtype)
    return value.dtype if isinstance(value, torch.Tensor) else None


def bind_arguments(
    net: nn.Module, shapes: Sequence[Any], kwargs: Mapping[str, Any] = NO_KWARGS
) -> ExportArguments:
    """Return arguments as the network's forward takes them, those by name in its own order.

    Raises ValueError where it does not take them: an unknown name, one that is missing, or one
    given twice.
    """
    if not shapes and not kwargs:
        return ExportArguments(())
    for value in shapes:
        if all(isinstance(leaf, PLAIN) for leaf in _leaves(value)):  # 1, 3, 8, 8 without brackets
            raise ValueError(f"the shape {value!r}: {WHOLE}")
    try:
        forward = inspect.signature(net.forward)
    except (TypeError, ValueError):  # of scripted modules
        return ExportArguments(tuple(shapes), dict(kwargs))
    try:
        bound = forward.bind(*shapes, **kwargs)
    except TypeError as error:
        given = [*map(_short, shapes), *(f"{name}={_short(x)}" for name, x in kwargs.items())]
        raise ValueError(
            f"{error}: forward{forward} of the network is given {', '.join(given) or 'nothing'}; "
            "give a shape for each input, by position or by its name in kwargs "
            "(--shape NAME=1,3,224,224)"
        ) from None
    return ExportArguments(bound.args, bound.kwargs)


def _short(value: Any) -> str:
    """Return an argument as a message names it: a tensor by its shape."""
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else str(value)


def arguments_of(program: ExportedProgram) -> ExportArguments:
    """Return the arguments that a program was exported with."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    leaves = [
        spec.arg.value
        if isinstance(spec.arg, ConstantArgument)
        else type_of(nodes[spec.arg.name].meta.get("val"), spec.arg.name)
        for spec in program.graph_signature.input_specs
        if spec.kind == InputKind.USER_INPUT
    ]
    assert program.call_spec.in_spec is not None
    positional, named = program.call_spec.in_spec.unflatten(leaves)
    return ExportArguments(tuple(positional), named)
