"""Predicted latency where weights come from afar, on machines where that is fast and slow."""

from dataclasses import replace

import numpy as np
import pytest
from machines import MACHINE, spread
from torch import nn

from depthwise.compiler import pipeline
from depthwise.compiler.planning import make_plan
from depthwise.compiler.work import LINE
from depthwise.graph import capture
from depthwise.hardware.caches import shares_held, sizes_held
from depthwise.hardware.record import CacheShare, Reading
from depthwise.latency import fit
from depthwise.latency.cache_model import share_held, sources, touches
from depthwise.latency.features import features_of, time_of
from depthwise.latency.fit import TimedNetwork, check, make_table
from depthwise.latency.predict import predict
from depthwise.latency.timing import (
    Runs,
    Sample,
    by_layer,
    choose_cache,
    copies_beyond,
    middle_half,
)
from depthwise.runtime.target import find_target

TARGET = find_target(MACHINE.target)
MIB = 2**20


@pytest.fixture(autouse=True)
def digest_of_today(monkeypatch):
    monkeypatch.setattr(fit, "code_digest", lambda *_: "today")  # which takes seconds


def plan_of(net, shape):
    return make_plan(pipeline.rewrite(capture(net.eval(), shape)), TARGET)


def steps_of(plan, kernel):
    return [i for i, step in enumerate(plan.steps) if step.kernel == kernel]


@pytest.fixture
def two():
    """Two convolutions, the first of which brings weights of the second closer."""
    net = nn.Sequential(nn.Conv2d(64, 128, 1), nn.ReLU(), nn.Conv2d(128, 256, 1))
    plan = plan_of(net, (1, 64, 16, 16))
    return plan, *steps_of(plan, "f32_conv")


def test_what_is_fetched_begins_with_the_next_weights(two):
    plan, first, second = two
    step, after = plan.steps[first], plan.steps[second]
    start, count = step.row.fetches(step.arguments, TARGET.lanes)
    assert start + 128 == after.arguments["w"].offset  # its own bias lies between
    a = step.arguments
    tiles = a["rows"] * -(-a["width"] // a["tile_pixels"])
    blocks = -(-128 // (a["tile_vectors"] * TARGET.lanes))
    assert count == tiles * blocks * a["prefetch_lines"] * LINE > 0
    often = step.with_arguments(prefetch_lines=2, prefetch_steps=16)
    assert often.row.fetches(often.arguments, TARGET.lanes)[1] == tiles * blocks * 4 * 2 * LINE


def test_fetched_weights_are_near_when_it_is_their_turn(two):
    plan, first, second = two
    step = plan.steps[first]
    _, count = step.row.fetches(step.arguments, TARGET.lanes)
    fetched = 4 * min(count, 128 + 128 * 256 + 256)  # no more than there is
    found = sources(plan, (2**15, MIB), cold=True)
    assert found[first]["fetched", "memory"] == pytest.approx(fetched, abs=2048)
    rest = 4 * (128 + 128 * 256 + 256) - fetched
    assert found[second].get(("weights", "memory"), 0) == pytest.approx(rest, abs=2048)
    mute = step.with_arguments(prefetch_lines=0, next=None)
    regions = tuple(
        tuple(tuple(mute if each is step else each for each in part) for part in region)
        for region in plan.regions
    )
    silent = replace(plan, regions=regions)
    found = sources(silent, (2**15, MIB), cold=True)
    assert found[second]["weights", "memory"] == pytest.approx(4 * 128 * 256, abs=2048)


def test_cold_weights_come_from_memory_and_hot_ones_do_not(two):
    plan, first, _ = two
    hot, cold = (sources(plan, (2**10, 8 * MIB), cold=cold)[first] for cold in (False, True))
    assert ("weights", "memory") not in hot
    assert cold["weights", "memory"] == pytest.approx(4 * 64 * 128, abs=2048)
    assert {key: n for key, n in hot.items() if key[0] in ("read", "written")} == {
        key: n for key, n in cold.items() if key[0] in ("read", "written")
    }


def test_a_border_touches_little():
    plan = plan_of(nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)), (1, 8, 32, 32))
    (border,) = steps_of(plan, "f32_fill_border")
    assert touches(plan.steps[border], plan) == []


def test_weights_that_are_read_once_are_streamed(two):
    plan, first, _ = two
    conv = features_of(plan, MACHINE, cold=True)[first]
    linear = plan_of(nn.Linear(512, 512), (1, 512))
    (only,) = steps_of(linear, "f32_conv")
    one = features_of(linear, MACHINE, cold=True)[only]
    assert "streamed memory" in one
    assert "weights memory" not in one
    assert "weights memory" in conv
    assert "streamed memory" not in conv


def test_a_slower_clock_makes_the_core_slower_and_memory_not(two):
    plan, first, _ = two
    best, half = (features_of(plan, MACHINE, True, clock)[first] for clock in (1.0, 0.5))
    for name, value in best.items():
        if name != "overlap":
            far = name.endswith("memory")
            assert half[name] == pytest.approx(value if far else 2 * value), name
    assert half["overlap"] <= best["overlap"] < 0


