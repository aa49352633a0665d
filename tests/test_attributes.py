"""Attributes with which an operator has a shape and no sense are refused before code is made."""

from math import inf, nan

import pytest

from depthwise.graph import Graph, Node, Output, TensorType, check, ops
from depthwise.graph.attributes import check_attributes
from depthwise.graph.ops import Padding

X = (1, 6, 8, 8)
NONE, ONE = Padding(0, 0, 0, 0), Padding(1, 1, 1, 1)


def conv(stride=(1, 1), padding=NONE, dilation=(1, 1), groups=1):
    return ops.Conv2d(stride, padding, dilation, groups)


def max_pool(kernel=(2, 2), stride=(2, 2), padding=NONE, dilation=(1, 1)):
    return ops.MaxPool2d(kernel, stride, padding, dilation, False)


def avg_pool(kernel=(2, 2), padding=NONE, divisor=None):
    return ops.AvgPool2d(kernel, (2, 2), padding, False, True, divisor)


REFUSED = [
    (conv(stride=(0, 1)), [X, (4, 6, 3, 3)], r"stride=\(0, 1\): 1 or more"),
    (conv(stride=(2, -1)), [X, (4, 6, 3, 3)], r"stride=\(2, -1\): 1 or more"),
    (conv(dilation=(1, 0)), [X, (4, 6, 3, 3)], r"dilation=\(1, 0\): 1 or more"),
    (conv(groups=0), [X, (4, 6, 3, 3)], r"groups=0: 1 or more"),
    (conv(padding=Padding(0, -1, 0, 0)), [X, (4, 6, 3, 3)], "padding=.*: 0 or more pixels"),
    (conv(), [(6, 8, 8), (4, 6, 3, 3)], r"the input's shape=\(6, 8, 8\): 4 axes"),
    (ops.ConvTranspose2d((1, 1), Padding(-1, 0, 0, 0), (1, 1), 1), [X, (6, 4, 3, 3)],
     "padding=.*: 0 or more pixels at the top and left"),
    (ops.DeformConv2d((1, 1), ONE, (1, 1), 1, 4), [X, (4, 6, 3, 3)], "offset_groups=4: a divisor"),
    (ops.DeformConv2d((1, 1), ONE, (1, 1), 3, 1), [X, (4, 2, 3, 3)], "groups=3: a divisor of 4"),
    (ops.DeformRoIPool(0, 1.0, 1, 0.1), [X, (2, 5), (2, 2, 0, 0)], "output_size=0: 1 or more"),
    (ops.DeformRoIPool(3, 1.0, 0, 0.1), [X, (2, 5), (2, 2, 3, 3)], "samples=0: 1 or more"),
    (max_pool(kernel=(0, 2)), [X], r"kernel=\(0, 2\): 1 or more"),
    (max_pool(padding=Padding(2, 0, 0, 0)), [X], "padding=.*: 0 or more .* fewer than the window"),
    (avg_pool(padding=Padding(0, 0, 0, 2)), [X], "padding=.*: 0 or more .* fewer than the window"),
    (avg_pool(divisor=0), [X], "divisor=0: 1 or more"),
    (ops.AdaptivePool2d("max", (0, 1)), [X], r"size=\(0, 1\): 1 or more"),
    (ops.Resize("nearest", (4, 4), (nan, 1.0)), [X], r"step=\(nan, 1.0\): finite"),
    (ops.Resize("nearest", (4, 4), (1.0, -1.0)), [X], r"step=\(1.0, -1.0\): finite"),
    (ops.Resize("bilinear", (4, 4), (inf, 1.0)), [X], r"step=\(inf, 1.0\): finite"),
    (ops.Resize("bilinear", (4, 4), (1.0, 1.0)), [X[1:]], "the input's shape=.*: 4 axes"),
    (ops.Resample(4, (0,), (1,)), [X, (1,)], "axis=4: an axis of"),
    (ops.Resample(2, (0, 1), (1, 0)), [X, (1,)], r"counts=\(1, 0\): 1 or more, for each of 2"),
    (ops.Resample(2, (), ()), [X, (0,)], r"counts=\(\): 1 or more"),
    (ops.Recurrent("gru"), [(3, 5), (12, 5), (12, 4), (12,), (12,), (1, 4)], "3 axes"),
    (ops.LocalResponseNorm(0, 1.0, 1.0, 1.0), [X], "size=0: 1 or more"),
    (ops.GroupNorm(2, 1e-5), [(6,)], r"the input's shape=\(6,\): \(N, C"),
    (ops.LayerNorm(5, 1e-5), [X], "axes=5: 1 to 4"),
    (ops.LayerNorm(0, 1e-5), [X], "axes=0: 1 to 4"),
    (ops.Linear(), [()], r"the input's shape=\(\): \(\.\.\., C\)"),
    (ops.Reduce("sum", (4,), True), [X], r"axes=\(4,\): axes of"),
    (ops.Reduce("sum", (1, 1), True), [X], r"axes=\(1, 1\): axes of"),
    (ops.Softmax(-1), [X], "axis=-1: an axis of"),
    (ops.Concat(4), [X, X], "axis=4: an axis of"),
    (ops.Slice(4, 0, 1, 1), [X], "axis=4: an axis of"),
    (ops.Gather(4), [X, (3,)], "axis=4: an axis of"),
    (ops.Slice(1, 0, 1, 0), [X], "step=0: 1 or more"),
    (ops.Pad(((0, 0),), "constant"), [X], "pads=.*: a pair for each axis"),
    (ops.Pad(((0, 0), (0, 0), (-9, 12), (0, 0)), "constant"), [X], "pads=.*: constant pads that"),
    (ops.Pad(((0, 0), (0, 0), (8, 0), (0, 0)), "reflect"), [X], "pads=.*: reflect pads that fit"),
    (ops.Pad(((0, 0), (0, 0), (9, 0), (0, 0)), "circular"), [X], "pads=.*: circular pads that"),
    (ops.Activation("clamp", (1.0,)), [X], r"parameters=\(1.0,\): 2 for clamp"),
    (ops.Activation("relu", (1.0,)), [X], r"parameters=\(1.0,\): 0 for relu"),
    (ops.Quantize("int8", -1), [X, (8,)], "axis=-1: None or an axis"),
    (ops.Dequantize("float32", 4), [X, (8,)], "axis=4: None or an axis"),
    (ops.Reshape((-6, -64)), [X], r"shape=\(-6, -64\): 1 or more"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "shapes", "message"), REFUSED, ids=[repr(case[0]) for case in REFUSED]
)
def test_attributes_without_sense_are_refused(op, shapes, message):
    with pytest.raises(ValueError, match=message):
        check_attributes(op, *shapes)


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        (ops.ConvTranspose2d((2, 2), Padding(0, -1, 0, -1), (1, 1), 1), [X, (6, 4, 3, 3)]),
        (max_pool(padding=ONE), [X]),
        (max_pool(padding=Padding(2, 2, 2, 2), dilation=(2, 2)), [X]),
        (ops.Resize("bilinear", (1, 1), (0.0, 0.0), True), [X]),
        (ops.Pad(((0, 0), (-3, 2), (7, 7), (8, 0)), "constant"), [X]),
        (ops.Pad(((0, 0), (0, 0), (7, 7), (0, 0)), "reflect"), [X]),
        (ops.Pad(((0, 0), (0, 0), (8, 8), (0, 0)), "circular"), [X]),
        (ops.Reduce("sum", (), True), [X]),
        (ops.Reshape(()), [(1,)]),
    ],
    ids=repr,
)
def test_what_is_at_the_limit_is_accepted(op, shapes):
    check_attributes(op, *shapes)


def test_check_says_which_node_it_is():
    node = Node("y", ops.Softmax(2), ("x",), TensorType((2, 3)), "head.softmax")
    graph = Graph({"x": TensorType((2, 3))}, {}, (node,), (Output("", "y"),))
    with pytest.raises(AssertionError, match=r"y at head.softmax: axis=2: an axis of \(2, 3\)"):
        check(graph)


def test_a_shape_that_is_negative_twice_has_no_elements():
    node = Node(
        "y", ops.Conv2d((1, 1), NONE, (1, 1), 1), ("x", "w"), TensorType((1, 1, -1, -1)), ""
    )
    types = {"x": TensorType((1, 1, 1, 1)), "w": TensorType((1, 1, 3, 3))}
    with pytest.raises(AssertionError, match=r"y has the shape \(1, 1, -1, -1\), no elements"):
        check(Graph(types, {}, (node,), (Output("", "y"),)))
