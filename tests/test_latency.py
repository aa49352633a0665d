"""Predicted latency: what steps are made of, what that costs, and whose layer it is."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
import torch
from machines import MACHINE
from test_cli import run
from torch import nn

import depthwise as dw
from depthwise import hardware as machines
from depthwise.analysis.cost import PredictionError
from depthwise.compiler import pipeline
from depthwise.compiler.kernels import KERNELS
from depthwise.compiler.planning import make_plan
from depthwise.families import find_network
from depthwise.graph import capture
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.choice import choose_core
from depthwise.hardware.load import Load
from depthwise.hardware.record import OTHERS, CheckedNetwork, KernelCoefficients, KernelTable
from depthwise.latency import calibration_networks, fingerprint, fit, timing
from depthwise.latency.cache_model import sources, touches
from depthwise.latency.calibration_networks import (
    CALIBRATION_NETWORKS,
    calibration_plan,
    networks_in,
)
from depthwise.latency.features import features_of
from depthwise.latency.fingerprint import is_current
from depthwise.latency.fit import TimedNetwork, make_table
from depthwise.latency.least_squares import bounded_least_squares
from depthwise.latency.precisions import in_eight_bits, rewritten_in
from depthwise.latency.predict import attribute, predict
from depthwise.latency.timing import by_layer
from depthwise.layers import InvertedResidual
from depthwise.runtime.target import cpu_name, find_target, native_for

TARGET = find_target(MACHINE.target)

CHECKED = (
    CheckedNetwork(name="one", measured=2e-3, predicted=1.8e-3),
    CheckedNetwork(name="other", measured=1e-3, predicted=1.02e-3),
)
COEFFICIENTS = {"calls": 1e-7, "steps": 2e-10, "elements": 1e-11, "read memory": 1e-10}


TODAY = "today"  # in place of a digest, which takes seconds (test_fingerprint.py)


@pytest.fixture(autouse=True)
def digest_of_today(monkeypatch):
    for module in (fit, fingerprint):
        monkeypatch.setattr(module, "code_digest", lambda *_: TODAY)


def plan_of(net, shape, optimize=None):
    graph = pipeline.rewrite(capture(net.eval(), shape))
    core = choose_core(None, TARGET, native=MACHINE.cpu == cpu_name())
    return make_plan(graph, TARGET, optimize=optimize, core=core)


def table(**coefficients):
    kernels = [
        KernelCoefficients(kernel=k, steps=1, coefficients=p, error=0)
        for k, p in coefficients.items()
    ]
    return KernelTable(
        code=TODAY, calibrated=MACHINE.date, gflops=100, kernels=tuple(kernels), networks=CHECKED
    )


KNOWN = MACHINE.model_copy(
    update={"kernels": table(**{"f32_conv": COEFFICIENTS, OTHERS: COEFFICIENTS})}
)


def one(plan, kernel):
    found = zip(plan.steps, features_of(plan, MACHINE), strict=True)
    (only,) = [own for step, own in found if step.kernel == kernel]
    return only


def test_a_convolution_is_counted_by_its_tiles():
    plan = plan_of(nn.Conv2d(8, 32, 1), (1, 8, 6, 6))
    (step,) = [step for step in plan.steps if step.kernel == "f32_conv"]
    pixels, vectors = map(int, step.comment.removeprefix("tile ").split("x"))
    assert (32 // 8) % vectors == 0  # the tile that this counts on: whole in the channels
    columns = [pixels] * (36 // pixels) + ([36 % pixels] if 36 % pixels else [])
    found = one(plan, "f32_conv")
    assert found["tiles"] == len(columns) * 4 // vectors
    assert found["stores"] == 36 * 4
    work = sum(max(p * vectors, p + vectors, 8) for p in columns) * 4 // vectors
    assert found["steps"] == 8 * work
    assert found["calls"] == 1
    found = one(plan_of(nn.Linear(8, 24), (1, 8)), "f32_conv")
    assert found["steps"] == 8 * 8  # 3 multiply-adds wait 4 cycles, in which there were 8


def test_a_depthwise_convolution_loads_what_its_tiles_see():
    found = one(plan_of(nn.Conv2d(8, 8, 3, groups=8), (1, 8, 9, 9)), "f32_depthwise")
    assert found["steps"] == 49 * 9  # one vector of 8 channels
    assert found["loads"] == 7 * 3 * 9  # a row of 7 at a time sees 3 x 9
    assert found["wide steps"] == found["part loads"] == 0
    found = one(plan_of(nn.Conv2d(12, 12, 5, groups=12), (1, 12, 9, 9)), "f32_depthwise")
    assert found["wide steps"] == found["steps"] == 2 * 25 * 25
    assert found["part loads"] > 0


def test_winograd_counts_each_batch():
    plan = plan_of(nn.Conv2d(128, 128, 3, padding=1), (1, 128, 28, 28))
    found = one(plan, "f32_winograd")
    (step,) = [step for step in plan.steps if step.kernel == "f32_winograd"]
    assert "6x6 points" in step.comment
    assert found["stores"] == found["outputs"] == found["inputs"] == 7 * 7 * 36 * 16


def test_bytes_come_from_the_nearest_cache_that_still_has_them():
    wide = nn.Sequential(nn.Conv2d(8, 64, 1), nn.ReLU(), nn.Conv2d(64, 8, 1))
    plan = plan_of(wide, (1, 8, 64, 64))  # 128 KiB, 1 MiB, 128 KiB
    large, small = sources(plan, (2**14, 2**22)), sources(plan, (2**14, 2**18))
    at = [i for i, step in enumerate(plan.steps) if step.kernel == "f32_conv"]
    middle = 64 * 64 * 64 * 4
    assert large[at[1]]["read", "L2"] >= 0.9 * middle
    assert small[at[1]]["read", "memory"] == pytest.approx(middle, rel=0.01)
    assert not any(level == "memory" for found in large for _, level in found)
    tiny = sources(plan, (2**23,))
    assert {level for found in tiny for _, level in found} == {"L1"}


@pytest.mark.parametrize(
    ("conv", "kernel"),
    [
        (nn.Conv2d(16, 16, 1), "f32_conv"),
        (nn.Conv2d(16, 16, 3, padding=1, groups=16), "f32_depthwise"),
    ],
)
def test_a_band_touches_its_own_rows_alone(conv, kernel):
    plan = plan_of(conv, (1, conv.in_channels, 64, 64))
    (whole,) = [step for step in plan.steps if step.kernel == kernel]
    split = whole.split("rows")
    assert split
    band = whole.part(split, 8, 16)

    def read(step):
        return sum(touch.size for touch in touches(step, plan) if touch.role == "read")

    reach = conv.kernel_size[0] - 1
    rows = read(band) / read(whole) * (64 + reach)
    assert rows == pytest.approx(16 + reach, abs=0.5)


def test_weights_are_read_again_by_each_tile_where_no_cache_holds_them():
    found = one(plan_of(nn.Conv2d(512, 512, 3), (1, 512, 4, 4)), "f32_conv")
    weights = 512 * 512 * 9 * 4
    again = [value for name, value in found.items() if name.startswith("again")]
    assert sum(again) % weights == 0
    assert found["weights memory"] == pytest.approx(weights + 4 * 512, rel=0.01)
    # reading takes 0.94 ms at 10 GB/s, computing less
    assert found["overlap"] == pytest.approx(-2e-9 * 8 * found["steps"] / 100)


def test_coefficients_are_found_again():
    random = np.random.default_rng(0)
    a = random.uniform(0, 1, (40, 5))
    x = np.array([3, 0, 2, 0.5, 7])
    free = np.full(5, np.inf)
    assert np.allclose(bounded_least_squares(a, a @ x, free), x, atol=1e-4)
    low = bounded_least_squares(a, a @ np.array([3, -4, 2, 0.5, 7]), free)
    assert low[1] == 0
    assert low.min() >= 0
    assert bounded_least_squares(a, a @ x, np.array([1, 9, 9, 9, 9]))[0] == 1
    never = np.column_stack([a, np.zeros(40)])  # a feature that no step has
    assert np.allclose(bounded_least_squares(never, a @ x, np.full(6, np.inf))[:5], x, atol=1e-4)


def test_a_table_has_coefficients_of_each_kernel_and_for_unknown_ones():
    random = np.random.default_rng(1)
    rows = []
    for kernel, coefficients in (
        ("f32_conv", {"calls": 1e-6, "steps": 1e-9}),
        ("f32_max_pool", {"calls": 1e-7, "windows": 2e-9}),
        ("f32_unary", {"calls": 1e-7, "windows": 2e-9}),
    ):
        for _ in range(20):
            own = {name: float(random.integers(1, 1000)) for name in coefficients}
            rows.append((kernel, own, sum(coefficients[name] * own[name] for name in own)))
    found = make_table(MACHINE, [TimedNetwork("rows", 90, rows)])
    assert found.coefficients("f32_conv")["steps"] == pytest.approx(1e-9, rel=1e-3)
    assert found.coefficients("f32_unary")["windows"] == pytest.approx(2e-9, rel=1e-3)
    assert found.coefficients("f32_never_seen")["windows"] == pytest.approx(2e-9, rel=1e-3)
    assert all(each.error < 1e-3 for each in found.kernels)
    timed = MACHINE.model_copy(update={"kernels": found})
    assert is_current(timed)
    assert not is_current(MACHINE)
    assert not is_current(timed.model_copy(update={"date": "2026-01-02T00:00:00+00:00"}))
    other = found.model_copy(update={"code": "other"})
    assert not is_current(timed.model_copy(update={"kernels": other}))


def test_bands_of_a_layer_are_one_row():
    plan = plan_of(InvertedResidual(16, 96, 16), (1, 16, 112, 112), "memory")
    steps = plan.steps
    rows = by_layer(steps, features_of(plan, MACHINE), [1.0] * len(steps))
    assert sum(time for *_, time in rows) == len(steps)
    assert len(rows) == len({(step.name, step.kernel) for step in steps})
    assert sum(own["calls"] for _, own, _ in rows) == len(steps)


def test_no_byte_costs_more_than_reading_can_explain():
    rows = [("f32_conv", {"read memory": 1e5 * i}, 1e-3 * i) for i in range(1, 801)]
    rows.append(("f32_unary", {"calls": 1.0}, 1e-6))
    found = make_table(MACHINE, [TimedNetwork("rows", 90, rows)])
    price = found.coefficients("f32_conv")["read memory"]
    assert price == pytest.approx(fit.TIGHT / 10e9)


def test_a_step_takes_its_features_times_their_coefficients():
    plan = plan_of(nn.Conv2d(8, 32, 1), (1, 8, 6, 6))
    found = predict(plan, MACHINE, table(**{OTHERS: {"calls": 1.0}, "f32_conv": {"stores": 2.0}}))
    by_kernel = dict(zip([step.kernel for step in plan.steps], found, strict=True))
    assert by_kernel["f32_conv"] == 2 * 36 * 4
    assert by_kernel["f32_copy"] == 1


def test_layers_have_the_time_of_what_is_fused_into_them():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    plain = dw.cost(net, (1, 3, 16, 16))
    assert plain.milliseconds is None
    found = dw.cost(net, (1, 3, 16, 16), machine=KNOWN)
    times = {layer.path: layer.milliseconds for layer in found.layers}
    assert times["1"] == times["2"] == times["5"] == 0
    assert min(times[path] for path in "0346") > 0
    assert found.milliseconds is not None
    rest = found.milliseconds - sum(times.values())
    assert 0 < rest < 0.3 * found.milliseconds  # the copies of the input and of the output
    stripped = replace(
        found, milliseconds=None, milliseconds_error=None,
        layers=tuple(replace(layer, milliseconds=None) for layer in found.layers),
    )  # fmt: skip
    assert stripped == plain
    assert json.loads(found.to_json())["milliseconds"] == found.milliseconds
    (first, *_) = csv.DictReader(io.StringIO(found.to_csv()))
    assert float(first["milliseconds"]) == times["0"]
    assert "us: predicted for one thread" in found.table()
    assert "predicted" not in plain.table()


def test_a_prediction_states_how_close_predictions_come():
    found = dw.cost(nn.Conv2d(3, 8, 3), (1, 3, 16, 16), machine=KNOWN)
    assert found.milliseconds_error == PredictionError(
        mean=pytest.approx(0.06), worst=pytest.approx(0.1), networks=2
    )
    assert json.loads(found.to_json())["milliseconds_error"] == {
        "mean": pytest.approx(0.06), "worst": pytest.approx(0.1), "networks": 2,
    }  # fmt: skip
    assert (
        "2 networks, each from the times of the others, were 6.0 % off on average, 10.0 % at"
        in (" ".join(found.table().split()))
    )
    plain = dw.cost(nn.Conv2d(3, 8, 3), (1, 3, 16, 16))
    assert json.loads(plain.to_json())["milliseconds_error"] is None
    assert "others" not in plain.table()


def test_a_module_that_runs_twice_has_its_times_apart():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    cost = dw.cost(nn.Sequential(conv, nn.ReLU(), conv), (1, 4, 8, 8))
    plan = plan_of(nn.Sequential(conv, nn.ReLU(), conv), (1, 4, 8, 8))
    steps = [step for step in plan.steps if step.kernel == "f32_conv"]
    found = attribute(cost, steps, [1.0, 2.0])
    assert [layer.milliseconds for layer in found.layers] == [1000, 0, 2000]


def test_the_time_is_the_convolutions_where_a_module_computes_more():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4, 3, 3))

        def forward(self, x):
            return torch.relu(nn.functional.conv2d(x, self.weight))

    found = dw.cost(Both(), (1, 4, 8, 8), machine=KNOWN)
    conv, relu = (layer.milliseconds for layer in found.layers)
    assert conv
    assert relu == 0


def test_a_machine_must_know_these_kernels():
    net, shape = nn.Conv2d(3, 8, 3), (1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"^no kernels were timed on Round .*depthwise calibrate"):
        dw.cost(net, shape, machine=MACHINE)
    old = KNOWN.kernels.model_copy(update={"code": "old"})
    with pytest.raises(ValueError, match="of another version: run `depthwise calibrate`"):
        dw.cost(net, shape, machine=MACHINE.model_copy(update={"kernels": old}))
    with torch.device("meta"), pytest.raises(dw.Unsupported, match="meta device"):
        dw.cost(nn.Conv2d(3, 8, 3), shape, machine=KNOWN)


def test_each_precision_is_predicted_by_its_own_kernels():
    net, shape = (
        nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 1)),
        (1, 3, 9, 9),
    )
    slow = table(**{OTHERS: {"calls": 1.0}}).model_copy(update={"precision": "int8"})
    both = KNOWN.with_table(slow)
    assert both.table("float32") == KNOWN.kernels
    assert both.table("bfloat16") is None
    found = dw.cost(net, shape, machine=both, precision="int8")
    plan = make_plan(rewritten_in(capture(net.eval(), shape), "int8"), native_for("int8"))
    assert found.milliseconds == 1e3 * len(plan.steps)
    assert found.milliseconds > 100 * (dw.cost(net, shape, machine=both).milliseconds or 0)
    quantised = in_eight_bits(capture(net.eval(), shape))
    assert dw.cost(quantised, machine=both).milliseconds == found.milliseconds
    layers = {layer.path: layer.milliseconds for layer in found.layers}
    assert layers["0"] == layers["2"] == 1e3
    with pytest.raises(
        ValueError, match=r"no kernels of bfloat16 .*calibrate --precision bfloat16"
    ):
        dw.cost(net, shape, machine=both, precision="bfloat16")
    with pytest.raises(ValueError, match="'int4': predictions are for float32, bfloat16"):
        dw.cost(net, shape, machine=both, precision="int4")


def test_a_narrow_table_has_float32_for_what_its_networks_do_not_call():
    rows = [("u8_quantize", {"calls": 1.0}, 1e-6), ("u8_lookup", {"calls": 1.0}, 1e-6)]
    found = make_table(KNOWN, [TimedNetwork("rows", 90, rows)], "int8")
    assert found.precision == "int8"
    assert found.coefficients("f32_conv") == COEFFICIENTS
    assert found.coefficients("u8_quantize") != COEFFICIENTS
    assert found.coefficients(OTHERS) != COEFFICIENTS


def test_more_work_takes_longer():
    times = [
        dw.cost(nn.Conv2d(16, outs, 3), (1, 16, 32, 32), machine=KNOWN).milliseconds
        for outs in (16, 64, 256)
    ]
    assert all(before < after for before, after in pairwise(times))


@pytest.mark.slow
def test_samples_call_the_kernels_that_our_networks_call():
    called = {
        step.kernel
        for sample in CALIBRATION_NETWORKS
        for step in calibration_plan(sample, TARGET).steps
    }
    whole = {name for name, row in KERNELS.items() if row.count and row.dtype == FLOAT32}
    assert whole <= called
    narrow = {
        step.kernel
        for precision, name in (
            ("bfloat16", "x86-64-amx"), ("int8", "x86-64-amx"), ("float16", "x86-64-avx512-fp16"),
        )
        for sample in networks_in(precision)
        for step in calibration_plan(sample, find_target(name), precision).steps
    }  # fmt: skip
    named = ("tile_conv", "pair_depthwise", "quantized_conv", "quantized_depthwise")
    assert {name for name, row in KERNELS.items() if row.name in named} <= narrow
    for name in ("mobilenet_v3_small", "ghostnet", "googlenet", "xception", "senet154"):
        entry = find_network(name)
        plan = plan_of(entry.construct(), (1, 3, entry.resolution, entry.resolution), "speed")
        assert {step.kernel for step in plan.steps} <= called, name


def test_kernels_are_timed_and_kept(tmp_path, monkeypatch):
    place = tmp_path / "this.json"
    monkeypatch.setattr("depthwise.hardware.calibration.machine_path", lambda: place)
    monkeypatch.setattr(
        calibration_networks,
        "CALIBRATION_NETWORKS",
        [s for s in CALIBRATION_NETWORKS if s.name == "small"],
    )
    monkeypatch.setattr(timing, "SECONDS", 0.01)
    monkeypatch.setattr(Load, "disturbed", "")
    now = datetime.now(UTC).isoformat()
    here = MACHINE.model_copy(update={"target": find_target("native").name, "date": now})
    found = timing.time_kernels(here)
    assert machines.find() == found
    assert is_current(found)
    cost = dw.cost(find_network("resnet56_cifar").construct(), (1, 3, 32, 32), machine=found)
    assert cost.milliseconds is not None
    assert 0.01 < cost.milliseconds < 1000


def test_an_old_calibration_is_made_again_before_kernels_are_timed(monkeypatch):
    now = MACHINE.model_copy(update={"date": datetime.now(UTC).isoformat()})
    monkeypatch.setattr(timing, "calibrate", lambda: now)
    monkeypatch.setattr(timing, "keep", lambda _: None)
    monkeypatch.setattr(calibration_networks, "CALIBRATION_NETWORKS", [])
    monkeypatch.setattr(timing, "choose_cache", lambda here, _: (here, []))
    monkeypatch.setattr(timing, "make_table", lambda here, _: table().model_copy(
        update={"calibrated": here.date}))  # fmt: skip
    assert timing.time_kernels(MACHINE).date == now.date  # MACHINE is months old
    assert is_current(timing.time_kernels(now))


def test_kernels_timed_while_others_ran_are_not_kept(monkeypatch):
    kept, tries = [], []
    here = MACHINE.model_copy(update={"date": datetime.now(UTC).isoformat()})
    monkeypatch.setattr(Load, "disturbed", "other programs took 60% of the cores' time")
    monkeypatch.setattr(timing, "keep", kept.append)
    monkeypatch.setattr(
        calibration_networks,
        "CALIBRATION_NETWORKS",
        [s for s in CALIBRATION_NETWORKS if s.name == "small"],
    )
    monkeypatch.setattr(timing, "build_clocked", lambda _: (None,))
    monkeypatch.setattr(timing, "timed", lambda *_: tries.append(1))
    row = TimedNetwork("small", 90, [("f32_unary", {"calls": 1.0}, 1e-6)])
    monkeypatch.setattr(timing, "choose_cache", lambda here, _: (here, [row]))
    found = timing.time_kernels(here)
    assert found.disturbed.startswith("other programs took")
    assert kept == []
    assert len(tries) == timing.TRIES


def test_a_whole_is_the_sum_of_its_layers_and_its_copies():
    net = nn.Sequential(InvertedResidual(16, 96, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = dw.cost(net, (1, 16, 40, 40), machine=KNOWN)
    plan = plan_of(net, (1, 16, 40, 40), "speed")
    assert KNOWN.kernels is not None
    steps = zip(plan.steps, predict(plan, KNOWN, KNOWN.kernels), strict=True)
    names = {layer.name for layer in found.layers}
    copies = 1e3 * sum(seconds for step, seconds in steps if step.name not in names)
    assert copies > 0
    layers = sum(layer.milliseconds or 0 for layer in found.layers)
    assert found.milliseconds == pytest.approx(layers + copies, rel=1e-12)


def test_cost_prints_milliseconds(capsys, monkeypatch):
    monkeypatch.setattr(machines, "find", lambda: None)
    code, _, err = run("cost", "conv:separable", "--machine", capsys=capsys)
    assert code == 2
    assert "run `depthwise calibrate` once" in err
    monkeypatch.setattr(machines, "find", lambda: KNOWN)
    code, out, _ = run("cost", "conv:separable", "--machine", capsys=capsys)
    assert code == 0
    assert "predicted for one thread" in out
    assert out.split("sees")[1].split()[0] == "us"  # a time this short is no 0.00 ms


def test_what_no_step_tells_costs_as_usual():
    rows = [("f32_unary", {"calls": 1.0, "read memory": 1.0 + i % 2}, 1e-3) for i in range(8)]
    found = make_table(MACHINE, [TimedNetwork("rows", 90, rows)])
    price = found.coefficients("f32_unary")["read memory"]
    assert price == pytest.approx(1 / 10e9, rel=0.1)  # a byte of 1 ms would be free, or cost all
