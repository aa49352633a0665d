"""Copies, padding, resizing, reshaping and products of matrices in C against the interpreter."""

import numpy as np
import pytest
import torch
from kernel_cases import Case, check_close, check_equal, run
from kernel_harness import VECTORS
from torch import nn

from depthwise.compiler.lowering.loops import Loop, copy_loops, loops_of, merged
from depthwise.compiler.lowering.movement import common_axes
from depthwise.compiler.planning import make_plan
from depthwise.compiler.verification.oracle import check_plan
from depthwise.errors import Unsupported
from depthwise.graph import Constant, Graph, Node, Output, TensorType, capture, check, ops
from depthwise.graph.infer import infer_shape
from depthwise.graph.interpret import interpret
from depthwise.runtime.target import find_target

PARTS = (
    Case(ops.Concat(1), ((2, 3, 4, 5), (2, 17, 4, 5), (2, 1, 4, 5))),
    Case(ops.Concat(2), ((1, 5, 2, 3), (1, 5, 4, 3))),
    Case(ops.Concat(3), ((1, 5, 2, 3), (1, 5, 2, 1))),
    Case(ops.Concat(0), ((1, 5, 2, 3), (2, 5, 2, 3))),
    Case(ops.Concat(1), ((3, 4), (3, 7))),
    Case(ops.Concat(2), ((2, 3, 1), (2, 3, 2)), 1),
    Case(ops.Slice(1, 3, 9, 1), ((2, 11, 3, 4),)),
    Case(ops.Slice(1, 1, 11, 3), ((2, 11, 3, 4),)),
    Case(ops.Slice(2, 1, 8, 2), ((1, 18, 9, 7),)),
    Case(ops.Slice(3, 0, 7, 3), ((1, 18, 9, 7),)),
    Case(ops.Slice(0, 1, 3, 1), ((3, 2, 5, 4),)),
    Case(ops.Slice(1, 2, 5, 1), ((4, 6),)),
    Case(ops.Slice(2, 0, 5, 2), ((2, 3, 5, 2, 2),)),
)

# of seven axes that do not merge, and four of batches: cut into several calls
MANY = (
    Case(ops.Permute((0, 5, 3, 1, 6, 4, 2)), ((2, 2, 3, 4, 2, 3, 2),)),
    Case(ops.Expand((2, 3, 2, 3, 2, 3, 2, 3)), ((2, 1, 2, 1, 2, 1, 2, 1),)),
    Case(ops.Binary("add"), ((2, 2, 3, 2, 2, 3, 2), (2, 1, 3, 1, 2, 1, 2))),
    Case(ops.MatMul(), ((2, 3, 2, 3, 4, 5), (2, 1, 2, 1, 5, 4))),
    Case(ops.MatMul(), ((1, 3, 2, 3, 2, 4, 5), (5, 1, 2, 1, 2, 5, 4))),
)

SHAPES = (
    Case(ops.Reshape((2, 60)), ((2, 3, 4, 5),)),
    Case(ops.Reshape((2, 3, 4, 5)), ((2, 60),)),
    Case(ops.Reshape((1, 4, 5, 6)), ((1, 6, 5, 4),)),
    Case(ops.Reshape((1, 35, 2, 3)), ((1, 7, 5, 2, 3),)),
    Case(ops.Reshape((1, 7, 5, 2, 3)), ((1, 35, 2, 3),)),
    Case(ops.Reshape((10, 9)), ((6, 15),)),
    Case(ops.Reshape((1, 10, 9, 1)), ((1, 6, 15, 1),)),
    Case(ops.Reshape((2, 17)), ((2, 17, 1, 1),)),
    Case(ops.Reshape((2, 17, 1, 1)), ((2, 17),)),
    Case(ops.Reshape(()), ((1, 1, 1, 1),)),
    Case(ops.Permute((0, 2, 3, 1)), ((2, 19, 3, 5),)),
    Case(ops.Permute((0, 3, 1, 2)), ((1, 20, 33, 4),)),
    Case(ops.Permute((1, 0)), ((35, 18),)),
    Case(ops.Permute((0, 2, 1)), ((2, 50, 71),)),
    Case(ops.Permute((2, 0, 1)), ((3, 4, 5),)),
    Case(ops.Permute((0, 1, 4, 2, 5, 3)), ((1, 2, 3, 3, 4, 5),)),
    Case(ops.Expand((2, 5, 3, 4)), ((1, 5, 1, 1),)),
    Case(ops.Expand((2, 5, 3, 4)), ((5, 1, 4),)),
    Case(ops.Expand((4, 33)), ((4, 1),)),
    Case(ops.Expand((3, 4)), ((),)),
)

