"""Numbers of a network's code, which stay numbers: they are no part of its state."""

from ast import literal_eval

import numpy as np

from depthwise.graph import ops
from depthwise.graph.graph import Constant, Graph, Node

LITERAL = "literal."  # what the names of such constants begin with
BESIDE_TENSORS = {  # functions of two that PyTorch has of a tensor and a number, either first
    "add", "subtract", "multiply", "divide", "power", "remainder", "floor_divide",
}  # fmt: skip


def numbers_in(graph: Graph) -> dict[str, float]:
    """Return the constants that each reader takes as a number, by name."""
    readers, returned = graph.readers(), {output.value for output in graph.outputs}
    return {
        name: number_of(name, constant)
        for name, constant in graph.constants.items()
        if name.startswith(LITERAL) and not constant.type.shape and constant.data is not None
        if name not in returned and all(takes_numbers(graph, node) for node in readers[name])
    }


def takes_numbers(graph: Graph, node: Node) -> bool:
    """Tell whether PyTorch has what a node computes of tensors and numbers."""
    match node.op:
        case ops.Binary(function) if function in BESIDE_TENSORS:
            return len(graph.activations(node)) == 1
        case ops.Compare():
            return len(graph.activations(node)) == 1
        case ops.Where():
            return node.inputs[0] not in graph.constants
    return False


def number_of(name: str, constant: Constant) -> float:
    """Return a number as it is in the code, by its name, where that is what the constant holds."""
    assert constant.numbers is not None
    held = constant.numbers.item()
    try:
        written = literal_eval(name.removeprefix(f"{LITERAL}{constant.type.dtype}."))
    except (ValueError, SyntaxError):
        return held
    if not isinstance(written, bool | int | float):
        return held
    return written if constant.type.element.round(np.asarray(written)) == held else held
