"""What is chosen from measured times, what is kept of them, and that all ways compute the same."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from test_stream import graph_of, run
from torch import nn

import depthwise as dw
from depthwise.cli import main
from depthwise.compiler import pipeline
from depthwise.compiler.autotune import measurements as trials
from depthwise.compiler.autotune.measurements import Measurement, MeasurementCache
from depthwise.compiler.autotune.step_timer import build_clocked
from depthwise.compiler.autotune.tune_algorithms import (
    PartOf,
    Rounds,
    _turn,
    fastest_algorithms,
    measure_parts,
)
from depthwise.compiler.autotune.tune_streams import fastest_groups, tried_partitions
from depthwise.compiler.codegen.emit import emit, emit_together, emit_units
from depthwise.compiler.constants import constants_of
from depthwise.compiler.lowering.algorithms import (
    MOST,
    Algorithm,
    ConvWorkload,
    Direct,
    Winograd,
    candidates,
    choose,
)
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.partition import Group, single
from depthwise.compiler.show_plan import show_plan
from depthwise.graph import Graph, capture
from depthwise.graph.interpret import interpret
from depthwise.runtime.target import TARGETS, find_target

NATIVE = find_target("native")
V4 = find_target("x86-64-v4")
SHAPE = (1, 3, 13, 11)
USUAL = CompileOptions(tune_for="generic")  # as make_plan has it, whatever this machine is


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 40, 3, padding=1), nn.ReLU(), nn.Conv2d(40, 72, 1), nn.Conv2d(72, 72, 3),
    )  # fmt: skip


def graph() -> Graph:
    return graph_of(net(), *SHAPE)


class Timer:
    """Returns for each plan the seconds that it is told, for all parts; counts its calls."""

    def __init__(self, seconds: Sequence[float]):
        self.seconds, self.calls = seconds, 0

    def __call__(self, plans: Sequence[Plan], _cc: str | None, part_of: PartOf) -> Rounds:
        self.calls += 1
        told = np.array([*self.seconds, *[self.seconds[0]] * 9])[: len(plans)]
        drift = np.array([[1.0], [3.0], [2.0]])  # a machine that is slower from round to round
        return dict.fromkeys({part_of(step) for step in plans[0].steps}, drift * told)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(trials, "cache_directory", lambda: tmp_path)
    return tmp_path / "trials"


def trial(*ratios: float) -> Measurement:
    tried = [Direct(7, n + 1, False) for n in range(len(ratios))]
    return Measurement.of_rounds(tried, np.array([[2e-3], [1e-3]]) * np.array(ratios))


@pytest.mark.parametrize(("ratios", "vectors", "remark"), [
    ((1.0, 0.9, 0.99), 2, "; tile 7x3 takes 10 % more"),
    ((1.0, 1.2, 1.05), 1, "; tile 7x3 takes 5 % more"),
    ((1.0, 0.985), 1, "; tile 7x2 takes 2 % less, within noise"),
    ((1.0, 0.975), 2, "; tile 7x1 takes 3 % more"),
    ((1.0,), 1, ""),
], ids=str)  # fmt: skip
def test_the_fastest_replaces_the_default_beyond_noise(ratios, vectors, remark):
    chosen = trial(*ratios).decide()
    assert chosen == Direct(7, vectors, False)
    assert chosen.remark == remark


def test_rounds_are_compared_one_by_one():
    # the second is faster in two rounds of three, yet slower in the median of all
    rounds = np.array([[1.0, 0.9], [2.0, 2.4], [9.0, 8.1]])
    ways = [Direct(7, 1, False), Direct(7, 2, False)]
    assert Measurement.of_rounds(ways, rounds).ratios == pytest.approx((1.0, 0.9))


def test_the_plan_and_the_c_say_what_was_chosen():
    found = fastest_algorithms(graph(), USUAL, measure=Timer([1.0, 0.8, 0.88]))
    tried = {layer: candidates(layer, constants_of(NATIVE)) for layer in found}
    assert any(len(ways) > 2 for ways in tried.values())
    for layer, ways in tried.items():
        assert found[layer] == ways[min(1, len(ways) - 1)]
    plan = make_plan(graph(), NATIVE, algorithms=found)
    for text in (show_plan(plan), emit(plan)):
        assert " takes 10 % more" in text
    assert emit(plan) == emit(make_plan(graph(), NATIVE, algorithms=found))


def test_what_is_known_is_not_measured_again(cache):
    timer = Timer([1.0, 0.8])
    found = fastest_algorithms(graph(), USUAL, measure=timer)
    again = fastest_algorithms(graph(), USUAL, measure=timer)
    assert timer.calls == 1
    assert [str(way) for way in again.values()] == [str(way) for way in found.values()]
    known = sorted(cache.iterdir())
    wider = graph_of(nn.Sequential(net(), nn.Conv2d(72, 24, 1)), *SHAPE)  # shares three layers
    assert found.items() <= fastest_algorithms(wider, USUAL, measure=timer).items()
    assert timer.calls == 2
    assert len(set(cache.iterdir()) - set(known)) == 1


def test_damaged_and_foreign_trials_are_measured_again(cache, monkeypatch):
    timer = Timer([1.0, 0.8])
    found = fastest_algorithms(graph(), USUAL, measure=timer)
    for path in cache.iterdir():
        path.write_text('{"tried": [')
    assert fastest_algorithms(graph(), USUAL, measure=timer) == found
    assert timer.calls == 2
    layer = next(layer for layer in found if len(candidates(layer, constants_of(NATIVE))) > 2)
    ways = candidates(layer, constants_of(NATIVE))
    kept = MeasurementCache(NATIVE, None)
    whole = kept.find(layer, ways)
    assert whole
    for wrong in ((), whole.ratios[1:], (0.0,) * len(ways), (float("nan"),) * len(ways)):
        kept.keep(layer, whole.model_copy(update={"ratios": wrong}))
        assert kept.find(layer, ways) is None
    kept.keep(layer, whole)
    assert kept.find(layer, ways[:-1]) is None  # other ways than were tried
    monkeypatch.setattr(trials, "cpu_name", lambda: "another")
    assert kept.find(layer, ways) is None


def test_trials_differ_by_target_compiler_and_kernels(monkeypatch):
    layer = next(iter(make_plan(graph(), NATIVE).algorithms))
    paths = {MeasurementCache(target, None).path(layer) for target in TARGETS}
    monkeypatch.setattr(trials, "header_text", lambda name: f"another {name}")
    paths.add(MeasurementCache(NATIVE, None).path(layer))
    assert len(paths) == len(TARGETS) + 1


def test_other_targets_and_the_smallest_arena_take_the_defaults(monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(pipeline, "fastest_algorithms", fail)
    other = next(target.name for target in TARGETS if target != NATIVE)
    for options in (
        CompileOptions(other, tune=True),
        CompileOptions(optimize="memory", tune=True),
        USUAL,
    ):
        pipeline.show_stage(capture(net(), SHAPE), "plan", options)
    with pytest.raises(AssertionError, match="measured"):
        pipeline.show_stage(capture(net(), SHAPE), "plan", CompileOptions(tune=True))


LAYERS = [
    ConvWorkload(1, 14, 14, 14, 1, (1, 1), 80, 480, 1),
    ConvWorkload(1, 7, 7, 49, 1, (1, 1), 960, 160, 1),
    ConvWorkload(1, 1, 1, 1, 1, None, 1280, 1000, 1),
    ConvWorkload(1, 14, 14, 14, 9, (3, 3), 256, 256, 1),
    ConvWorkload(2, 9, 5, 5, 9, None, 4, 4, 8),
    ConvWorkload(1, 1, 1, 1, 1, (1, 1), 1, 1, 1),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_candidates_are_few_and_start_with_the_default(layer, target):
    ways = candidates(layer, constants_of(target))
    assert ways[0] == choose(layer, constants_of(target))
    assert 1 <= len(ways) == len(set(ways)) <= MOST
    for way in ways:
        assert way.pixels * way.vectors + way.vectors + 2 <= target.registers
    assert len(ways) == 1 or layer.outs > 1


def test_winograd_and_direct_are_tried_where_they_are_close():
    ways = candidates(ConvWorkload(1, 56, 56, 56, 9, (3, 3), 16, 8, 1), constants_of(V4))
    assert {type(way) for way in ways} == {Winograd, Direct}


def test_every_way_computes_the_same():
    torch.manual_seed(0)
    made = graph()
    x = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    expected = interpret(made, x)[made.outputs[0].value]
    tried = {
        layer: candidates(layer, constants_of(NATIVE))
        for layer in make_plan(made, NATIVE).algorithms
    }
    for turn in range(MOST):
        chosen: dict[ConvWorkload, Algorithm] = dict(_turn(tried, turn))
        found = run(make_plan(made, NATIVE, algorithms=chosen), x)
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def test_plans_that_are_built_together_share_their_kernels():
    made = graph()
    (plain,) = emit_together([make_plan(made, NATIVE)], 2)
    assert plain == emit_units(make_plan(made, NATIVE), 2)
    ways = {
        layer: candidates(layer, constants_of(NATIVE))[-1]
        for layer in make_plan(made, NATIVE).algorithms
    }
    first, second = emit_together(
        [make_plan(made, NATIVE), make_plan(made, NATIVE, algorithms=ways)], 2
    )
    assert first[1:] == second[1:]
    assert first[0] != second[0]
    again, same = emit_together([make_plan(made, NATIVE)] * 2, 2)
    assert again == same == plain


def test_every_layer_is_timed():
    plan = make_plan(graph(), NATIVE)
    found = measure_parts([plan, plan], None, lambda step: step.layer)
    assert set(found) == set(plan.algorithms)
    assert all((rounds > 0).all() and rounds.shape[1] == 2 for rounds in found.values())
    (clocked,) = build_clocked([plan])
    assert clocked.runs(0.0, 2).shape == (2, len(plan.steps))


# ------------------------------------------------------------------------------------- streams


def inverted() -> nn.Module:
    """Two blocks that are streamed by default, and what stands between and after them."""
    block = nn.Sequential(
        nn.Conv2d(8, 48, 1), nn.ReLU(), nn.Conv2d(48, 48, 3, 1, 1, groups=48), nn.Conv2d(48, 8, 1),
    )  # fmt: skip
    return nn.Sequential(block, nn.MaxPool2d(3, 1, 1), block, nn.Conv2d(8, 16, 1))


WIDE = (1, 8, 80, 80)


def heights(groups: Sequence[Group]) -> list[int]:
    return [group.height for group in groups if group.height]


def test_the_fastest_bands_are_taken_piece_by_piece():
    made = graph_of(inverted(), *WIDE)
    default = make_plan(made, NATIVE)
    assert heights(default.groups)
    low = make_plan(made, NATIVE, groups=tried_partitions(constants_of(NATIVE))[1])
    assert heights(low.groups) != heights(default.groups)
    slow = fastest_groups(made, USUAL, {}, measure=Timer([1.0, 0.99]))
    assert slow == list(default.groups)
    assert any("less, within noise" in group.remark for group in slow)


def test_bands_are_kept_and_shown(cache):
    made = graph_of(inverted(), *WIDE)
    timer = Timer([1.0, 0.8, 0.88])
    found = fastest_groups(made, USUAL, {}, measure=timer)
    low = make_plan(made, NATIVE, groups=tried_partitions(constants_of(NATIVE))[1])
    assert found == list(low.groups)
    again = fastest_groups(made, USUAL, {}, measure=timer)
    assert timer.calls == 1
    assert (again, [g.remark for g in again]) == (found, [g.remark for g in found])
    text = show_plan(make_plan(made, NATIVE, groups=lambda _: found))
    assert f"in bands of {heights(found)[0]} rows; bands of " in text
    assert "takes 10 % more" in text
    for path in cache.iterdir():
        path.write_text("{}")
    assert fastest_groups(made, USUAL, {}, measure=timer) == found
    assert timer.calls == 2


def test_streams_that_were_measured_compute_the_same():
    made = graph_of(inverted(), *WIDE)
    x = np.random.default_rng(0).standard_normal(WIDE, np.float32)
    found = fastest_groups(made, USUAL, {})
    expected = run(make_plan(made, NATIVE, groups=single), x)
    for threads in (1, 2):
        plan = make_plan(made, NATIVE, threads=threads, groups=lambda _: found)
        np.testing.assert_array_equal(run(plan, x), expected)


def test_the_command_tunes_when_it_is_asked_to(capsys, monkeypatch, tmp_path):
    timer = Timer([1.0, 0.8])
    monkeypatch.setattr(pipeline, "fastest_algorithms", partial(fastest_algorithms, measure=timer))
    monkeypatch.setattr(pipeline, "fastest_groups", partial(fastest_groups, measure=timer))
    (tmp_path / "nets.py").write_text("from torch import nn\ndef one(): return nn.Conv2d(8, 80, 1)")
    asked = ["compile", f"{tmp_path}/nets.py:one", "--shape", "1,8,9,9", "--show", "plan"]
    for options, calls in (((), 0), (("--no-tune",), 0), (("--tune",), 1)):
        with pytest.raises(SystemExit):
            main([*asked, *options])
        assert timer.calls == calls
        assert (" takes 25 % more" in capsys.readouterr().out) == bool(calls)


def test_a_tuned_library_equals_pytorch(cache):
    x, network = torch.randn(SHAPE), net().eval()
    library = dw.compile(network, SHAPE, tune=True)
    assert len(list(cache.iterdir())) == 3
    with torch.inference_mode():
        torch.testing.assert_close(library(x), network(x), rtol=1e-4, atol=1e-5)
