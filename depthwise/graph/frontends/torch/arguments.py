"""What a network is called with: shapes in the place of tensors, nested as its forward takes them.

As in torch.export.export, arguments are given by position, and by name in `kwargs`. Each is a
shape, a tuple, list, dict or dataclass of them, or what is no tensor: None, a number, a text.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from depthwise.graph.frontends.torch.tensors import type_of
from depthwise.graph.graph import NO_KWARGS, Shape

PLAIN = (type(None), bool, int, float, str)


@dataclass(frozen=True)
class Arguments:
    """The arguments of a network, each a nest of shapes and of what is no tensor.

    Raises ValueError for what is neither.
    """

    positional: tuple[Any, ...]
    named: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for where, value in enumerate(self.positional):
            if isinstance(value, PLAIN):  # 1, 3, 224, 224 without its brackets, say
                raise ValueError(
                    f"argument {where} is {value!r}: give a shape such as (1, 3, 224, 224) for "
                    "each input, and what is no tensor by name in kwargs"
                )
        for value in self._leaves():
            if not (is_shape(value) or isinstance(value, PLAIN)):
                raise ValueError(
                    f"an input is given as a {type(value).__name__}: give its shape, such as "
                    "(1, 3, 224, 224), or a tuple, list or dict of shapes"
                )

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of each tensor, in the order in which torch.export lists them."""
        return tuple(tuple(map(int, value)) for value in self._leaves() if is_shape(value))

    def filled(self, tensors: Iterable[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments and the named ones with tensors in the place of shapes."""
        left = iter(tensors)
        return self.replaced(lambda _: next(left))

    def flat(self, tensors: Iterable[Any]) -> list[Any]:
        """Return tensors in order, between them what is none."""
        left = iter(tensors)
        return [next(left) if is_shape(value) else value for value in self._leaves()]

    def replaced(self, of: Callable[[Shape], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments and the named ones with what `of` makes of each shape."""

        def leaf(value: Any) -> Any:
            return of(tuple(map(int, value))) if is_shape(value) else value

        def nest(value: Any) -> Any:
            return pytree.tree_map(leaf, value, is_leaf=is_shape)

        return tuple(map(nest, self.positional)), {k: nest(x) for k, x in self.named.items()}

    def call(self, net: Callable[..., Any], tensors: Iterable[Any]) -> Any:
        """Call a network with tensors in the place of shapes."""
        positional, named = self.filled(tensors)
        return net(*positional, **named)

    def _leaves(self) -> list[Any]:
        nests = (*self.positional, *self.named.values())
        return [leaf for nest in nests for leaf in pytree.tree_leaves(nest, is_leaf=is_shape)]


def is_shape(value: Any) -> bool:
    """Tell whether a value is the shape of one tensor: whole numbers, in a tuple or a list."""
    return (
        isinstance(value, tuple | list)
        and not hasattr(value, "_fields")
        and all(isinstance(size, Integral) and not isinstance(size, bool) for size in value)
    )


def bind_arguments(
    net: nn.Module, shapes: Sequence[Any], kwargs: Mapping[str, Any] = NO_KWARGS
) -> Arguments:
    """Return arguments as the network's forward takes them, those by name in its own order.

    Raises ValueError where it does not take them: an unknown name, one that is missing, or one
    given twice.
    """
    if not shapes and not kwargs:
        return Arguments(())
    try:
        forward = inspect.signature(net.forward)
    except (TypeError, ValueError):  # of scripted modules
        return Arguments(tuple(shapes), dict(kwargs))
    try:
        bound = forward.bind(*shapes, **kwargs)
    except TypeError as error:
        given = [*map(str, shapes), *(f"{name}={shape}" for name, shape in kwargs.items())]
        raise ValueError(
            f"{error}: forward{forward} of the network is given {', '.join(given) or 'nothing'}; "
            "give a shape for each input, by position or by its name in kwargs "
            "(--shape NAME=1,3,224,224)"
        ) from None
    return Arguments(bound.args, bound.kwargs)


def arguments_of(program: ExportedProgram) -> Arguments:
    """Return the arguments that a program was exported with."""
    shapes = {
        node.name: type_of(node.meta["val"], node.name).shape
        for node in program.graph.nodes
        if node.op == "placeholder" and node.meta.get("val") is not None
    }
    leaves = [
        spec.arg.value if isinstance(spec.arg, ConstantArgument) else shapes[spec.arg.name]
        for spec in program.graph_signature.input_specs
        if spec.kind == InputKind.USER_INPUT
    ]
    assert program.call_spec.in_spec is not None
    positional, named = program.call_spec.in_spec.unflatten(leaves)
    return Arguments(tuple(positional), named)
