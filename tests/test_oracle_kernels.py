"""The oracle's kernels in NumPy: none is missing, and each gives what the C kernel gives."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from kernel_cases import TARGETS, Case, make_graph, random_arrays

from depthwise.compiler.codegen.emit import emit_units
from depthwise.compiler.constants import constants_of
from depthwise.compiler.fused_ops import FloatPlaces
from depthwise.compiler.kernels import KERNELS
from depthwise.compiler.lowering.algorithms import Algorithms, candidates
from depthwise.compiler.pipeline import UNITS, rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.preparation import Preparation
from depthwise.compiler.verification.oracle.executor import call
from depthwise.compiler.verification.oracle.meanings import MEANINGS
from depthwise.compiler.verification.oracle.memory import Memory
from depthwise.graph import Graph, Node, Output, TensorType, check, ops
from depthwise.graph.dtypes import FLOAT32, LIBRARY_DTYPES, NARROW, find_dtype
from depthwise.graph.ops import LocalResponseNorm, Padding
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import Target, find_target
from depthwise.toolchain.build import compile_c

BOUND = 1e-5  # of an output's largest element
FLAT, ONE = Padding(0, 0, 0, 0), Padding(1, 1, 1, 1)
X = (2, 6, 9, 11)


def conv(shape, weight, stride=(1, 1), padding=FLAT, dilation=(1, 1), groups=1) -> Case:
    return Case(ops.Conv2d(stride, padding, dilation, groups), (shape, weight, weight[:1]), 1)


CASES = (
    conv((1, 3, 9, 8), (12, 3, 3, 3), padding=ONE),
    conv((2, 16, 13, 12), (40, 16, 3, 3), padding=ONE),
    conv((1, 32, 14, 15), (33, 32, 3, 3), padding=ONE),
    conv((1, 24, 12, 12), (20, 24, 5, 5), padding=Padding(2, 2, 2, 2)),
    conv((1, 24, 5, 17), (20, 24, 1, 7), padding=Padding(0, 0, 3, 3)),
    conv((1, 16, 11, 10), (8, 16, 1, 1)),
    conv((1, 72, 5, 6), (12, 72, 1, 1)),
    conv(X, (9, 2, 3, 2), (2, 1), ONE, (1, 2), 3),
    conv((2, 20, 9, 8), (20, 1, 3, 3), (2, 1), ONE, groups=20),
    Case(ops.ConvTranspose2d((2, 3), ONE, (1, 1), 1), (X, (6, 5, 4, 3), (5,)), 1),
    Case(ops.Linear(), ((3, 4, 19), (21, 19), (21,)), 1),
    Case(
        ops.DeformConv2d((1, 2), ONE, (1, 1), 2, 2),
        ((1, 8, 6, 7), (6, 4, 3, 3), (6,), (1, 36, 6, 4), (1, 18, 6, 4)), 0,
    ),
    Case(ops.MatMul(), ((2, 3, 4, 5), (2, 3, 5, 19))),
    Case(ops.BatchNorm(10.0), (X, (6,), (6,), (6,), (6,)), 1),
    Case(ops.GroupNorm(3, 1e-3), (X, (6,), (6,))),
    Case(ops.LayerNorm(2, 1e-3), (X, (9, 11), (9, 11)), 1),
    Case(ops.MaxPool2d((3, 2), (2, 1), Padding(1, 1, 1, 1), (1, 2), True), (X,)),
    Case(ops.AvgPool2d((3, 3), (2, 2), ONE, True, True, None), (X,)),
    Case(ops.AvgPool2d((3, 3), (2, 2), ONE, False, False, None), (X,)),
    Case(ops.AvgPool2d((2, 3), (2, 1), FLAT, False, False, 5), (X,)),
    Case(ops.AdaptivePool2d("max", (4, 5)), (X,)),
    Case(ops.AdaptivePool2d("mean", (1, 1)), (X,)),
    Case(ops.Reduce("min", (1, 3), False), (X,)),
    Case(ops.Reduce("sum", (2,), True), (X,)),
    Case(ops.Reduce("product", (1,), False), (X,)),
    Case(FloatPlaces(ops.ArgReduce("max", 1, False)), (X,)),
    Case(FloatPlaces(ops.ArgReduce("min", 3, True)), (X,)),
    Case(FloatPlaces(ops.TopK(2, 9, True, "indices")), (X,)),
    Case(ops.TopK(1, 2, False, "values"), (X,)),
    Case(ops.Cumulate("sum", 1), (X,)),
    Case(ops.Cumulate("min", 3), (X,)),
    Case(FloatPlaces(ops.MaxPoolIndices((3, 2), (2, 1), ONE, (1, 2), True)), (X,)),
    Case(FloatPlaces(ops.MaxUnpool2d((3, 4))), ((2, 3, 2, 3), (2, 3, 2, 3))),
    Case(FloatPlaces(ops.TakeAlong(1)), (X, (2, 2, 9, 11))),
    Case(ops.Softmax(1), (X,)),
    Case(ops.Softmax(3), (X,)),
    Case(ops.PRelu(), (X, (6,)), 1),
    Case(ops.Binary("maximum"), (X, (1, 6, 1, 11))),
    Case(ops.Binary("divide"), (X, X)),
    Case(ops.Gather(2), (X, (5,))),
    Case(ops.Pad(((0, 0), (1, 0), (2, 1), (-1, 3)), "constant", 0.5), (X,)),
    Case(ops.Pad(((0, 0), (0, 0), (2, 1), (1, 3)), "reflect", 0.0), (X,)),
    Case(ops.Resize("bilinear", (5, 22), (9 / 5, 0.5), False), (X,)),
    Case(ops.Resize("nearest", (18, 7), (0.5, 11 / 7), False), (X,)),
    Case(ops.Resize("nearest_exact", (5, 7), (9 / 5, 11 / 7), False), (X,)),
    Case(ops.Resample(2, (0, 3, 6), (2, 1, 3)), (X, (6,)), 1),
    Case(ops.Resample(3, (0, 3, 6), (2, 1, 3)), (X, (6,)), 1),
    *(Case(ops.GridSample(mode, "reflection", False), (X, (2, 4, 3, 2)))
      for mode in ("bilinear", "bicubic")),
    Case(
        ops.Recurrent("lstm"),
        ((3, 2, 5), (76, 5), (76, 7), (76,), (76,), (2, 7), (2, 19), (7, 19)), 1,
    ),
    Case(
        ops.Recurrent("gru", True), ((3, 3, 5), (12, 5), (12, 4), (12,), (12,), (3, 4)), 1,
    ),
    Case(
        ops.Recurrent("gru_reset_first"), ((2, 1, 5), (9, 5), (9, 3), (9,), (9,), (1, 3)), 1,
    ),
    Case(ops.Recurrent("rnn_relu"), ((3, 1, 5), (4, 5), (4, 4), (4,), (4,), (1, 4)), 1),
    Case(ops.Permute((0, 3, 1, 2)), (X,)),
    Case(ops.DeformRoIPool(2, 0.5, 3, 0.1), ((1, 5, 8, 9), (2, 5), (2, 2, 2, 2))),
    *(Case(ops.Activation(name), (X,)) for name in (
        "relu", "relu6", "hard_swish", "hard_sigmoid", "sigmoid", "silu", "gelu", "gelu_tanh",
        "tanh", "softplus", "mish", "exp", "abs", "negative",
    )),
    Case(ops.Activation("leaky_relu", (0.2,)), (X,)),
    Case(ops.Activation("elu", (0.7,)), (X,)),
    Case(ops.Activation("clamp", (-0.5, 0.8)), (X,)),
    Case(ops.Activation("sin"), (X,)),
    Case(ops.Activation("threshold", (0.3, -0.7)), (X,)),
    Case(ops.Binary("arctan2"), (X, (1, 6, 1, 11))),
)  # fmt: skip


def response_norm() -> tuple[Graph, list[np.ndarray]]:
    """Return the only operator that a pass makes and no case can have."""
    case = Case(LocalResponseNorm(4, 0.5, 0.75, 1.0), (X,))  # type: ignore[arg-type]
    arrays = random_arrays([case], whole=False)
    return make_graph([case], arrays), arrays[0]


def prepared() -> tuple[Graph, list[np.ndarray]]:
    """Return a network that takes raw images of bytes, which are read with a border."""
    case = conv((1, 3, 9, 8), (12, 3, 3, 3), padding=ONE)
    arrays = random_arrays([case], whole=False)
    way = Preparation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "uint8", "nhwc")
    graph = rewrite(make_graph([case], arrays), way)
    return graph, [way.draw(np.random.default_rng(0), (1, 9, 8, 3))]


def typed() -> tuple[Graph, list[np.ndarray]]:
    """Return a network that takes and gives tensors of every type, and one that chooses."""
    inputs = {f"x_{name}": TensorType((2, 19), name) for name in LIBRARY_DTYPES}
    images = TensorType((1, 6, 9, 11))
    nodes = [
        Node(f"y_{name}", ops.Cast(name), ("x_float32",), TensorType((2, 19), name), "")
        for name in LIBRARY_DTYPES if name != FLOAT32.name
    ] + [
        Node(f"z_{name}", ops.Cast(FLOAT32.name), (f"x_{name}",), TensorType((2, 19)), "")
        for name in LIBRARY_DTYPES if name != FLOAT32.name
    ] + [
        Node("over", ops.Compare("less"), ("image", "other"), replace(images, dtype="bool"), ""),
        Node("chosen", ops.Where(), ("over", "image", "other"), images, ""),
    ]  # fmt: skip
    inputs |= {"image": images, "other": images}
    outputs = tuple(Output(node.name, node.name) for node in nodes if node.name != "over")
    random = np.random.default_rng(0)
    drawn = [type_.element.draw(random, type_.shape) for type_ in inputs.values()]
    drawn[0] = 9 * drawn[0]  # numbers with whole parts
    return rewrite(check(Graph(inputs, {}, tuple(nodes), outputs))), drawn


def cases() -> tuple[Graph, list[np.ndarray]]:
    arrays = random_arrays(CASES, whole=False)
    for case, values in zip(CASES, arrays, strict=True):
        if isinstance(case.op, ops.DeformRoIPool):
            values[1] = np.array([[0, 1, 2, 13, 14], [0, -3, 0, 9, 5]], np.float32)
        if isinstance(case.op, FloatPlaces) and len(values) > 1:  # places
            values[1] = np.floor(values[1])
        if isinstance(case.op, ops.BatchNorm):
            values[4] = np.abs(values[4])
    inputs = [
        x for case, values in zip(CASES, arrays, strict=True) for x in values[: case.constants]
    ]
    return make_graph(CASES, arrays), inputs


def ways(graph: Graph, target: Target, every: bool) -> list[Algorithms]:
    """Return maps of algorithms: one that mixes the candidates, or together all of them."""
    layers = make_plan(graph, target, optimize=None).algorithms
    found = {layer: candidates(layer, constants_of(target)) for layer in layers}
    most = max(map(len, found.values()), default=1) if every else 1
    return [
        {layer: tried[(at + turn) % len(tried)] for at, (layer, tried) in enumerate(found.items())}
        for turn in range(most)
    ]


def in_c(plan: Plan, inputs: list[np.ndarray]) -> list[np.ndarray]:
    code = Code(compile_c(emit_units(plan, UNITS), plan.target, extra=("-O1",)))
    outputs = [
        np.empty(b.elements, find_dtype(b.dtype).storage)
        for b in plan.buffers
        if b.space == "output"
    ]
    arena = aligned_bytes(code.arena_bytes)
    code.run(align_copy(plan.weights), [np.ascontiguousarray(x) for x in inputs], outputs, arena)
    return outputs


def in_numpy(plan: Plan, inputs: list[np.ndarray]) -> list[np.ndarray]:
    memory = Memory.of(plan.buffers, plan.arena, plan.weights, inputs, plan.threads)
    for step in plan.steps:
        call(step, memory, plan.target.lanes)
    outputs = (n for n, buffer in enumerate(plan.buffers) if buffer.space == "output")
    return [memory.cells[number].values for number in outputs]


@cache
def plans(vector: int, every: bool) -> list[tuple[Plan, list[np.ndarray]]]:
    target = find_target(TARGETS[vector])
    graph, inputs = cases()
    mixed = ways(graph, target, every)
    found = [(make_plan(graph, target, optimize=None, algorithms=way), inputs) for way in mixed]
    for graph, inputs in (response_norm(), prepared(), typed()):
        found.append((make_plan(graph, target), inputs))
    return found


# of quantised networks alone; bytes are copied in others as well
OF_BYTES = {
    name for name, row in KERNELS.items()
    if row.header in ("conv_u8", "depthwise_u8", "elementwise_u8", "movement_u8", "pool_u8")
} - {"u8_copy"}  # fmt: skip


def test_no_kernel_is_missing():
    # those of 16 bits and of bytes are held to simulators, bit by bit, where they run
    known = {
        name for name, row in KERNELS.items() if row.dtype not in NARROW and name not in OF_BYTES
    }
    assert set(MEANINGS) == known
    steps = [step for vector in TARGETS for plan, _ in plans(vector, False) for step in plan.steps]
    assert {step.kernel for step in steps} == known
    assert {s.arguments["tile_depth"] for s in steps if s.kernel == "f32_conv"} == {1, 2, 4}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("vector", TARGETS)
def test_each_kernel_gives_what_c_gives(vector: int, every: bool):
    if not find_target(TARGETS[vector]).runs_here:
        pytest.skip(f"this CPU has no vectors of {vector} floats")
    for number, (plan, inputs) in enumerate(plans(vector, every)):
        names = [output.name for output in plan.graph.outputs]
        found = zip(names, in_numpy(plan, inputs), in_c(plan, inputs), strict=True)
        for name, ours, theirs in found:
            said = str(CASES[int(name)]) if len(names) == len(CASES) else name
            error = np.abs(ours * 1.0 - theirs).max() / np.abs(theirs * 1.0).max()
            assert error <= BOUND, f"plan {number}, {said}: {error:.2e} off"
