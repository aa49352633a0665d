"""What is known when a model is read: weights, sizes, and all that is computed from them alone.

Exporters compute the sizes of a Reshape or a Resize from the shape of a tensor, in a chain of
Shape, Gather, Unsqueeze and Concat. With the inputs' shapes fixed such a chain gives numbers:
ONNX's own reference computes them, by its definition of each operator.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, ValueInfoProto
from onnx.reference import ReferenceEvaluator

STANDARD = ("", "ai.onnx")  # two spellings of one domain
RANDOM = (
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip
CONTROL = ("If", "Loop", "Scan", "SequenceMap")  # their bodies read values from around them
QUANTIZED = ("DequantizeLinear",)  # of weights: the graph says that they are stored as integers


@dataclass(frozen=True, eq=False)
class Known:
    """An array, and the initialisers that it was computed from."""

    data: np.ndarray
    sources: tuple[str, ...] = ()


def is_computed_now(node: NodeProto) -> bool:
    """Tell whether a node whose operands are known is computed when the model is read."""
    return node.domain in STANDARD and node.op_type not in (*RANDOM, *CONTROL, *QUANTIZED)


def compute(node: NodeProto, operands: Mapping[str, np.ndarray], opset: int) -> list[np.ndarray]:
    """Return the outputs of a node of known operands. Raises ValueError where it has none."""
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(_graph(node), opsets={"": opset}).run(None, dict(operands))
    except Exception as error:
        raise ValueError(f"cannot be computed: {error}") from error
    assert isinstance(results, list)
    if not all(isinstance(result, np.ndarray | np.generic) for result in results):
        raise ValueError("gives a sequence or nothing at all: only tensors are read")
    return [np.asarray(result) for result in results]


def _graph(node: NodeProto) -> GraphProto:
    """Return a graph of one node: a node alone the reference takes to be of the newest opset."""
    inputs, outputs = ([ValueInfoProto(name=name) for name in dict.fromkeys(names) if name]
                       for names in (node.input, node.output))  # fmt: skip
    return GraphProto(node=[node], input=inputs, output=outputs)
