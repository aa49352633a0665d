"""Whether a graph can be compiled, and else why not, in words its author can act on."""

from collections.abc import Collection

from depthwise.errors import Unsupported
from depthwise.graph.ending import ending, feeding
from depthwise.graph.graph import Graph, Node
from depthwise.graph.ops import Opaque, Quantize

SUPPORTED = (
    "convolutions (plain, transposed, deformable), linear layers, matrix products, batch, layer, "
    "instance and group normalisation, pooling, activations, arithmetic, softmax, concatenation, "
    "slicing, padding, resizing and reshaping"
)


def supported(
    graph: Graph, known: Collection[str] = (), called: Collection[str] = ()
) -> Graph:  # fmt: skip
    """Return the graph, or raise Unsupported naming the first thing that no library computes.

    A library takes, computes and returns float32. `known` are the operators of the front end for
    which it has a rule: one that is Opaque all the same is of another type. `called` are the
    modules that the network calls once, with which it may end.
    """
    for name, type_ in graph.inputs.items():
        if type_.dtype != "float32":
            raise Unsupported(
                f"input {name} is {type_.dtype}: libraries compute in float32; call net.float(), "
                "and give it images as numbers of that type"
            )
    for node in graph:
        if isinstance(node.op, Opaque) and node.op.reason:
            raise Unsupported(node.op.reason)
        if isinstance(node.op, Opaque) or node.type.dtype != "float32":
            name = node.op.operator if isinstance(node.op, Opaque) else type(node.op).__name__
            where = f" ({node.line})" if node.line else ""
            raise Unsupported(
                f"operator {name} in module {node.path or '(the network itself)'!r}{where} "
                f"{_complaint(graph, node, known)}"
                f"{'' if _learns_after(graph, node) else ending(_feeding(graph, node, called))}"
            )
    for output in graph.outputs:
        type_ = graph.type(output.value)
        if not type_.size:
            raise Unsupported(
                f"output {output.name or output.value} has the shape {type_.shape}, no elements: "
                "do not return it"
            )
        if type_.dtype != "float32":
            raise Unsupported(
                f"output {output.name or output.value} is a constant of {type_.dtype}: libraries "
                "return float32; make it that with .float(), or keep it outside of the network"
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


def _feeding(graph: Graph, node: Node, called: Collection[str]) -> str:
    return feeding(graph.nodes, node.inputs, node.path, called)


def _complaint(graph: Graph, node: Node, known: Collection[str]) -> str:
    """Return what is wrong with an operator that we do not know or a type, and what to do."""
    made, unknown = node.type.dtype, False
    if isinstance(node.op, Opaque):
        packet = ".".join(node.op.operator.split(".")[:2])
        unknown = made == "float32" or packet.removesuffix("_") not in known
    if unknown:
        return (
            f"is not supported: build that module from {SUPPORTED}, or keep it outside of the "
            "network"
        )
    # the zero point of a quantisation is of the type that is made, and no reason for it
    names = graph.activations(node) if isinstance(node.op, Quantize) else node.inputs
    read = dict.fromkeys(graph.type(name).dtype for name in names)
    if made in read:
        return (
            f"gives {made}, as a tensor that it reads is: {made} is not computed yet, libraries "
            "compute in float32; make that tensor float32 with .float()"
        )
    return (
        f"makes {made} of {' and '.join(read) or 'nothing'}: {made} is not computed yet, libraries "
        "compute in float32; drop it where it changes nothing, else keep it outside of the network"
    )
