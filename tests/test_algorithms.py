"""Which algorithm a convolution gets, and that every candidate computes the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from other_constants import PLACE, changed
from test_stream import graph_of, run
from torch import nn

from depthwise.compiler.constants import constants_of
from depthwise.compiler.lowering import algorithms
from depthwise.compiler.lowering.algorithms import (
    Algorithm,
    ConvWorkload,
    Direct,
    Winograd,
    choose,
    direct_only,
    winograd_candidates,
)
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.work import conv_runs
from depthwise.graph import Graph
from depthwise.graph.interpret import interpret
from depthwise.hardware.known_cores import CORES
from depthwise.runtime.target import find_target

NATIVE = find_target("native")
V4, V3 = find_target("x86-64-v4"), find_target("x86-64-v3")


def layer(side: int, channels: int, outs: int, window: tuple[int, int] = (3, 3)) -> ConvWorkload:
    return ConvWorkload(1, side, side, side, window[0] * window[1], window, channels, outs, 1)


# the fastest on a Zen 5 with weights from memory, of direct and all candidates
MEASURED = {
    (56, 64, 64, (3, 3)): (6, 6),
    (28, 128, 128, (3, 3)): (6, 6),
    (14, 256, 256, (3, 3)): (6, 6),
    (7, 512, 512, (3, 3)): (4, 6),
    (147, 32, 64, (3, 3)): (6, 6),
    (35, 48, 64, (5, 5)): (8, 8),
    (17, 192, 192, (1, 7)): (1, 10),
    (17, 128, 128, (7, 1)): (10, 1),
    (8, 384, 384, (1, 3)): (1, 6),
}


@pytest.mark.parametrize(("shape", "points"), MEASURED.items(), ids=str)
def test_the_default_is_what_was_fastest(shape, points):
    chosen = choose(layer(*shape), constants_of(V4))
    assert isinstance(chosen, Winograd)
    assert chosen.points == points


# the faster on a Xeon with AVX-512, where outputs fill half of a vector or three quarters
NARROW = {(32, 8, 8): Direct, (32, 16, 8): Winograd, (32, 8, 16): Winograd, (32, 12, 12): Winograd}


@pytest.mark.parametrize(("shape", "kind"), NARROW.items(), ids=str)
def test_few_outputs_are_priced_by_the_lanes_that_they_fill(shape, kind):
    constants = constants_of(V4, CORES["sapphirerapids"])
    assert isinstance(choose(layer(*shape), constants), kind)


@pytest.mark.parametrize("other", [
    ConvWorkload(1, 56, 56, 3136, 1, (1, 1), 64, 64, 1),  # pointwise
    ConvWorkload(1, 56, 56, 56, 9, None, 64, 64, 1),  # strided or dilated
    ConvWorkload(1, 56, 56, 56, 9, (3, 3), 4, 4, 32),  # groups
    ConvWorkload(1, 1, 1, 1, 9, (3, 3), 512, 512, 1),  # one pixel
    ConvWorkload(1, 112, 112, 112, 9, (3, 3), 3, 8, 1),  # few channels
], ids=str)  # fmt: skip
def test_others_are_direct(other):
    assert isinstance(choose(other, constants_of(V4)), Direct)


def test_tiles_of_few_registers_pass_over_the_ends_of_rows():
    """In place of 5 x 2 and 7 x 1, whose few sums cannot hide their waits."""
    rows = {n: ConvWorkload(1, n, n, n, 1, (1, 1), 160, 960, 1) for n in (7, 14)}
    assert str(choose(rows[14], constants_of(V3))) == "tile 6x2 over rows by panels"
    assert str(choose(rows[7], constants_of(V3))) == "tile 5x2 over rows by panels"
    assert str(choose(rows[7], constants_of(V4))) == "tile 7x3 by panels"
    whole = replace(rows[14], run=196)  # without gaps there are no ends
    assert str(choose(whole, constants_of(V3))) == "tile 6x2 by panels"


@pytest.mark.parametrize("width", [2, 3, 4, 5, 7, 9, 14, 19, 56])
@pytest.mark.parametrize("outs", [6, 12, 20, 24, 40, 56, 64])
def test_a_tile_over_rows_is_no_wider_and_shares_no_vector(width, outs):
    workload = ConvWorkload(1, width, width, width, 1, (1, 1), 48, outs, 1)
    tried = algorithms.candidates(workload, constants_of(V3))
    direct = [found for found in tried if isinstance(found, Direct)]
    assert direct == tried
    for found in direct:
        assert found.over_rows == direct[0].over_rows
        if found.over_rows:
            assert found.pixels <= min(width, 6)
            assert found.depth == 1 or (outs % 8 == 0 and found.vectors % found.depth == 0)


def test_runs_of_pixels():
    numbers = {"images": 2, "rows": 3, "width": 7, "over_rows": 0}
    assert conv_runs(numbers) == (6, 7)
    assert conv_runs({**numbers, "over_rows": 1}) == (2, 21)


def test_a_tile_fits_its_batch():
    for side in (1, 4, 7, 13, 56):
        for channels in (1, 24, 512):
            for found in winograd_candidates(layer(side, channels, 40), constants_of(V4)):
                assert 1 <= found.pixels <= found.batch
                assert found.pixels * found.vectors + found.vectors + 2 <= V4.registers


class Forms(nn.Module):
    """Every form at once: both axes and one, borders, a residual, concatenated, phases."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(5, 20, 3, padding=1)
        self.square = nn.Conv2d(20, 20, 3, padding=1)
        self.large = nn.Conv2d(20, 24, 5, padding=2)
        self.row = nn.Conv2d(24, 17, (1, 7), padding=(0, 3))
        self.column = nn.Conv2d(17, 33, (7, 1), padding=(3, 0))
        self.short_row = nn.Conv2d(33, 16, (1, 3), padding=(0, 1))
        self.short_column = nn.Conv2d(33, 16, (3, 1), padding=(1, 0))
        self.phases = nn.ConvTranspose2d(32, 18, (4, 5), 2, (1, 2))
        self.valid = nn.Conv2d(18, 9, (2, 4))

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(self.square(x) + x)
        x = self.column(torch.relu(self.row(nn.functional.hardswish(self.large(x)))))
        x = torch.cat([self.short_row(x), self.short_column(x)], 1)
        return self.valid(torch.relu(self.phases(x)))


