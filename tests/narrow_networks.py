"""Networks for precisions of 16 bits, run by kernels and by their twins."""

import re

import numpy as np
import pytest
import torch
from kernel_cases import Case, make_graph
from torch import nn

from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.fused_ops import Epilogue, Fused
from depthwise.compiler.planning import make_plan
from depthwise.graph import Graph, ops
from depthwise.graph.ops import Padding
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import find_target
from depthwise.toolchain.build import compile_c

TARGETS = ("x86-64-v4", "x86-64-v3", "x86-64-v2", "portable")  # beside each type's own

NONE, ONE, TWO = Padding(0, 0, 0, 0), Padding(1, 1, 1, 1), Padding(2, 2, 2, 2)
PLAIN, RELU, SWISH = Epilogue(), ops.Activation("relu6"), ops.Activation("hard_swish")


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
    conv((1, 32, 11, 11), (10, 32, 3, 3), padding=Padding(8, 8, 8, 8), dilation=(8, 8)),  # areas
    conv((1, 6, 12, 9), (12, 6, 3, 3), padding=Padding(9, 9, 1, 1), dilation=(9, 1)),
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
    """Return the outputs of a rewritten graph in C; kernels of 16 bits by naive twins if asked."""
    plan = make_plan(graph, find_target(target), threads=1)
    text = emit(plan)
    if naive:
        text = re.sub(r"\b(b?f16_\w+)\(&numbers", r"\1_naive(&numbers", text)
        assert "_naive(&numbers" in text
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


class Block(nn.Module):
    """All that follows convolutions: a residual, a gate, a concatenation, pools, softmax.

    An `exact` one has nothing whose sums are in no order that is defined.
    """

    def __init__(self, exact: bool = False):
        super().__init__()
        self.exact = exact
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.expand, self.project = nn.Conv2d(24, 72, 1), nn.Conv2d(72, 24, 1)
        self.depthwise = nn.Conv2d(72, 72, 3, 1, 1, groups=72)
        self.squeeze, self.excite = nn.Conv2d(72, 8, 1), nn.Conv2d(8, 72, 1)
        self.grouped = nn.Conv2d(24, 24, 3, 1, 1, groups=1 if exact else 4)  # groups in float32
        self.dense, self.classify = nn.Conv2d(48, 40, 3, 2, 1), nn.Linear(40, 10)

    def forward(self, x):
        x = nn.functional.hardswish(self.stem(x))
        y = nn.functional.relu6(self.depthwise(nn.functional.relu6(self.expand(x))))
        gate = nn.functional.relu(self.squeeze(y.mean((2, 3), keepdim=True)))
        y = self.project(y * nn.functional.hardsigmoid(self.excite(gate))) + x
        y = torch.cat([y, self.grouped(y)], 1)
        y = nn.functional.max_pool2d(nn.functional.relu(self.dense(y)), 3, 2, 1)
        scores = self.classify(y.mean((2, 3), keepdim=True).flatten(1))
        return scores if self.exact else scores.softmax(1)
