"""Networks in bfloat16: kernels, twins and the simulator have the same bits on every target."""

import re

import numpy as np
import pytest
from kernel_cases import Case, make_graph

from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.fused_ops import Epilogue, Fused
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.verification.references.simulator import (
    simulate,
)
from depthwise.graph import Graph, ops
from depthwise.graph.ops import Padding
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import find_target
from depthwise.toolchain.build import compile_c

NONE, ONE, TWO = Padding(0, 0, 0, 0), Padding(1, 1, 1, 1), Padding(2, 2, 2, 2)
PLAIN, RELU, SWISH = Epilogue(), ops.Activation("relu6"), ops.Activation("hard_swish")
TARGETS = ("x86-64-amx", "x86-64-v4", "x86-64-v3", "x86-64-v2", "portable")


def conv(
    shape: tuple[int, ...], weight: tuple[int, ...], stride=(1, 1), padding=NONE, dilation=(1, 1),
    groups=1, epilogue=PLAIN,
) -> Case:  # fmt: skip
    op = Fused(ops.Conv2d(stride, padding, dilation, groups), epilogue)
    shapes = (shape, weight, weight[:1])
    if epilogue.add:
        height, width = (
            (n + sum(pad) - d * (k - 1) - 1) // s + 1
            for n, pad, d, k, s in zip(
                shape[2:], (padding[:2], padding[2:]), dilation, weight[2:], stride, strict=True
            )
        )
        return Case(op, (*shapes, (shape[0], weight[0], height, width)), 1)
    return Case(op, shapes, 1)


CONVOLUTIONS = (
    conv((1, 32, 7, 7), (64, 32, 1, 1)),
    conv((1, 24, 9, 5), (70, 24, 1, 1), epilogue=Epilogue(after=RELU)),
    conv((2, 40, 6, 7), (16, 40, 1, 1), epilogue=Epilogue(after=SWISH)),
    conv((1, 96, 3, 3), (10, 96, 1, 1)),
    conv((1, 2, 4, 5), (34, 2, 1, 1)),
    conv((1, 3, 11, 9), (24, 3, 3, 3), (2, 2), ONE, epilogue=Epilogue(after=RELU)),
    conv((1, 3, 14, 13), (8, 3, 7, 7), (2, 2), Padding(3, 3, 3, 3)),
    conv((1, 48, 9, 14), (40, 48, 3, 3), padding=ONE),
    conv((2, 64, 8, 7), (32, 64, 3, 3), (2, 2), ONE),
    conv((1, 36, 10, 17), (6, 36, 3, 3), padding=TWO, dilation=(2, 2)),
    conv((1, 8, 20, 3), (48, 8, 5, 1), padding=Padding(2, 2, 0, 0)),
)
DEPTHWISE = (
    conv((1, 32, 9, 15), (32, 1, 3, 3), padding=ONE, groups=32),
    conv((2, 42, 8, 9), (42, 1, 3, 3), (2, 2), ONE, groups=42, epilogue=Epilogue(after=RELU)),
    conv((1, 72, 7, 7), (72, 1, 5, 5), padding=TWO, groups=72, epilogue=Epilogue(after=SWISH)),
    conv((1, 6, 12, 5), (6, 1, 7, 7), padding=Padding(3, 3, 3, 3), groups=6),
    conv((1, 34, 9, 9), (34, 1, 3, 3), padding=TWO, dilation=(2, 2), groups=34),
)


def small_network() -> Graph:
    """Return a graph of all of them, and of what follows convolutions, in float32."""
    draw = np.random.default_rng(0)
    cases = (*CONVOLUTIONS, *DEPTHWISE)
    arrays = [[draw.standard_normal(shape).astype(np.float32) for shape in c.inputs] for c in cases]
    for values in arrays:
        values[1] /= np.sqrt(values[1][0].size)
    return make_graph(cases, arrays)


def run(graph: Graph, target: str, inputs: list[np.ndarray], naive: bool = False):
    """Return the outputs of a rewritten graph in C, every kernel of bfloat16 by its naive twin."""
    plan = make_plan(graph, find_target(target), threads=1)
    text = emit(plan)
    if naive:
        text = re.sub(r"\b(bf16_\w+)\(&numbers", r"\1_naive(&numbers", text)
    code = Code(compile_c(text, plan.target))
    outputs = [np.full(graph.type(o.value).shape, np.nan, np.float32) for o in graph.outputs]
    code.run(align_copy(plan.weights), inputs, outputs, aligned_bytes(code.arena_bytes))
    return outputs


def draw_inputs(graph: Graph) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    return [draw.standard_normal(t.shape).astype(np.float32) for t in graph.inputs.values()]


def needs(target: str) -> str:
    if not find_target(target).runs_here:
        pytest.skip(f"this CPU does not run {target}: NOT TESTED")
    return target


@pytest.fixture(scope="module")
def narrow() -> Graph:
    return rewrite(small_network(), precision="bfloat16")


@pytest.mark.parametrize("naive", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_and_twins_have_the_bits_of_the_simulator(narrow: Graph, target: str, naive: bool):
    inputs = draw_inputs(narrow)
    found = run(narrow, needs(target), inputs, naive)
    expected = simulate(narrow, *inputs)
    for output, y, x in zip(narrow.outputs, found, expected, strict=True):
        case = (*CONVOLUTIONS, *DEPTHWISE)[int(output.name)]
        np.testing.assert_array_equal(y, x, f"{case}")
