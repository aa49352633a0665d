"""One lowering an operator, from a node to calls of kernels; the files beside register them."""

from functools import singledispatch
from typing import TYPE_CHECKING

from depthwise.errors import Unsupported
from depthwise.graph import Node
from depthwise.graph.ops import Op

if TYPE_CHECKING:
    from depthwise.compiler.plan import PlanBuilder


@singledispatch
def lower(op: Op, node: Node, b: "PlanBuilder") -> None:  # noqa: ARG001
    """Append the calls that compute `node`, or make its value a view of another.

    Raises Unsupported where no kernel does it.
    """
    raise Unsupported(f"operator {type(op).__name__} in module {node.path!r} has no kernel")
