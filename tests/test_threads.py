"""Libraries on several threads: the same bits, with their own pool or with the host's."""

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.compiler.build import compile_c, thread_flags
from depthwise.compiler.emit import emit
from depthwise.compiler.library import Code, align_copy, aligned_bytes
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.places import Step
from depthwise.compiler.plan import Plan, make_plan
from depthwise.compiler.target import find_target
from depthwise.compiler.threads import Box, Divider, Share, conflict, cut, divide
from depthwise.graph import Graph, capture, export

NATIVE = find_target("native")

NETS = {
    "mobilenet_v3_small": lambda: dw.build("mobilenet_v3_small", num_classes=10),
    "ghostnet": lambda: dw.build("ghostnet", num_classes=10),
    "googlenet": lambda: dw.build("googlenet", num_classes=10),
    "grouped and transposed": lambda: nn.Sequential(
        nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.MaxPool2d(2), nn.Conv2d(32, 10, 3),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    torch.manual_seed(0)
    return {n: rewrite(capture(export(make().eval(), [(1, 3, 96, 80)]))) for n, make in NETS.items()}


def run(plan: Plan, x: np.ndarray, times: int = 1) -> list[np.ndarray]:
    code = Code(compile_c(emit(plan), plan.target, extra=thread_flags(plan.threads)))
    (output,) = plan.graph.outputs
    shape = plan.graph.type(output.value).shape
    arena, weights = aligned_bytes(code.arena_bytes), align_copy(plan.weights)
    results = []
    for _ in range(times):
        arena[:] = 0xFF  # not a number, wherever it is read before it is written
        results.append(np.empty(shape, np.float32))
        code.run(weights, [x], [results[-1]], arena)
    return results


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_compute_the_same_bits(name: str, threads: int, graphs, monkeypatch):
    monkeypatch.setattr("depthwise.compiler.threads.MEETING", 1.0)  # divides what is small as well
    x = np.random.default_rng(0).standard_normal((1, 3, 96, 80), np.float32)
    alone, shared = (make_plan(graphs[name], NATIVE, threads=n) for n in (1, threads))
    assert any(len(region) == threads for region in shared.regions)
    (expected,) = run(alone, x)
    for found in run(shared, x, times=20):
        np.testing.assert_array_equal(found, expected)
