"""From a graph to calls of kernels: one rule an operator; the files beside register theirs."""

from functools import singledispatch

from depthwise.compiler.fused_ops import Images
from depthwise.compiler.lowering.algorithms import Algorithms
from depthwise.compiler.lowering.builder import Default, Lowered, LoweringBuilder
from depthwise.compiler.lowering.loops import TooManyAxes
from depthwise.compiler.lowering.views import is_canonical
from depthwise.compiler.schedule.storage import Storage
from depthwise.errors import Unsupported
from depthwise.graph import Graph, Node
from depthwise.graph.ops import Op
from depthwise.runtime.target import Target


@singledispatch
def lower(op: Op, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
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


def lower_graph(
    graph: Graph, target: Target, storage: Storage, requested: Algorithms, default: Default
) -> Lowered:
    """Return the calls of every node, and those that bring inputs in and outputs out."""
    check_computed(graph)
    b = LoweringBuilder(graph, target, storage, requested, default)
    _read_inputs(b)
    for node in graph:
        b.node = node
        try:
            lower(node.op, node, b)
        except TooManyAxes as error:
            raise Unsupported(
                f"operator {type(node.op).__name__} in module "
                f"{node.path or '(the network itself)'!r} runs over {error}: join axes with "
                "reshape() before it"
            ) from None
    b.node = None
    for index, output in enumerate(graph.outputs):
        external = b.add_external("output", index, graph.type(output.value))
        b.copy(b.read(output.value), external, comment=f"output {output.name}".strip())
    return b.finish()


def _read_inputs(b: LoweringBuilder) -> None:
    """Place the inputs: copied where values of their rank lie otherwise; not raw images."""
    for index, (name, type_) in enumerate(b.graph.inputs.items()):
        external = b.add_external("input", index, type_)
        b.views[name] = external
        if any(isinstance(reader.op, Images) for reader in b.readers(name)):
            continue
        if not ((is_canonical(external) or b.is_grid(name)) and b.is_free(name)):
            view = b.allocate(name, type_)
            b.copy(external, view, comment=f"input {name}, channels last")
            b.views[name] = view
