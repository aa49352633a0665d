"""The precisions of libraries; networks in each, to time and to predict.

Numbers do not matter to a kernel's time.
"""

from depthwise.compiler.options import INT8
from depthwise.compiler.pipeline import rewrite
from depthwise.graph import Graph
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.record import Machine
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.integer import is_quantised
from depthwise.quantization.placement import place
from depthwise.quantization.preparing import prepare
from depthwise.quantization.scheme import Affine
from depthwise.runtime.target import Target, find_target, native_for

NARROW = ("bfloat16", "float16", INT8)
PRECISIONS = (FLOAT32.name, *NARROW)
RANGE = 4.0  # of every value of a network in eight bits that is only timed


def read_precisions(names: str) -> tuple[str, ...]:
    """Return the precisions named, as in "float32,int8". Raises ValueError for others."""
    wanted = tuple(dict.fromkeys(name for each in names.split(",") if (name := each.strip())))
    for name in wanted or (names,):
        if name not in PRECISIONS:
            raise ValueError(
                f"--precision {names}: {name!r} is none; name some of {', '.join(PRECISIONS)}, as "
                f"in {PRECISIONS[0]},{INT8}"
            )
    return wanted


def read_narrow(names: str) -> tuple[str, ...]:
    """Return the narrow precisions among those named; float32 is timed as it is."""
    return tuple(name for name in read_precisions(names) if name in NARROW)


def precision_of(graph: Graph, precision: str = FLOAT32.name) -> str:
    """Return what a graph is computed in: a quantised one in int8 whatever is asked for."""
    return INT8 if is_quantised(graph) else precision


def target_of(machine: Machine, precision: str) -> Target:
    """Return the target that the kernels of a precision are compiled for on a machine."""
    whole = precision == FLOAT32.name
    return find_target(machine.target) if whole else native_for(precision)


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
