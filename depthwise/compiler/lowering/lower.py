"""From a graph to calls of kernels: one rule an operator; the files beside register theirs."""

from functools import singledispatch

from depthwise.compiler.constants import Constants
from depthwise.compiler.fused_ops import CastPairs, Images
from depthwise.compiler.lowering.algorithms import Algorithms
from depthwise.compiler.lowering.builder import Default, Lowered, LoweringBuilder
from depthwise.compiler.lowering.loops import TooManyAxes
from depthwise.compiler.lowering.views import is_canonical
from depthwise.compiler.lowering.weight_pool import WeightPool
from depthwise.compiler.schedule.storage import Storage
from depthwise.errors import Unsupported
from depthwise.graph import Graph, Node
from depthwise.graph.dtypes import FLOAT32, NARROW, UINT8
from depthwise.graph.ops import (
    Cast,
    Concat,
    Expand,
    MaxPool2d,
    Op,
    Pad,
    Permute,
    Quantize,
    Reshape,
    Slice,
)
from depthwise.quantization.integer_ops import IntegerOp

COMPUTED = (
    FLOAT32.name,
    *(row.name for row in NARROW),
    UINT8.name,
)  # the types that kernels compute in
ON_BYTES = (  # what of the network's own operators there is for bytes
    Quantize, Reshape, Slice, Permute, Concat, Expand, MaxPool2d, Pad, Cast,
)  # fmt: skip


@singledispatch
def lower(op: Op, node: Node, b: LoweringBuilder) -> None:  # noqa: ARG001
    """Append the calls that compute `node`, or make its value a view of another.

    Raises Unsupported where no kernel does it.
    """
    raise Unsupported(f"operator {type(op).__name__} in module {node.path!r} has no kernel")


def lower_graph(
    graph: Graph, constants: Constants, storage: Storage, requested: Algorithms,
    default: Default, pool: WeightPool,
) -> Lowered:  # fmt: skip
    """Return the calls of every node, and those that bring inputs in and outputs out.

    Weights are added to the pool.
    """
    for node in graph:
        known = node.type.dtype in COMPUTED or isinstance(node.op, Cast)
        assert known, f"{node} is converted"
    b = LoweringBuilder(graph, constants, storage, requested, default, pool)
    _read_inputs(b)
    for node in graph:
        b.node = node
        if node.type.dtype == UINT8.name and not isinstance(node.op, (IntegerOp, *ON_BYTES)):
            raise Unsupported(
                f"operator {type(node.op).__name__} in module {node.path!r} gives bytes, for which "
                "it has no kernel: keep that layer in float32"
            )
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
    """Place the inputs: copied where values of their rank lie otherwise; not what is converted."""
    for index, (name, type_) in enumerate(b.graph.inputs.items()):
        external = b.add_external("input", index, type_)
        b.views[name] = external
        prepares = (Images, Cast, CastPairs, Quantize)
        converts = [isinstance(reader.op, prepares) for reader in b.readers(name)]
        if any(converts) and (all(converts) or type_.dtype not in COMPUTED):
            continue
        if not ((is_canonical(external) or b.is_grid(name)) and b.is_free(name)):
            view = b.allocate(name, type_)
            b.copy(external, view, comment=f"input {name}, channels last")
            b.views[name] = view
