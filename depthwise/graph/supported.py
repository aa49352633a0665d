"""Whether a graph can be compiled, and else why not, in words its author can act on."""

from collections.abc import Collection

from depthwise.errors import Unsupported
from depthwise.graph.ending import ending, feeding
from depthwise.graph.graph import Graph, Node
from depthwise.graph.ops import Dequantize, Opaque, Quantize

SUPPORTED = (
    "convolutions (plain, transposed, deformable), linear and recurrent layers, matrix products, "
    "attention, normalisation, pooling, reductions, sorting, activations, arithmetic, comparisons, "
    "softmax, concatenation, slicing, constant indices, padding, resizing, sampling by a grid and "
    "reshaping"
)


# all computed in float32, which holds whole numbers up to 2^24
COMPUTED = (
    "float32", "float16", "bfloat16", "float64", "bool", "uint8", "int8", "int16", "int32", "int64",
)  # fmt: skip


def supported(
    graph: Graph, known: Collection[str] = (), called: Collection[str] | None = None,
    unknown: bool = False,
) -> Graph:  # fmt: skip
    """Return the graph, or raise Unsupported naming the first thing that no library computes.

    `known` are the operators of the front end for which it has a rule: one that is Opaque all the
    same is of types that the rule does not take. `called` are the modules that the network calls
    once, with which it may end, None where it may end with any value. `unknown` has operators pass
    that are not known, where PyTorch can be called with them.
    """
    for name, type_ in graph.inputs.items():
        if type_.dtype not in COMPUTED:
            raise Unsupported(f"input {name} is {type_.dtype}: {_advice(type_.dtype)}")
    for node in graph:
        if unknown and (
            node.op.call is not None if isinstance(node.op, Opaque) else not _quantizes(graph, node)
        ):
            continue  # in whatever type
        if isinstance(node.op, Opaque) and node.op.reason:
            raise Unsupported(node.op.reason + _end(graph, node, called))
        if (
            isinstance(node.op, Opaque)
            or _quantizes(graph, node)
            or node.type.dtype not in COMPUTED
        ):
            name = node.op.operator if isinstance(node.op, Opaque) else type(node.op).__name__
            where = f" ({node.line})" if node.line else ""
            raise Unsupported(
                f"operator {name} in module {node.path or '(the network itself)'!r}{where} "
                f"{_complaint(graph, node, known)}"
                f"{_end(graph, node, called)}"
            )
    for output in graph.outputs:
        type_ = graph.type(output.value)
        if not type_.size:
            raise Unsupported(
                f"output {output.name or output.value} has the shape {type_.shape}, no elements: "
                "do not return it"
            )
        if type_.dtype not in COMPUTED:
            raise Unsupported(
                f"output {output.name or output.value} is a constant of {type_.dtype}: "
                f"{_advice(type_.dtype)}"
            )
    return graph


def _learns_after(graph: Graph, node: Node) -> bool:
    """Tell whether weights are read after a node, so that without it little is left."""
    made = {node.name}
    for later in graph:
        if made.intersection(later.inputs):
            made.add(later.name)
            if any(graph.constants[name].trainable for name in graph.weights(later)):
                return True
    return False


def _end(graph: Graph, node: Node, called: Collection[str] | None) -> str:
    """Return the advice to end the network before a node, where it ends soon after it anyhow."""
    if _learns_after(graph, node):
        return ""
    return ending(feeding(graph.nodes, node.inputs, node.path, called))


def _quantizes(graph: Graph, node: Node) -> bool:
    """Tell whether numbers are held by a scale, or in a type, that no kernel computes by.

    Those of weights are computed when it is compiled.
    """
    if not isinstance(node.op, Quantize | Dequantize) or not graph.activations(node):
        return False
    held = node.type if isinstance(node.op, Quantize) else graph.type(node.inputs[0])
    return held.dtype != "uint8" or bool(_scales(graph, node))


def _scales(graph: Graph, node: Node) -> str:
    """Return what no kernel does about the scale and the zero of a value; "" where one does it."""
    if not graph.constants.keys() >= set(node.inputs[1:]):
        return (
            "takes a scale that is computed while the network runs: kernels have constant scales; "
            "quantise the network statically, by images to calibrate on"
        )
    if any(graph.type(name).size != 1 for name in node.inputs[1:]):
        return (
            "has a scale for each channel of a value: kernels have one for each value, and one for "
            "each channel of weights alone; quantise values by one scale"
        )
    return ""


def _advice(dtype: str) -> str:
    return (
        f"libraries compute in float32, of tensors of {', '.join(COMPUTED)}; keep {dtype} outside "
        "of the network"
    )


def _complaint(graph: Graph, node: Node, known: Collection[str]) -> str:
    """Return what is wrong with an operator that we do not know or a type, and what to do."""
    made = node.type.dtype
    if made not in COMPUTED:
        return f"makes {made}: {_advice(made)}"
    if not isinstance(node.op, Opaque):
        if scales := _scales(graph, node):
            return scales
        return (
            f"makes {made} by a scale: kernels hold values in uint8, and weights in int8; quantise "
            "the network so, or compile the network that was quantised"
        )
    packet = ".".join(node.op.operator.split(".")[:2])
    packet = packet if packet.endswith("__") else packet.removesuffix("_")  # in place
    types = dict.fromkeys([*(graph.type(name).dtype for name in node.inputs), made])
    if packet in known and list(types) != ["float32"]:
        return (
            f"is not supported for {' and '.join(types)}: give it tensors of float32, converted "
            "with .float(), or keep it outside of the network"
        )
    return (
        f"is not supported: build that module from {SUPPORTED}, or keep it outside of the network"
    )
