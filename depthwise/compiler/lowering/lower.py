"""One lowering an operator, from a node to calls of kernels; the files beside register them."""

from functools import singledispatch
from typing import TYPE_CHECKING

from depthwise.compiler.fused_ops import Images
from depthwise.graph import Graph, Node, Unsupported
from depthwise.graph.ops import Op

if TYPE_CHECKING:
    from depthwise.compiler.plan import PlanBuilder


@singledispatch
def lower(op: Op, node: Node, b: "PlanBuilder") -> None:  # noqa: ARG001
    """Append the calls that compute `node`, or make its value a view of another.

    Raises Unsupported where no kernel does it.
    """
    raise Unsupported(f"operator {type(op).__name__} in module {node.path!r} has no kernel")


COMPUTED = "float32"  # the element type that kernels compute in


def check_computed(graph: Graph) -> None:
    """Raise Unsupported for the first value of a type that no kernel computes.

    Raw images may have another one: kernels convert them as they read them.
    """
    for name, type_ in graph.inputs.items():
        raw = all(isinstance(node.op, Images) for node in graph.readers()[name])
        if type_.dtype != COMPUTED and not raw:
            raise Unsupported(f"input {name} is {type_.dtype}: {_advice(type_.dtype)}")
    for node in graph:
        if node.type.dtype != COMPUTED:
            raise Unsupported(
                f"operator {type(node.op).__name__} in module "
                f"{node.path or '(the network itself)'!r} makes {node.type.dtype}: "
                f"{_advice(node.type.dtype)}"
            )
    for output in graph.outputs:
        dtype = graph.type(output.value).dtype
        if dtype != COMPUTED and output.value not in graph.inputs:
            raise Unsupported(
                f"output {output.name or output.value} is a constant of {dtype}: {_advice(dtype)}"
            )


def _advice(dtype: str) -> str:
    return f"{dtype} is not computed yet, libraries compute in {COMPUTED}; convert it to that"
