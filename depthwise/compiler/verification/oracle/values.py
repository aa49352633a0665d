"""What every value of a network is, one after another: no more of them are kept than are needed.

They are the interpreter's, but for convolutions and GELU of large images, for which it would take
minutes and gigabytes: these are PyTorch's, where it is installed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from depthwise.compiler.fused_ops import Fused
from depthwise.compiler.verification.oracle import pytorch
from depthwise.compiler.verification.oracle.memory import Array
from depthwise.graph import Graph, Node, ops
from depthwise.graph.interpret import evaluate

LARGE = 2**21  # products of a convolution's output and taps, or elements


class Values:
    """The values of a graph for some inputs, each computed when it is first asked for.

    `asked` says how often each will be; after that, and after its readers, it is dropped.
    """

    def __init__(self, graph: Graph, inputs: Sequence[Array], asked: Mapping[str, int]):
        self._graph = graph
        self._nodes = {node.name: node for node in graph}
        self._left = Counter(asked)
        self._left.update(name for node in graph for name in dict.fromkeys(node.inputs))
        self._values: dict[str, Array] = dict(zip(graph.inputs, inputs, strict=True))

    def get(self, name: str) -> Array:
        """Return a value, asked for once more."""
        value = self._find(name)
        self._left[name] -= 1
        if not self._left[name]:
            self._values.pop(name, None)
        return value

    def peek(self, name: str) -> Array:
        """Return a value that is going to be asked for again."""
        return self._find(name)

    def _find(self, name: str) -> Array:
        if name in self._graph.constants:
            return self._graph.numbers(name)
        waiting = [name]
        while name not in self._values:
            if waiting[-1] in self._values:  # two of those that wait read it
                waiting.pop()
                continue
            node = self._nodes[waiting[-1]]
            unknown = [x for x in node.inputs if x in self._nodes and x not in self._values]
            if unknown:
                waiting += unknown
                continue
            waiting.pop()
            inputs = {x: self.get(x) for x in dict.fromkeys(node.inputs)}
            self._values[node.name] = value_of(node, [inputs[x] for x in node.inputs])
        return self._values[name]


def value_of(node: Node, inputs: Sequence[Array]) -> Array:
    """Return what a node computes from its inputs, in their precision."""
    with np.errstate(all="ignore"):
        value = _evaluate(node.op, inputs)
    return np.ascontiguousarray(value)


def _evaluate(op: object, inputs: Sequence[Array]) -> Array:
    match op:
        case Fused(inner, epilogue):
            *operands, residual = inputs if epilogue.add else (*inputs, None)
            y = _evaluate(inner, operands)
            y = _evaluate(epilogue.before, [y]) if epilogue.before else y
            y = y + residual if residual is not None else y
            return _evaluate(epilogue.after, [y]) if epilogue.after else y
        case ops.Conv2d() if _columns(*inputs[:2]) > LARGE:
            found = pytorch.convolve(op, *inputs)
        case ops.Activation("gelu") if inputs[0].size > LARGE // 64:
            found = pytorch.gelu(inputs[0])
        case _:
            found = None
    return np.asarray(evaluate(op, *inputs)) if found is None else found  # type: ignore[arg-type]


def _columns(x: Array, weight: Array) -> int:
    """Return about how many elements the interpreter would gather."""
    return x.size * weight[0, 0].size
