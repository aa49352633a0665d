"""Where time goes: every step is timed, every multiply-add is told of one, and the sums agree."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_networks import beginning
from torch import nn

import depthwise as dw
from depthwise.analysis.tables import render
from depthwise.bench import layers as layers_module
from depthwise.bench.layers import LayerTime, Profile, agreed, arithmetic_of, profile, usual
from depthwise.bench.least import Bound, bound, bytes_moved, products, seconds_to_move
from depthwise.bench.tables import layers_table
from depthwise.cli import main
from depthwise.compiler import pipeline
from depthwise.compiler.autotune.step_timer import build_clocked
from depthwise.compiler.planning import make_plan
from depthwise.graph import capture
from depthwise.hardware import Machine, Spread
from depthwise.latency.precisions import rewritten_in
from depthwise.runtime.target import find_target

NATIVE = find_target("native")


def plan_of(net, shape):
    return make_plan(pipeline.rewrite(capture(net.eval(), shape)), NATIVE)


def small():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.ConvTranspose2d(32, 16, 2, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


@pytest.fixture(scope="module")
def found() -> Profile:
    return profile(plan_of(small(), (1, 3, 48, 48)), seconds=0.2)


def test_every_multiply_add_is_told_of_one_row(found):
    cost = dw.cost(small(), (1, 3, 48, 48))
    assert sum(row.macs for row in found.layers) == cost.macs
    by_path = {row.path: row.macs for row in found.layers if row.macs}
    assert by_path == {layer.path: layer.macs for layer in cost.layers if layer.macs}


def test_the_steps_of_a_node_that_call_one_kernel_are_one_row(found):
    (row,) = [row for row in found.layers if row.path == "4" and row.macs]
    steps = plan_of(small(), (1, 3, 48, 48)).steps
    phases = [step for step in steps if step.path == "4" and step.kernel == row.kernel]
    assert row.calls == len(phases) > 1  # one for each parity of row and column
    assert row.comment.endswith(f"x{row.calls}")


def test_each_run_times_each_step():
    plan = plan_of(small(), (1, 3, 16, 16))
    (clocked,) = build_clocked((plan,))
    times = clocked.runs(seconds=0.0)
    assert times.shape[0] >= 15
    assert times.shape[1] == len(plan.steps)
    assert (times >= 0).all()


def test_the_layers_take_as_long_as_the_whole():
    net, shape = beginning("mobilenet_v3_small", 3, 24).eval(), (1, 3, 96, 96)
    plan = plan_of(net, shape)
    library, x = dw.compile(net, shape), np.zeros(shape, np.float32)
    whole, layers = [], []
    for _ in range(5):  # by turns, and the best of each: other programs only slow both
        layers.append(profile(plan, seconds=0.1).seconds)
        for _ in range(100):
            start = time.perf_counter()
            library(x)
            whole.append(time.perf_counter() - start)
    assert 0.4 * min(whole) < min(layers) < 1.6 * min(whole)


def test_a_peak_is_above_what_a_network_reaches(found):
    assert found.peak > found.flops
    text = render(layers_table("small", found, None), 140)
    assert text.startswith(f"small, {found.runs} runs")
    assert f"{found.peak / 1e9:.1f} GFLOP/s" in text
    assert "`depthwise calibrate` once" in text


def machine():
    """Return a machine whose L1 gives 100 GB/s, and its memory 10."""
    rates = {"L1": 100.0, "memory": 10.0}
    return Machine.model_validate(
        {
            "cpu": "paper", "features": (), "cores": 1, "target": "x86-64-v4", "compiler": "none",
            "date": "2026-01-01T00:00:00+00:00", "rounds": 1,
            "caches": (32768,), "cache_source": "system",
            "peaks": [{"lanes": 16, "gflops": spread(100.0)}], "second": None,
            "readings": [
                {"level": level, "span": 1, "gigabytes": spread(rate)}
                for level, rate in rates.items()
            ],
        }
    )  # fmt: skip


def spread(value):
    return {"best": value, "median": value, "worst": value}


@pytest.mark.parametrize(
    ("macs", "size", "calls", "filled", "seconds", "reason"),
    [
        (5_000_000, 10_000, 1, 1.0, 1e-4, "arithmetic"),
        (5_000_000, 10_000, 1, 0.5, 1e-4, "tail"),
        (0, 10_000, 1, 1.0, 1e-7, "bandwidth, L1"),
        # 32768 bytes from L1, the others from memory
        (5_000_000, 2_000_000, 1, 1.0, 1.9705088e-4, "bandwidth, memory"),
        (5_000_000, 2_000_000, 100, 1.0, 1e-4, "arithmetic"),  # streamed: a window stays near
    ],
)
def test_a_layer_is_bound_by_what_takes_longest(macs, size, calls, filled, seconds, reason):
    found = bound(macs, size, calls, filled, machine(), peak=100e9)
    assert found.seconds == pytest.approx(seconds)
    assert found.reason == reason


def test_only_what_a_cache_has_no_room_for_comes_from_the_next():
    assert seconds_to_move(32768, machine()) == pytest.approx(32768 / 100e9)
    one_more = seconds_to_move(32769, machine()) - seconds_to_move(32768, machine())
    assert one_more == pytest.approx(1 / 10e9)


# ---------------------------------------------------------------------------- the least there is


def least(net, shape, path):
    """Return what the longest kernel of a layer has to do: multiply-adds, bytes."""
    layers = profile(plan_of(net, shape), seconds=0.0).layers
    (row,) = [row for row in layers if row.path == path and row.bytes]
    return row


def test_winograd_has_to_do_what_lies_between_its_transforms():
    row = least(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)), (1, 64, 28, 28), "0")
    assert row.kernel == "f32_winograd"
    assert row.macs == 28 * 28 * 64 * 64 * 9
    assert row.needed == 7 * 7 * 36 * 64 * 64  # tiles of 4 x 4 outputs at 6 x 6 points
    assert row.flops == 2 * row.needed / row.seconds


def test_padding_of_tiles_is_no_work():
    row = least(nn.Sequential(nn.Conv2d(3, 5, 3, padding=1)), (1, 3, 9, 9), "0")
    assert row.needed == row.macs == 81 * 5 * 27
    (step,) = [s for s in plan_of(nn.Conv2d(6, 6, 3, groups=6), (1, 6, 9, 9)).steps if s.layer
               or s.kernel == "f32_depthwise"]  # fmt: skip
    assert products(step) == 49 * 9 * 6


@pytest.mark.parametrize(
    ("conv", "seen"),
    [
        (nn.Conv2d(8, 8, 1, 2), 16 * 16),  # every other pixel of every other row
        (nn.Conv2d(8, 8, 3, 2, 1), 32 * 32),
        (nn.Conv2d(8, 8, 2, 4), 16 * 16),
        (nn.MaxPool2d(2, 3), 22 * 22),  # 11 windows of 2 rows, and as many columns
    ],
)
def test_what_a_window_steps_over_is_not_read(conv, seen):
    net = nn.Sequential(nn.Identity(), conv)
    plan = plan_of(net, (1, 8, 32, 32))
    (node,) = [node for node in plan.graph if node.path == "1"]
    steps = [step for step in plan.steps if step.name == node.name]
    weights = sum(p.numel() for p in conv.parameters())
    assert bytes_moved(plan.graph, node, steps, plan.buffers) == 4 * (seen * 8 + weights)


def test_a_mean_of_totals_does_not_read_the_image():
    net = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.AdaptiveAvgPool2d(1))
    row = least(net, (1, 32, 56, 56), "1")
    assert row.bytes < 4 * 32 * 56 * 56 / 8  # the convolution left the totals of its rows


# ------------------------------------------------------------------------- nothing above the roofs


def timed(seconds, macs=1_000_000, size=1000):
    layer = LayerTime("a", "a", "f32_conv", (1, 8, 9, 9), "", 1, seconds, macs, macs, size)
    return Profile((layer,), 9, peak=100e9)


def test_a_layer_faster_than_its_roof_proves_the_machine_wrong():
    assert not timed(2e-5).contradicts(machine())  # at its roof
    assert not timed(1.95e-5).contradicts(machine())
    assert timed(0.83e-5).contradicts(machine())  # "reached 241 %"
    assert timed(1e-5, macs=0, size=2_000_000).contradicts(machine())
    assert not timed(1e-9, macs=100).contradicts(machine())  # too short for the clock


def test_what_is_contradicted_is_calibrated_again_and_only_that(monkeypatch):
    made = []
    faster = machine().model_copy(update={"date": "2026-02-02T00:00:00+00:00", "peaks": (
        machine().peaks[0].model_copy(update={"gflops": Spread.of_rates([250.0])}),)})  # fmt: skip
    monkeypatch.setattr(layers_module, "calibrate", lambda: made.append(1) or faster)
    monkeypatch.setattr(layers_module, "measure_peak", lambda *_: 120e9)
    good = timed(2e-5)
    assert agreed(good, machine()) == (good, machine())
    assert made == []
    found, here = agreed(timed(0.83e-5), machine())
    assert here is faster
    assert found.peak == 250e9  # the best of what was measured
    assert not found.contradicts(here)
    wrong, _ = agreed(timed(0.1e-5), machine())  # and still: no second time
    assert wrong.contradicts(here)
    assert made == [1, 1]


@pytest.mark.parametrize(
    ("seconds", "shares"),
    [(2e-5, ["100.0", "100"]), (1.95e-5, ["100.0", "100"]), (4e-5, ["50.0", "50"]),
     (0.83e-5, ["–", "–"]), (1e-7, ["–", "–"])],
)  # fmt: skip
def test_the_table_has_no_share_above_all(seconds, shares):
    text = render(layers_table("small", timed(seconds), machine()), 160)
    (row,) = [line for line in text.splitlines() if line.startswith("a ")]
    assert row.split()[-3:] == [*shares, "arithmetic"]
    said = "–: the peak measured was lower than what this layer reached" in text
    assert said == (shares[0] == "–")
    assert "calibrated " in text


def test_a_layer_has_its_share_of_what_it_multiplies_with():
    whole = LayerTime("a", "a", "f32_conv", (1, 8, 9, 9), "", 1, 4e-5, 1_000_000, 1_000_000, 1000)
    half = replace(whole, path="b", kernel="u8_quantized_conv", arithmetic="int8 dots")
    found = Profile((whole, half), 9, peak=100e9, narrow={"int8 dots": 400e9})
    lines = render(layers_table("small", found, machine()), 160).splitlines()
    shares = {line.split()[0]: line.split() for line in lines if line[:2] in ("a ", "b ", "to")}
    assert shares["a"][-3:] == ["50.0", "50", "arithmetic"]
    assert shares["b"][-3:] == ["12.5", "12", "arithmetic"]
    assert shares["total"][-1] == "31.2"  # 20 and 5 us of 80
    assert any("int8 by VNNI 400.0 GOP/s" in line for line in lines)
    assert not replace(found, narrow={"int8 dots": 55e9}).contradicts(machine())
    assert replace(found, narrow={"int8 dots": 45e9}).contradicts(machine())


def test_a_layer_of_few_products_waits_for_its_rounding():
    # 3 instructions a vector: as long as 3 multiply-adds a result
    few = replace(timed(1e-4).layers[0], macs=0, needed=1000, rounded=1_000_000)
    found = Profile((few,), 9, peak=100e9)
    assert found.least(few, machine()) == Bound(6e6 / 100e9, "rounding")
    many = replace(few, needed=4_000_000)
    assert found.least(many, machine()).reason == "arithmetic"
    text = render(
        layers_table("small", replace(found, layers=(replace(few, macs=1000),)), machine()), 160
    )
    assert any(line.split()[-2:] == ["60", "rounding"] for line in text.splitlines())


@pytest.mark.parametrize(
    ("target", "kernel", "arithmetic"),
    [
        ("x86-64-amx", "u8_quantized_conv", "int8 tiles"),
        ("x86-64-amx", "u8_quantized_depthwise", "int8 dots"),
        ("x86-64-vnni", "u8_quantized_conv", "int8 dots"),
        ("x86-64-v3", "u8_quantized_conv", "int8 pairs"),
        ("aarch64", "u8_quantized_depthwise", "float32"),
        ("portable", "u8_quantized_conv", "float32"),
    ],
)
def test_bytes_are_multiplied_with_what_a_target_has(target, kernel, arithmetic):
    net = nn.Sequential(
        nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.ReLU(), nn.Conv2d(32, 64, 1),
    )  # fmt: skip
    plan = make_plan(rewritten_in(capture(net.eval(), (1, 8, 12, 12)), "int8"), find_target(target))
    steps = [step for step in plan.steps if step.kernel == kernel]
    assert {step.row.arithmetic(step.arguments, plan.target) for step in steps} == {arithmetic}
    assert arithmetic in arithmetic_of(plan)


def test_a_disturbed_profile_says_so_first():
    found = replace(timed(2e-5), disturbed="other programs took 50% of the cores' time")
    lines = render(layers_table("small", found, machine()), 160).splitlines()
    assert lines[1].startswith("NOT A MEASUREMENT: other programs took 50%")


def test_layers_add_up_to_the_whole(found):
    runs = np.array([[1.0, 2.0], [1.2, 2.4], [9.0, 1.0], [0.5, 0.5], [1.1, 2.2]])
    assert usual(runs).tolist() == pytest.approx([1.1, 2.2])  # the fastest and the slowest left out
    medians = np.median(runs, axis=0).sum(), np.median(runs.sum(axis=1))
    assert medians[0] != medians[1]
    assert found.seconds == sum(layer.seconds for layer in found.layers)


def test_what_runs_by_turns_is_timed_in_the_same_minute():
    asked = []
    found = profile(
        plan_of(small(), (1, 3, 16, 16)),
        seconds=0.0,
        library=lambda n: asked.append(n) or [2.0] * n,
    )
    assert len(asked) > 1
    assert found.library == 2.0


def test_the_table_says_what_a_layer_is_bound_by(found):
    text = render(layers_table("small", found, machine()), 160)
    (row,) = [line for line in text.splitlines() if line.startswith("7 ") and "conv" in line]
    assert "bandwidth, L1" in row  # 16 x 10 weights for each of 10 sums
    layer = next(layer for layer in found.layers if layer.path == "7" and layer.macs)
    assert layer.bytes == 4 * (16 + 160 + 10)  # read: more than the 10 that are written
    assert layer.filled == 10 / (-(-10 // NATIVE.lanes) * NATIVE.lanes)


def test_the_command_prints_the_layers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text("from torch import nn\ndef one(): return nn.Conv2d(3, 8, 3)\n")
    with pytest.raises(SystemExit) as end:
        main(["bench", "nets.py:one", "--layers", "--shape", "1,3,20,20", "--batch", "3"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "nets.py:one on 3x3x20x20, " in out
    assert "8x18x18" in out