PADS = tuple(
    Case(ops.Pad(pads, mode, value), (shape,))  # type: ignore[arg-type]
    for mode, value, pads, shape in (
        ("constant", 0.0, ((0, 0), (0, 0), (1, 2), (3, 0)), (2, 17, 4, 5)),
        ("constant", -1.5, ((0, 0), (2, 3), (0, 0), (0, 0)), (1, 5, 3, 2)),
        ("constant", 2.0, ((0, 0), (0, 0), (-1, 2), (1, -2)), (1, 3, 4, 5)),
        ("constant", 0.0, ((0, 0), (0, 0), (-1, -1), (-2, 0)), (1, 3, 4, 5)),
        ("constant", 1.0, ((1, 0), (0, 2)), (3, 4)),
        ("constant", 0.0, ((0, 0), (0, 0), (2, 2), (0, 0), (0, 0)), (1, 1, 5, 3, 4)),
        ("reflect", 0.0, ((0, 0), (0, 0), (1, 2), (3, 0)), (2, 17, 4, 5)),
        ("replicate", 0.0, ((0, 0), (0, 0), (5, 2), (1, 7)), (1, 1, 4, 5)),
        ("circular", 0.0, ((0, 0), (0, 0), (2, 1), (3, 3)), (1, 33, 4, 5)),
        ("reflect", 0.0, ((0, 0), (2, 1), (1, -2), (0, 0)), (2, 5, 4, 3)),
        ("replicate", 0.0, ((0, 0), (0, 0), (1, 0), (0, 1), (2, 2)), (2, 3, 2, 3, 4)),
        ("reflect", 0.0, ((0, 0), (0, 0), (-2, 0), (0, 0)), (1, 3, 3, 2)),
    )
)

NEAREST = tuple(
    Case(ops.Resize("nearest", size, step), (shape,))
    for size, step, shape in (
        ((10, 14), (0.5, 0.5), (2, 17, 5, 7)),
        ((3, 4), (5 / 3, 7 / 4), (1, 3, 5, 7)),
        ((13, 9), (5 / 13, 7 / 9), (1, 1, 5, 7)),
        ((4, 4), (0.25, 0.25), (1, 64, 1, 1)),
    )
)

BILINEAR = tuple(
    Case(ops.Resize("bilinear", size, step, corners), (shape,))
    for size, step, corners, shape in (
        ((10, 14), (0.5, 0.5), False, (2, 17, 5, 7)),
        ((3, 4), (5 / 3, 7 / 4), False, (1, 3, 5, 7)),
        ((13, 9), (4 / 12, 6 / 8), True, (1, 33, 5, 7)),
        ((4, 3), (0.0, 0.0), True, (1, 64, 1, 1)),
        ((1, 1), (0.0, 0.0), True, (1, 16, 5, 7)),
        ((12, 16), (0.4, 0.45), False, (1, 1, 5, 7)),
    )
)

PRODUCTS = tuple(
    Case(ops.MatMul(), shapes, constants)
    for shapes, constants in (
        (((5, 7), (7, 35)), 2),
        (((1, 1), (1, 1)), 2),
        (((4, 3), (3, 16)), 2),
        (((6, 3), (3, 8)), 2),
        (((3, 3), (3, 4)), 2),  # one whole vector
        (((2, 9, 4), (2, 4, 17)), 2),
        (((2, 9, 4), (4, 64)), 1),
        (((2, 3, 5, 8), (2, 3, 8, 6)), 2),
        (((2, 1, 5, 8), (3, 8, 1)), 2),
        (((3, 2, 2, 5, 4), (2, 1, 4, 33)), 2),
    )
)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize(
    "cases",
    [PARTS, SHAPES, PADS, NEAREST, PRODUCTS],
    ids=["parts", "shapes", "pads", "nearest", "products"],
)
def test_movement_is_exact(cases, vector):
    check_equal(cases, vector)