def forms() -> tuple[Graph, np.ndarray, np.ndarray]:
    """Return the graph, an input, and the output."""
    torch.manual_seed(0)
    graph = graph_of(Forms(), 2, 5, 14, 11)
    x = np.random.default_rng(0).standard_normal((2, 5, 14, 11), np.float32)
    values = interpret(graph, x)
    return graph, x, values[graph.outputs[0].value]


def plan_with(graph: Graph, chosen: dict[ConvWorkload, Algorithm], threads: int = 1) -> Plan:
    plan = make_plan(graph, NATIVE, threads=threads, algorithms=chosen)
    assert plan.algorithms == chosen
    return plan


def candidates(number: int, graph: Graph) -> dict[ConvWorkload, Algorithm]:
    """Return the candidate of that number for each layer, counted round."""
    found = {}
    for known in make_plan(graph, NATIVE).algorithms:
        options = winograd_candidates(known, constants_of(NATIVE))
        found[known] = options[number % len(options)]
    return found


def check_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("number", range(4))
def test_every_candidate_computes_the_same(number):
    graph, x, expected = forms()
    plan = plan_with(graph, candidates(number, graph))
    kernels = {step.kernel for step in plan.steps}
    assert "f32_winograd" in kernels
    assert "f32_conv" not in kernels
    check_close(run(plan, x), expected)


def test_direct_convolutions_alone():
    graph, x, expected = forms()
    usual = make_plan(graph, NATIVE)
    direct = direct_only(usual.algorithms, usual.constants)
    plan = plan_with(graph, dict(direct))
    assert "f32_winograd" not in {step.kernel for step in plan.steps}
    check_close(run(plan, x), expected)


def test_parts_for_threads_compute_the_same_bits(monkeypatch):
    monkeypatch.setattr(PLACE, changed(meeting=1.0))  # divides what is small as well
    graph, x, _ = forms()
    chosen = candidates(0, graph)
    whole = plan_with(graph, chosen)
    for threads in (2, 3):
        parts = plan_with(graph, chosen, threads)
        assert len(parts.steps) > len(whole.steps)
        np.testing.assert_array_equal(run(parts, x), run(whole, x))


def test_channels_are_divided_where_there_is_one_row_of_tiles():
    torch.manual_seed(0)
    graph = graph_of(nn.Conv2d(6, 200, 3, padding=1), 1, 6, 4, 9)
    x = np.random.default_rng(0).standard_normal((1, 6, 4, 9), np.float32)
    (known,) = make_plan(graph, NATIVE).algorithms
    chosen: dict[ConvWorkload, Algorithm] = {known: Winograd((6, 6), 3, 2, 3)}
    whole, parts = (plan_with(graph, chosen, threads) for threads in (1, 2))
    calls = [step for step in parts.steps if step.kernel == "f32_winograd"]
    assert [step.views[-1].shape[2] for step in calls] == [4, 4]
    np.testing.assert_array_equal(run(parts, x), run(whole, x))


def test_the_smallest_arena_has_no_scratch():
    graph, _, _ = forms()
    plan = make_plan(graph, NATIVE, optimize="memory")
    assert "f32_winograd" not in {step.kernel for step in plan.steps}
    chosen = make_plan(graph, NATIVE, optimize="memory", algorithms=candidates(0, graph))
    assert "f32_winograd" in {step.kernel for step in chosen.steps}
