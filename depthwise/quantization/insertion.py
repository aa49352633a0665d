"""The graph that says how a network is computed in eight bits: Quantize and Dequantize nodes.

    Quantize -> Dequantize -> Conv2d(x, Dequantize(int8), Dequantize(int32)) -> Relu -> Quantize

What stands between a Dequantize and a Quantize is one computation in integers. It is the form in
which ONNX holds quantised networks (QDQ), and computes in float32 what the integers stand for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from depthwise.graph import Constant, Graph, Node, Output, TensorType, check
from depthwise.graph.infer import infer
from depthwise.graph.names import take_name
from depthwise.graph.ops import Dequantize, Op, Quantize
from depthwise.quantization.placement import Placement, place
from depthwise.quantization.scheme import Affine, LayerWeights, sums_bias, sums_scale


@dataclass(frozen=True, eq=False)
class Encoding:
    """A network, and what each of its numbers becomes in eight bits.

    Attributes:
        graph: The network in real numbers, as `prepare` returns it.
        values: How values are held, by name; those that are not named are not quantised.
        weights: The weights of its layers, by the layer's name.
        kept: Layers that are not computed in eight bits all the same.
        kept_in: What these are computed in: float32, or bfloat16, which the graph does not say:
            it is compiled with that precision.
    """

    graph: Graph
    values: Mapping[str, Affine] = field(default_factory=dict)
    weights: Mapping[str, LayerWeights] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    kept_in: str = "float32"

    @property
    def placement(self) -> Placement:
        """Which nodes are computed in integers."""
        return place(self.graph, self.kept)

    def with_weights(self, layer: str, weights: LayerWeights) -> "Encoding":
        """Return the same with other weights of a layer."""
        return replace(self, weights={**self.weights, layer: weights})


def insert_quantization(encoding: Encoding) -> Graph:
    """Return the graph with Quantize and Dequantize nodes, in which an encoding is explicit."""
    return check(_Insertion(encoding).graph())


class _Insertion:
    """A graph on its way from real numbers to integers."""

    def __init__(self, encoding: Encoding):
        self._encoding, self._place = encoding, encoding.placement
        self._old = encoding.graph
        self._constants: dict[str, Constant] = {}
        self._nodes: list[Node] = []
        self._types = dict(self._old.inputs)
        self._now: dict[str, str] = {}  # the value that stands for one of the old graph
        self._names = self._old.names()

    def graph(self) -> Graph:
        for name in self._old.inputs:
            self._held(name, "")
        for node in self._old:
            if node.name in self._place.layers:
                self._layer(node)
            else:
                self._append(node, node.inputs)
            self._held(node.name, node.path)
        outputs = tuple(
            Output(output.name, self._now.get(output.value, output.value))
            for output in self._old.outputs
        )
        for output in outputs:
            if output.value in self._old.constants:
                self._keep(output.value)
        return replace(
            self._old, constants=self._constants, nodes=tuple(self._nodes), outputs=outputs
        )

    def _append(self, node: Node, inputs: tuple[str, ...]) -> None:
        """Add a node of the old graph, which reads what now stands for its inputs."""
        for name in inputs:
            if name in self._old.constants:
                self._keep(name)
        now = tuple(self._now.get(name, name) for name in inputs)
        self._nodes.append(replace(node, inputs=now))
        self._types[node.name] = node.type

    def _held(self, name: str, path: str) -> None:
        """Hold a value in uint8 where it is to be: all that read it read what is left of it."""
        affine = self._encoding.values.get(name)
        if affine is None or name not in self._place.quantized:
            return
        scale = self._constant(f"{name}.scale", np.float32(affine.scale))
        zero = self._constant(f"{name}.zero_point", np.uint8(affine.zero))
        held = self._add(f"{name}.quantized", Quantize("uint8"), (name, scale, zero), path)
        self._now[name] = self._add(
            f"{name}.dequantized", Dequantize("float32"), (held, scale, zero), path
        )

    def _layer(self, node: Node) -> None:
        source = self._encoding.values[node.inputs[0]]
        known = self._encoding.weights[node.name].reading(source.scale)
        weight = self._integers(node.inputs[1], known.integers, known.scales, node.path)
        scale = sums_scale(source.scale, known.scales)
        name = next(iter(node.inputs[2:]), f"{node.path}.bias".lstrip("."))
        bias = self._integers(name, sums_bias(known.bias, scale), scale, node.path)
        now = (self._now[node.inputs[0]], weight, bias)
        self._nodes.append(replace(node, inputs=now))
        self._types[node.name] = node.type

    def _integers(self, name: str, integers: np.ndarray, scales: np.ndarray, path: str) -> str:
        """Add constant integers and what they stand for; return the name of that."""
        trained = name in self._old.constants and self._old.constants[name].trainable
        held = self._constant(f"{name}.integers", integers, trained)
        inputs = [held, self._constant(f"{name}.scale", scales)]
        if integers.dtype == np.int8:
            inputs.append(self._constant(f"{name}.zero_point", np.zeros(len(scales), np.int8)))
        return self._add(f"{name}.dequantized", Dequantize("float32", 0), tuple(inputs), path)

    def _keep(self, name: str) -> None:
        self._constants[name] = self._old.constants[name]
        self._types[name] = self._constants[name].type

    def _constant(self, name: str, numbers: np.ndarray | np.generic, trained: bool = False) -> str:
        free, data = take_name(name, self._names), np.asarray(numbers)
        self._constants[free] = Constant(TensorType(data.shape, str(data.dtype)), data, trained)
        self._types[free] = self._constants[free].type
        return free

    def _add(self, name: str, op: Op, inputs: tuple[str, ...], path: str) -> str:
        free = take_name(name, self._names)
        type_ = infer(op, *(self._types[each] for each in inputs))
        self._nodes.append(Node(free, op, inputs, type_, path))
        self._types[free] = type_
        return free
