"""Networks in each precision, to time and to predict: numbers do not matter to a kernel's time."""

from depthwise.compiler.pipeline import rewrite
from depthwise.graph import Graph
from depthwise.graph.dtypes import FLOAT32
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.integer import is_quantised
from depthwise.quantization.placement import place
from depthwise.quantization.preparing import prepare
from depthwise.quantization.scheme import Affine

INT8 = "int8"
NARROW = ("bfloat16", "float16", INT8)
RANGE = 4.0  # of every value of a network in eight bits that is only timed


def read_narrow(names: str) -> list[str]:
    """Return the narrow precisions named, as in "bfloat16,int8"; float32 is timed as it is.

    Raises ValueError for others.
    """
    wanted = [name for each in names.split(",") if (name := each.strip())]
    unknown = [name for name in wanted if name not in (FLOAT32.name, *NARROW)]
    if unknown or not wanted:
        raise ValueError(
            f"--precision {names}: {(unknown or [names])[0]!r} has no kernels that could be timed; "
            f"name some of {', '.join(NARROW)}, as in {NARROW[0]},{INT8}"
        )
    return [name for name in dict.fromkeys(wanted) if name != FLOAT32.name]


def precision_of(graph: Graph, precision: str = FLOAT32.name) -> str:
    """Return what a graph is computed in: a quantised one in int8 whatever is asked for."""
    return INT8 if is_quantised(graph) else precision


def rewritten_in(graph: Graph, precision: str) -> Graph:
    """Return a graph as it is compiled in a precision; in int8 it has any ranges."""
    if precision != INT8:
        return rewrite(graph, precision=precision)  # pyright: ignore[reportArgumentType]
    return rewrite(graph if is_quantised(graph) else in_eight_bits(graph))


def in_eight_bits(graph: Graph) -> Graph:
    """Return a network with Quantize and Dequantize nodes, every value from -RANGE to RANGE."""
    from depthwise.quantization.correction import nearest  # noqa: PLC0415  (which needs PyTorch)

    graph = prepare(graph)
    held = {name: Affine.of_range(-RANGE, RANGE) for name in place(graph).quantized}
    return insert_quantization(nearest(Encoding(graph, held)))