def test_usual_runs_add_up():
    seconds = np.array([[1, 1], [3, 1], [1, 3], [1, 9], [9, 1], [2, 2], [1, 3], [3, 1]], float)
    found = middle_half([Runs(seconds, np.ones(8))])
    assert sorted(found.seconds.sum(1)) == [4, 4, 4, 4]  # medians of steps would add up to 3
    slow = middle_half([Runs(np.array([[4.0], [2], [8], [6]]), np.array([1.0, 2, 0.25, 9]))])
    assert sorted(slow.seconds[:, 0]) == [2, 4]  # all but the longest and shortest for its peak
    assert slow.peak == 1.5


def with_caches(*caches, shared=()):
    return MACHINE.model_copy(update={"caches": caches, "shared": shared})


def test_copies_are_more_than_a_cache_holds_and_not_too_many():
    assert copies_beyond(10 * MIB, with_caches(2**15, MIB, 32 * MIB)) == 7
    assert copies_beyond(100 * MIB, with_caches(2**15, MIB, 32 * MIB)) == 1
    assert copies_beyond(MIB, with_caches(2**15, MIB, 2**32)) == 1  # more memory than we take


HELD = {8: 1, 64: 0.9, 128: 0.5, 256: 0.2, 512: 0.05}  # by MiB
SHARED = tuple(CacheShare(size=size * MIB, held=held) for size, held in HELD.items())


def test_copies_are_more_than_others_leave_of_a_shared_cache():
    assert copies_beyond(10 * MIB, with_caches(2**15, MIB, 128 * MIB, shared=SHARED)) == 52


@pytest.mark.parametrize(
    ("distance", "size", "share"),
    [
        (2, 128, 1), (96, 128, 0.7), (192, 128, 0.35), (1024, 128, 0), (np.inf, 128, 0),
        (24, 32, 0.7), (48, 32, 0.35),  # where the network gets a quarter of that
    ],
)  # fmt: skip
def test_a_shared_cache_holds_the_less_the_more_was_read_since(distance, size, share):
    found = share_held(np.array([distance * MIB]), size * MIB, SHARED)
    assert found == pytest.approx([share])


def test_a_shared_cache_no_faster_than_memory_holds_nothing(two):
    plan, first, _ = two
    none = tuple(CacheShare(size=size, held=0) for size in (2**13, 2**14))
    found = sources(plan, (2**10, 2**12, max(sizes_held(none))), shared=none)[first]
    assert found["weights", "memory"] > 0
    assert ("weights", "L3") not in found


def test_what_a_shared_cache_holds_in_part_comes_from_it_in_part(two):
    plan, first, _ = two
    inner, kept = (2**10, 2**12), plan.buffers[0].bytes
    half = (CacheShare(size=2**13, held=1), CacheShare(size=2**24, held=1),
            CacheShare(size=2**25, held=0.5), CacheShare(size=2**26, held=0))  # fmt: skip
    all_of_it, none = (sources(plan, (*inner, size), shared=half)[first] for size in (2**25, 2**13))
    some = sources(plan, (*inner, kept), shared=half)[first]
    assert all_of_it["weights", "L3"] == none["weights", "memory"] > 0
    assert 0 < some["weights", "L3"] < all_of_it["weights", "L3"]
    assert some["weights", "L3"] + some["weights", "memory"] == all_of_it["weights", "L3"]


@pytest.mark.parametrize(
    ("rates", "memory", "shares"),
    [
        # an Intel Xeon's share of what its virtual machine names, and an AMD EPYC's own cache
        ([29, 29, 28, 28.5, 21, 15, 14.5], 15, [1, 1, 0.96, 0.96, 0.59, 0, 0]),
        ([119, 115, 109, 106, 104], 28, [1, 0.99, 0.97, 0.96, 0.96]),
        ([20, 19, 18], 20, [0, 0, 0]),  # no faster than memory
    ],
)
def test_a_shared_cache_holds_what_reading_shows(rates, memory, shares):
    assert shares_held(rates, memory) == pytest.approx(shares, abs=0.01)


def test_the_cache_counts_as_large_as_the_times_say():
    convs = nn.Conv2d(64, 128, 1), nn.ReLU(), nn.Conv2d(128, 256, 1)
    plan = plan_of(nn.Sequential(*convs, nn.MaxPool2d(2)), (1, 64, 16, 16))
    sizes = (64 * 1024, 2**20)  # of the second, all weights would come from the cache
    shared = tuple(CacheShare(size=size, held=1) for size in sizes)
    readings = (*MACHINE.readings[:2], Reading(level="L3", span=MIB, gigabytes=spread(100)))
    here = MACHINE.model_copy(
        update={"caches": (2**10, 2**14, 2**20), "shared": shared,
                "readings": (*readings, MACHINE.readings[2])}
    )  # fmt: skip
    for size in sizes:
        real = here.model_copy(update={"caches": (2**10, 2**14, size)})
        prices = {"steps": 2e-10, "elements": 1e-10, "weights L3": 1e-11, "fetched L3": 1e-11,
                  "read L3": 1e-11, "weights memory": 1e-9, "fetched memory": 1e-9,
                  "read memory": 1e-9}  # fmt: skip
        times = [time_of(own, prices) for own in features_of(plan, real, clock=0.8)]
        runs = Runs(np.array([times]), np.array([80.0]))
        cold = [time_of(own, prices) for own in features_of(plan, real, True, clock=0.8)]
        sample = Sample("two", plan, runs, Runs(np.array([cold]), np.array([80.0])))
        assert choose_cache(here, [sample])[0].caches[-1] == size