# shape, axis, places
PLACES = (
    ((2, 5, 3, 4), 1, (4, 0, 3, 3, -5)),
    ((2, 17, 3, 4), 2, (2, 1, 0)),
    ((1, 33, 3, 4), 3, (3, -1, 0, 2, 1, 1)),
    ((3, 2, 5, 4), 0, (2, 0, 2)),
    ((1, 1, 1, 7), 3, (6, 5, 1)),
    ((6,), 0, (5, 2, 2, 0)),
    ((4, 6), 0, (3, 0)),
    ((2, 3, 2, 2, 5), 4, (1, 0, 4)),
    ((2, 3, 2, 2, 3, 2), 1, (2, 0)),
)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("computed", [False, True])
def test_places_are_gathered(computed, vector):
    random, nodes, constants, inputs = np.random.default_rng(0), [], {}, {}
    for i, (shape, axis, places) in enumerate(PLACES):
        inputs[f"x{i}"] = random.standard_normal(shape).astype(np.float32)
        if computed:
            inputs[f"at{i}"] = np.array(places, np.float32)
        else:
            constants[f"at{i}"] = Constant(TensorType((len(places),), "int64"), np.array(places))
        type_ = TensorType(infer_shape(ops.Gather(axis), shape, (len(places),)))
        nodes.append(Node(f"y{i}", ops.Gather(axis), (f"x{i}", f"at{i}"), type_, ""))
    types = {name: TensorType(x.shape) for name, x in inputs.items()}
    outputs = tuple(Output(node.name, node.name) for node in nodes)
    graph = check(Graph(types, constants, tuple(nodes), outputs))
    for naive in (False, True):
        found = run(graph, list(inputs.values()), vector=vector, naive=naive)
        for i, (y, (_, axis, places)) in enumerate(zip(found, PLACES, strict=True)):
            np.testing.assert_array_equal(y, np.take(inputs[f"x{i}"], places, axis))


@pytest.mark.parametrize("vector", VECTORS)
def test_computed_places_outside_of_an_axis_give_nan(vector):
    types = {"x": TensorType((2, 3, 5)), "at": TensorType((6,))}
    node = Node("y", ops.Gather(1), ("x", "at"), TensorType((2, 6, 5)), "")
    graph = check(Graph(types, {}, (node,), (Output("", "y"),)))
    x = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
    at = np.array([2, 3, -3, -4, np.nan, 1e30], np.float32)
    wanted = x[:, [2, 0, 0, 0, 0, 0]]
    wanted[:, [1, 3, 4, 5]] = np.nan
    np.testing.assert_array_equal(interpret(graph, x, at)["y"], wanted)
    for naive in (False, True):
        np.testing.assert_array_equal(run(graph, [x, at], vector=vector, naive=naive)[0], wanted)


def test_places_outside_of_an_axis_are_refused():
    at = Constant(TensorType((2,), "int64"), np.array([0, 3]))
    node = Node("y", ops.Gather(1), ("x", "at"), TensorType((1, 2)), "pick")
    graph = Graph({"x": TensorType((1, 3))}, {"at": at}, (node,), (Output("", "y"),))
    with pytest.raises(Unsupported, match=r"module 'pick' reads places 0 to 3 of an axis of 3"):
        make_plan(graph, find_target("x86-64-v2"))


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("cases", [BILINEAR, PRODUCTS], ids=["bilinear", "products"])
def test_interpolations_and_products_are_close(cases, vector):
    check_close(cases, vector, bound=5e-7)


def chain(shape: tuple[int, ...], *steps: ops.Op) -> Graph:
    """Return a graph of one operator after the other."""
    nodes, name, sizes = [], "x", shape
    for i, op in enumerate(steps):
        sizes = infer_shape(op, sizes)
        nodes.append(Node(f"y{i}", op, (name,), TensorType(sizes), f"step.{i}"))
        name = f"y{i}"
    return check(Graph({"x": TensorType(shape)}, {}, tuple(nodes), (Output("", name),)))


SHUFFLE = (ops.Reshape((2, 4, 9, 3, 5)), ops.Permute((0, 2, 1, 3, 4)), ops.Reshape((2, 36, 3, 5)))
PIXELS = (
    ops.Reshape((2, 9, 2, 2, 3, 5)), ops.Permute((0, 1, 4, 2, 5, 3)), ops.Reshape((2, 9, 6, 10)),
)  # fmt: skip
WRAP = ops.Pad(((0, 0), (0, 0), (0, 0), (1, 1)), "circular")
RELU = ops.Activation("relu")


