"""Streaming in bands of rows: the same numbers, bit by bit, from less memory."""

import numpy as np
import pytest
import torch
from other_constants import PLACE, changed
from precisions import BEST, Case, in_precision
from tiers import slow_where
from torch import nn

import depthwise as dw
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.partition import Optimize
from depthwise.graph import Graph, capture, export
from depthwise.layers import GhostModule, SqueezeExcite
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import find_target
from depthwise.toolchain.build import compile_c

NATIVE = find_target("native")


def graph_of(net: nn.Module, *shape: int) -> Graph:
    return rewrite(capture(export(net.eval(), [shape])))


def run(plan: Plan, x: np.ndarray) -> np.ndarray:
    code = Code(compile_c(emit(plan), plan.target))
    (output,) = plan.graph.outputs
    y = np.empty(plan.graph.type(output.value).shape, np.float32)
    arena = aligned_bytes(code.arena_bytes)
    arena[:] = 0xFF  # not a number, wherever it is read before it is written
    code.run(align_copy(plan.weights), [x], [y], arena)
    return y


def separable(stride: int, kernel: int = 3, dilation: int = 1) -> nn.Module:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(24, 24, kernel, stride, padding, dilation, groups=24), nn.Hardswish(),
        nn.Conv2d(24, 17, 1),
    )  # fmt: skip


class Residual(nn.Module):
    """A block whose residual is streamed with it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.inside = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2)
        )

    def forward(self, x):
        x = self.first(x)
        return torch.relu(x + self.inside(x))


NETS = {
    "separable stride 1": lambda: separable(1),
    "separable stride 2": lambda: separable(2),
    "5x5 stride 2": lambda: separable(2, 5),
    "dilated": lambda: separable(1, 3, 3),
    "residual": Residual,
    "ghost": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), GhostModule(8, 20), GhostModule(20, 6)),
    "gated": lambda: nn.Sequential(
        nn.Conv2d(3, 24, 1), nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.Hardswish(),
        SqueezeExcite(24, 6), nn.Conv2d(24, 4, 1),
    ),
    "transposed": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 6, 4, 2, 1),
        nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1),
    ),
    "valid": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 5, 2)
    ),
    "rows left over": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, 3), nn.Conv2d(8, 4, 3, 2)
    ),
}  # fmt: skip
IN_REDUCED_PRECISIONS = ("5x5 stride 2", "residual", "gated", "rows left over")  # the rest: slow


def test_a_gate_is_multiplied_in_place():
    plan = make_plan(graph_of(NETS["gated"](), 1, 3, 16, 16), NATIVE)
    (gate,) = [step for step in plan.steps if step.kernel == "f32_binary"]
    (layer,) = [step for step in plan.steps if step.kernel == "f32_depthwise"]
    totals, out = layer.written
    read, *_, written = [(view.buffer, view.offset) for view in gate.views]
    assert read == written == (out.buffer, out.offset)
    (mean,) = [step for step in plan.steps if step.kernel == "f32_avg_pool"]
    assert mean.views[0].buffer == totals.buffer


class ReadAgain(nn.Module):
    """A value that is gated, and then averaged, or read as it is."""

    def __init__(self, average: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 1)
        # dense: the mean then reads the plane itself, not the totals of its rows
        self.layer = nn.Conv2d(24, 24, 3, padding=1, groups=1 if average else 24)
        self.average = average

    def forward(self, x):
        x = self.layer(self.first(x))
        if self.average:
            half = x * 0.5
            return half - x.mean((2, 3), keepdim=True)
        return torch.maximum(x * torch.sigmoid(x.mean((2, 3), keepdim=True)), x)


@pytest.mark.parametrize("average", [False, True])
def test_what_is_read_again_is_not_written_over(average: bool):
    torch.manual_seed(0)
    net = ReadAgain(average).eval()
    graph = graph_of(net, 1, 3, 16, 16)
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    for optimize in ("speed", "memory"):
        found = run(make_plan(graph, NATIVE, optimize=optimize), x)
        np.testing.assert_allclose(found, expected, atol=1e-5)


class AveragedBeside(nn.Module):
    """A mean of a plane whose other reader leaves out its last row."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 1)
        self.layer = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.strided = nn.Conv2d(24, 24, 1, stride=2)

    def forward(self, x):
        x = self.layer(self.first(x))
        return self.strided(x) * x.mean((2, 3), keepdim=True)