def test_winograd_reads_its_weights_again_for_each_batch():
    plan = plan_of(nn.Conv2d(128, 128, 3, padding=1), (1, 128, 56, 56))
    (only,) = steps_of(plan, "f32_winograd")
    weights = 4 * 36 * 128 * 128  # 6 x 6 points
    batches = -(-196 // plan.steps[only].arguments["batch"])
    assert batches > 1
    assert features_of(plan, MACHINE)[only]["again memory"] == (batches - 1) * weights


# What reading takes, in GB/s, and how a byte of weights is priced, in times of that: on the fast
# machine reading hides behind computing, on the slow one tiles of pixels wait for twice as long.
KINDS = {
    "fast": ({"L2": 200, "L3": 120, "memory": 40}, 1.0, 0.9),
    "slow": ({"L2": 170, "L3": 28, "memory": 14}, 2.0, 0.1),
}


def machine(kind):
    rates, waits, overlap = KINDS[kind]
    readings = [Reading(level=k, span=MIB, gigabytes=spread(v)) for k, v in rates.items()]
    here = MACHINE.model_copy(
        update={"caches": (2**15, MIB, 8 * MIB), "readings": (MACHINE.readings[0], *readings)}
    )
    prices = {"calls": 1e-7, "steps": 1.8e-10, "tiles": 4e-9, "elements": 2e-10, "windows": 1e-11}
    for level, rate in rates.items():
        prices |= {f"{role} {level}": 1e-9 / rate for role in ("read", "written", "streamed")}
        prices[f"weights {level}"] = waits * 1e-9 / rate
    return here, {**prices, "overlap": overlap}


def pyramid(*widths):
    """Convolutions over 28, 14 and 7 pixels, and linear layers of many weights."""
    layers, before = [], 16
    for i, width in enumerate(widths):
        layers += [nn.Conv2d(before, width, 1, 1 + (i in (2, 4))), nn.ReLU()]
        before = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1500), nn.Linear(1500, 700)]
    return plan_of(nn.Sequential(*layers, *head), (1, 16, 28, 28))


@pytest.fixture(scope="module")
def pyramids():
    every = ((64, 96, 128, 256, 512, 800), (32, 160, 200, 300, 640, 900), (48, 80, 320, 400, 720))
    return [pyramid(*widths) for widths in every]


@pytest.mark.parametrize("kind", KINDS)
def test_known_prices_are_found_on_fast_and_slow_machines(kind, pyramids):
    here, prices = machine(kind)
    random = np.random.default_rng(0)

    def timed(plan, clock, cold):
        found = features_of(plan, here, cold, clock)
        seconds = [time_of(own, prices) * random.uniform(0.98, 1.02) for own in found]
        return by_layer(plan.steps, found, seconds)

    networks = [
        TimedNetwork(str(i), 100 * clock, timed(plan, clock, False), timed(plan, clock, True))
        for i, (plan, clock) in enumerate(zip(pyramids, (0.7, 1.0, 0.85), strict=True))
    ]
    table = make_table(here, networks)
    conv = table.coefficients("f32_conv")
    for name in ("steps", "streamed memory", "weights memory"):
        assert conv[name] == pytest.approx(prices[name], rel=0.1), name
    assert conv.get("overlap", 0) == pytest.approx(prices["overlap"], abs=0.15)
    assert [network.name for network in table.networks] == ["0", "1", "2"]
    assert all(abs(network.error) < 0.03 for network in table.networks)
    new = pyramid(72, 112, 144, 360, 576)
    said = sum(predict(new, here, table, gflops=80))
    took = sum(time_of(own, prices) for own in features_of(new, here, clock=0.8))
    assert said == pytest.approx(took, rel=0.03)


def test_each_network_is_checked_against_the_others_alone():
    def network(name, price):
        rows = [("f32_unary", {"calls": float(n)}, price * n) for n in (1, 2, 3)]
        return TimedNetwork(name, 90, rows)

    one, two, three = check(MACHINE, [network("a", 2e-6), network("b", 2e-6), network("c", 1e-6)])
    assert (one.measured, two.name) == (pytest.approx(12e-6), "b")
    assert three.error == pytest.approx(1, abs=0.01)  # the others say 2 us for each
    assert -0.5 < one.error < 0
    assert list(check(MACHINE, [network("a", 2e-6)])) == []
