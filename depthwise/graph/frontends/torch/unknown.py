"""Operators that we do not know: with what PyTorch calls them, so that it can run them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from depthwise.graph.builder import Value
from depthwise.graph.calls import make_call
from depthwise.graph.ops import Opaque
from depthwise.graph.structure import Leaf, Nest, Plain, Structure

NAMED = torch.dtype | torch.layout | torch.memory_format  # what PyTorch has a name of its own for


def unknown(
    node: fx.Node, values: Mapping[fx.Node, Any], inputs: Sequence[Value], reason: str
) -> Opaque:
    """Return an operator of an exported program that we do not know.

    Args:
        node: The operator.
        values: What its arguments are in the graph.
        inputs: Those of them that are tensors, as the graph's node reads them.
        reason: Why no rule takes it; "" where there is none.
    """
    places = {value.name: str(place) for place, value in reversed(list(enumerate(inputs)))}

    def written(given: Any) -> Structure:
        value = values.get(given) if isinstance(given, fx.Node) else given
        if isinstance(value, Value):
            return Leaf(places[value.name])
        if isinstance(value, NAMED):
            return Plain(str(value))
        if isinstance(value, torch.device):
            return Plain(f"torch.device.{value.type}")
        if isinstance(value, tuple | list) and value is given:
            return Nest("list", tuple(map(written, value)))
        if given is None:
            return Plain(None)
        if isinstance(value, bool | int | float | str):
            return Plain(value)
        raise TypeError(f"{given} is written into no file")

    call = None
    if isinstance(node.target, OpOverload):
        try:
            named = {name: written(given) for name, given in node.kwargs.items()}
            call = make_call(list(map(written, node.args)), named)
        except TypeError:
            pass  # it stays what nothing can call
    return Opaque(str(node.target), reason, call)