@pytest.mark.parametrize(
    ("steps", "kernels"),
    [
        (SHUFFLE, ["f32_copy", "f32_copy", "f32_copy"]),  # the input's, one for all three, output's
        (PIXELS, ["f32_copy", "f32_copy", "f32_copy"]),
        ((*SHUFFLE, RELU, *SHUFFLE), None),
        ((ops.Permute((0, 2, 3, 1)), ops.Slice(1, 1, 3, 1), RELU), None),
        ((RELU, ops.Permute((0, 2, 3, 1)), ops.AdaptivePool2d("max", (2, 5))), None),
        ((RELU, ops.Expand((3, 2, 36, 3, 5)), ops.Slice(0, 1, 2, 1), RELU), None),
        ((ops.Reshape((2, 36, 15)), ops.Permute((0, 2, 1)), ops.Softmax(2)), None),
        ((ops.Slice(1, 4, 30, 2), ops.Slice(2, 0, 3, 2), WRAP,
          ops.Reshape((2, 13, 14)), ops.Reduce("sum", (1,), False)), None),
    ],
)  # fmt: skip
def test_views_in_a_row(steps, kernels):
    graph = chain((2, 36, 3, 5), *steps)
    x = np.random.default_rng(0).integers(-9, 10, (2, 36, 3, 5)).astype(np.float32)
    (y,) = run(graph, [x], vector=4, naive=False)
    expected = interpret(graph, x)[graph.outputs[0].value]
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    if kernels:
        plan = make_plan(graph, find_target("x86-64-v2"))
        assert [step.kernel for step in plan.steps] == kernels


class PaddedReader(nn.Module):
    """A convolution that needs zeros around what a view would show it."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        return self.convolution(torch.relu(x).view(2, 1, 3, 5))


def test_a_view_is_copied_where_a_border_is_needed():
    graph = capture(PaddedReader().eval(), (2, 15))
    x = np.random.default_rng(0).standard_normal((2, 15)).astype(np.float32)
    (y,) = run(graph, [x], vector=4, naive=False)
    np.testing.assert_allclose(y, interpret(graph, x)[graph.outputs[0].value], atol=1e-6)


def test_axes_merge_where_all_operands_step_evenly():
    shape = (2, 3, 4, 5)
    assert merged(loops_of(shape, (60, 20, 5, 1), (60, 20, 5, 1))) == [Loop(120, (1, 1))]
    assert merged(loops_of(shape, (60, 20, 5, 1), (0, 20, 5, 1))) == [
        Loop(2, (60, 0)), Loop(60, (1, 1)),
    ]  # fmt: skip
    assert merged(loops_of((1, 7, 1), (9, 9, 9))) == [Loop(7, (9,))]


def test_a_change_of_layout_is_a_plane_to_transpose():
    planes, pixels = (60, 20, 5, 1), (60, 1, 15, 3)  # (N, C, H, W) of (2, 3, 4, 5)
    assert copy_loops((2, 3, 4, 5), planes, pixels) == {
        "n": (1, 1, 1, 2, 20, 3),
        "x_stride": (0, 0, 0, 60, 1, 20),
        "y_stride": (0, 0, 0, 60, 3, 1),
    }
    assert copy_loops((4, 5, 6), (1, 4, 20), (30, 6, 1)) == {
        "n": (1, 1, 1, 5, 4, 6),
        "x_stride": (0, 0, 0, 4, 1, 20),
        "y_stride": (0, 0, 0, 6, 30, 1),
    }


def test_common_axes():
    assert common_axes((6, 4), (2, 12)) == (2, 3, 4)
    assert common_axes((6, 15), (10, 9)) is None
    assert common_axes((2, 3, 4), (24,)) == (2, 3, 4)
    assert common_axes((2,) * 7, (128,)) is None


@pytest.mark.parametrize("vector", VECTORS)
def test_calls_of_more_axes_than_loops_are_cut(vector):
    check_equal(MANY, vector)


def test_reductions_of_more_axes_than_loops_are_planned():
    class Scattered(nn.Module):
        def forward(self, x):
            return x.sum((1, 3, 5))

    plan = make_plan(capture(Scattered(), (2,) * 7), find_target("x86-64-v3"))
    check_plan(plan)


def test_an_axis_of_no_elements_stays_an_axis():
    assert loops_of((2, 0, 3), (9, 3, 1)) == [Loop(2, (9,)), Loop(0, (3,)), Loop(3, (1,))]
    assert copy_loops((2, 0, 3), (9, 3, 1), (9, 3, 1))["n"].count(0) == 1
