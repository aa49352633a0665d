"""Where time goes: every step is timed, every multiply-add is told of one, and the sums agree."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import depthwise as dw
from depthwise.accounting.tables import render
from depthwise.bench.layers import LayerTime, Profile, bound, profile
from depthwise.bench.peak import measure_peak
from depthwise.bench.tables import layers_table
from depthwise.cli import main
from depthwise.compiler import pipeline
from depthwise.compiler.clock import time_steps
from depthwise.compiler.plan import make_plan
from depthwise.compiler.target import find_target
from depthwise.graph import capture
from depthwise.machine import Machine

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
    times = time_steps(plan, seconds=0.0)
    assert times.shape[0] >= 15
    assert times.shape[1] == len(plan.steps)
    assert (times >= 0).all()


def test_the_layers_take_as_long_as_the_whole():
    net, shape = dw.build("mobilenet_v3_small"), (1, 3, 96, 96)
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
    peak = measure_peak()
    assert peak > found.flops
    text = render(layers_table("small", found, peak, None), 140)
    assert text.startswith(f"small, median of {found.runs} runs")
    assert f"{peak / 1e9:.1f} GFLOP/s" in text


def machine():
    """Return a machine whose L1 gives 100 GB/s, and its memory 10."""
    rates = {"L1": 100.0, "memory": 10.0}
    return Machine.model_validate(
        {
            "cpu": "paper", "features": (), "cores": 1, "target": "x86-64-v4", "compiler": "none",
            "date": "2026", "rounds": 1, "caches": (32768,), "cache_source": "system",
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
        (5_000_000, 2_000_000, 1, 1.0, 2e-4, "bandwidth, memory"),
        (5_000_000, 2_000_000, 100, 1.0, 1e-4, "arithmetic"),  # streamed: a window stays near
    ],
)
def test_a_layer_is_bound_by_what_takes_longest(macs, size, calls, filled, seconds, reason):
    layer = LayerTime("a", "a", "f32_conv", (1, 8, 9, 9), "", calls, 1e-3, macs, size, filled)
    found = bound(layer, machine(), peak=100e9)
    assert found.seconds == pytest.approx(seconds)
    assert found.reason == reason


def test_the_table_says_what_a_layer_is_bound_by(found):
    text = render(layers_table("small", found, 1e12, machine()), 160)
    (row,) = [line for line in text.splitlines() if line.startswith("7 ") and "conv" in line]
    assert "bandwidth, L1" in row  # 16 x 10 weights for each of 10 sums
    layer = next(layer for layer in found.layers if layer.path == "7" and layer.macs)
    assert layer.bytes == 4 * (16 + 160 + 10 + 10)
    assert layer.filled == 10 / (-(-10 // NATIVE.lanes) * NATIVE.lanes)


def test_the_command_prints_the_layers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text("from torch import nn\ndef one(): return nn.Conv2d(3, 8, 3)\n")
    with pytest.raises(SystemExit) as end:
        main(["bench", "nets.py:one", "--layers", "--shape", "1,3,20,20"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "nets.py:one" in out
    assert "8x18x18" in out