def test_every_row_is_totalled_though_its_reader_leaves_some_out():
    torch.manual_seed(0)
    graph = graph_of(AveragedBeside(), 1, 3, 16, 16)
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32)
    expected = run(make_plan(graph, NATIVE, optimize=None), x)
    streamed = make_plan(graph, NATIVE, optimize="memory")
    assert kernels(streamed).count("f32_depthwise") > 1
    np.testing.assert_array_equal(run(streamed, x), expected)


def kernels(plan: Plan) -> list[str]:
    return [step.kernel for step in plan.steps]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(29, 23), pytest.param((16, 16), marks=pytest.mark.slow)])
def test_streamed_networks_compute_the_same_bits(name: str, size: tuple[int, int]):
    torch.manual_seed(0)
    graph = graph_of(NETS[name](), 1, 3, *size)
    x = np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)
    small = make_plan(graph, NATIVE, optimize="memory")
    whole = make_plan(graph, NATIVE, optimize=None, algorithms=small.algorithms)
    assert small.arena.bytes < whole.arena.bytes
    assert len(small.steps) > len(whole.steps)
    np.testing.assert_array_equal(run(small, x), run(whole, x))


@pytest.mark.parametrize("case", BEST, ids=str)
@pytest.mark.parametrize("name", slow_where(lambda name: name not in IN_REDUCED_PRECISIONS, NETS))
def test_streamed_networks_compute_the_same_bits_in_reduced_precisions(name: str, case: Case):
    torch.manual_seed(0)
    made = in_precision(NETS[name]().eval(), [(1, 3, 29, 23)], case.here())
    x = np.random.default_rng(0).standard_normal((1, 3, 29, 23), np.float32)
    small = make_plan(made.rewritten, case.target, optimize="memory")
    whole = make_plan(made.rewritten, case.target, optimize=None, algorithms=small.algorithms)
    assert len(small.steps) > len(whole.steps)
    np.testing.assert_array_equal(run(small, x), run(whole, x))


@pytest.mark.parametrize("windows", [6_000, 12_000, 30_000])
def test_bands_for_speed_compute_the_same_bits(windows: int, monkeypatch):
    monkeypatch.setattr(PLACE, changed(cold=0, windows=windows))
    torch.manual_seed(0)
    graph = graph_of(separable(2, 5), 1, 3, 40, 24)
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 24), np.float32)
    whole, fast = (make_plan(graph, NATIVE, optimize=kind) for kind in (None, "speed"))
    assert len(fast.steps) > len(whole.steps)
    np.testing.assert_array_equal(run(fast, x), run(whole, x))


def test_small_networks_are_not_streamed_for_speed():
    graph = graph_of(separable(1), 1, 3, 16, 16)
    plans = [make_plan(graph, NATIVE, optimize=kind) for kind in (None, "speed")]
    assert kernels(plans[0]) == kernels(plans[1])


def test_several_images_are_streamed_one_by_one():
    one, two = (
        make_plan(graph_of(separable(1), n, 3, 16, 16), NATIVE, optimize="memory") for n in (1, 2)
    )
    assert kernels(two) == 2 * kernels(one)
    assert two.arena.bytes == one.arena.bytes


@pytest.mark.parametrize(("optimize", "limit"), [("speed", 2.5e6), ("memory", 1.7e6)])
def test_the_arena_of_mobilenet_v2(optimize: Optimize, limit: float):
    graph = graph_of(dw.create_model("mobilenet_v2"), 1, 3, 224, 224)
    assert make_plan(graph, NATIVE, optimize=optimize).arena.bytes < limit
