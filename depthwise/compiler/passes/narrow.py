"""Narrower types: values between layers and weights in 16 bits, casts where a layer has none."""

from collections.abc import Collection
from dataclasses import replace
from typing import cast

import numpy as np

from depthwise.compiler.fused_ops import (
    CastPairs,
    Epilogue,
    FlattenChannelsLast,
    Fused,
    convolution,
    is_function,
    takes_plane_mean,
)
from depthwise.graph import Constant, Graph, Node, Output, TensorType, ops
from depthwise.graph.dtypes import FLOAT32, DType
from depthwise.graph.names import take_name
from depthwise.graph.ops import Op
from depthwise.graph.rewrite import GraphRewriter, with_bias


def compute_in(graph: Graph, element: DType, kept: Collection[str] = ()) -> Graph:
    """Compute what has kernels in a narrow type in it, and convert between it and float32.

        y = conv(x, w, b)                 ->   y = fused(cast(x), w', b)   (y and w' are narrow)
        z = softmax(y)                    ->   z = softmax(cast(y, float32))
        z = relu(y), concat(y, u), ...    ->   narrow as well, where y is

    A convolution begins it; what only moves numbers, or computes with each, goes on with what it is
    given. Biases stay in float32, and so do all that a library takes and gives, and the nodes
    `kept`, by their names.
    """
    paired = _with_pairs(with_biases(graph), element, kept)
    return _NarrowGraph(paired, element, kept).result()


def _with_pairs(graph: Graph, element: DType, kept: Collection[str]) -> Graph:
    """Return the graph with a channel of zeros more where convolutions read an odd number.

    That is what reads images of three colours.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        op, x = convolution(node.op), (*node.inputs, "")[0]
        if not isinstance(op, ops.Conv2d) or op.groups > 1 or graph.type(x).shape[1] % 2 == 0:
            continue
        weight = edit.data(node.inputs[1])
        if weight is None or len(weight) % 2 or node.name in kept:
            continue
        sides = ((0, 0), (0, 1), (0, 0), (0, 0))
        padded = edit.add_constant(f"{node.inputs[1]}.pairs", np.pad(weight, sides), FLOAT32.name)
        # graph.ops.Op lists what capture makes; check and interpret find ours by dispatch
        made = cast(Op, CastPairs(element.name))
        pairs = edit.insert(node, f"{x}.pairs", made, x, path=node.path)
        edit.replace(node, node.op, pairs, padded, *node.inputs[2:], path=node.path)
    return edit.result()


def with_biases(graph: Graph) -> Graph:
    """Return the graph with each convolution in the form that has a bias and an epilogue."""
    edit = GraphRewriter(graph)
    for node in edit:
        if isinstance(node.op, ops.Conv2d | ops.Linear):
            edit.replace(node, Fused(node.op, Epilogue()), *with_bias(edit, node), path=node.path)
    return edit.result()


class _NarrowGraph:
    """The graph under construction; `narrow` are the values that have the narrow type."""

    def __init__(self, graph: Graph, element: DType, kept: Collection[str]):
        self.graph, self.element, self.kept = graph, element, kept
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.narrow: set[str] = set()
        self._cast: dict[tuple[str, str], str] = {}
        self._taken = graph.names()

    def result(self) -> Graph:
        """Convert every node, and what the network returns."""
        for node in self.graph:
            if isinstance(node.op, CastPairs):
                self.narrow.add(node.name)
            if isinstance(node.op, ops.Cast | CastPairs) or not self._has_narrow(node):
                inputs = tuple(self._read(name, FLOAT32.name) for name in node.inputs)
                self.nodes.append(replace(node, inputs=inputs))
                continue
            self.narrow.add(node.name)
            inputs = tuple(self._operand(node, index) for index in range(len(node.inputs)))
            type_ = replace(node.type, dtype=self.element.name)
            self.nodes.append(replace(node, inputs=inputs, type=type_))
        outputs = tuple(
            Output(o.name, self._read(o.value, FLOAT32.name)) for o in self.graph.outputs
        )
        return replace(
            self.graph, constants=self.constants, nodes=tuple(self.nodes), outputs=outputs
        )

    def _operand(self, node: Node, index: int) -> str:
        """Return an input of a narrow node, the bias alone in float32."""
        biased = convolution(node.op) is not None and index == 2
        return self._read(node.inputs[index], FLOAT32.name if biased else self.element.name)

    def _read(self, name: str, dtype: str) -> str:
        """Return the name of a value in a type; what is an integer is left as it is."""
        type_ = self.graph.type(name)
        own = self.element.name if name in self.narrow else type_.dtype
        if not type_.element.is_floating or own == dtype:
            if name in self.graph.constants:
                self.constants[name] = self.graph.constants[name]
            return name
        if (name, dtype) not in self._cast:
            self._cast[name, dtype] = self._convert(name, replace(type_, dtype=dtype))
        return self._cast[name, dtype]

    def _convert(self, name: str, type_: TensorType) -> str:
        made = take_name(f"{name}.{type_.dtype}", self._taken)
        constant = self.graph.constants.get(name)
        if constant is None:
            self.nodes.append(Node(made, ops.Cast(type_.dtype), (name,), type_, ""))
        else:
            data = type_.element.encode(self.graph.numbers(name))
            self.constants[made] = Constant(type_, data)
        return made

    def _has_narrow(self, node: Node) -> bool:
        """Tell whether a node has a kernel in the narrow type, and is to take it."""
        if node.type.dtype != FLOAT32.name or not is_paired(node.type) or node.name in self.kept:
            return False
        inner = convolution(node.op)
        if inner is not None:
            return self._convolves(node, inner)
        given = [name for name in node.inputs if name not in self.graph.constants]
        follows = any(name in self.narrow for name in given)
        types = [self.graph.type(name) for name in given]
        fits = all(is_paired(t) and t.dtype == FLOAT32.name for t in types)
        return follows and fits and _moves_or_maps(node)

    def _convolves(self, node: Node, op: Op) -> bool:
        x, weight = (self.graph.type(name) for name in node.inputs[:2])
        known = node.inputs[1] in self.graph.constants and node.inputs[2] in self.graph.constants
        if not known or not is_paired(x):
            return False
        if isinstance(op, ops.Linear):
            return True
        depthwise = isinstance(op, ops.Conv2d) and op.groups == weight.shape[0] == x.shape[1]
        return isinstance(op, ops.Conv2d) and (op.groups == 1 or depthwise)


def is_paired(type_: TensorType) -> bool:
    """Tell whether a value lies in pairs: kernels read two numbers of 16 bits at once."""
    shape = type_.shape
    return len(shape) >= 2 and (shape[1] if len(shape) == 4 else shape[-1]) % 2 == 0


def _moves_or_maps(node: Node) -> bool:
    """Tell whether a node only moves numbers, pools them, or computes with one after the other."""
    op = cast(Op, node.op.op) if isinstance(node.op, Fused) else node.op
    images = len(node.type.shape) == 4
    match op:
        case ops.Activation() | ops.Binary():
            return not is_function(op)
        case ops.Concat() | ops.Slice():
            pairs = isinstance(op, ops.Concat) or (op.step == 1 and op.start % 2 == 0)
            return images and op.axis == 1 and pairs
        case ops.MaxPool2d() | ops.AvgPool2d():
            return images
        case ops.Pad():
            return op.mode == "constant"
    moves = isinstance(op, ops.Reshape | ops.Permute | FlattenChannelsLast)
    return moves or takes_plane_mean(node)
