"""What is measured of a machine, and what is said from it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from machines import MACHINE
from test_cli import run

from depthwise import hardware
from depthwise.analysis.tables import render
from depthwise.hardware import calibration as module
from depthwise.hardware import load, passes, roofline
from depthwise.hardware.arithmetic import narrow_arithmetic
from depthwise.hardware.caches import caches_in_sweep, system_caches
from depthwise.hardware.calibration import (
    NarrowProbes,
    keep,
    machine_path,
    measure,
    spans_of_levels,
)
from depthwise.hardware.load import Load, Waiting, Watch
from depthwise.hardware.passes import MOST_DISTURBED, MOST_PASSES, ROUNDS, take_passes
from depthwise.hardware.probes import Probes, ProductProbes, fma_rate
from depthwise.hardware.record import Machine, in_words, share_of
from depthwise.hardware.tables import machine_table
from depthwise.latency import timing as kernels
from depthwise.runtime.target import AMX, find_target


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    """What is measured here does not take the place of the real measurement."""
    place = tmp_path / "machines" / "this.json"
    monkeypatch.setattr(module, "machine_path", lambda: place)
    return place


@pytest.fixture
def hurry(monkeypatch):
    """Two short rounds a pass: the numbers are of no use, but for being there."""
    monkeypatch.setattr(passes, "ROUNDS", 2)
    monkeypatch.setattr(module, "SECONDS", 1e-4)
    monkeypatch.setattr(module, "MEMORY", 2**20)
    monkeypatch.setattr(module, "system_caches", lambda: (32768, 2**20))


@pytest.fixture
def quiet(monkeypatch):
    """No measurement is disturbed, whatever else runs."""
    monkeypatch.setattr(Load, "disturbed", "")


class Clockwork:
    """Probes of a machine of 100 GFLOP/s, 10 GB/s, 50 ns a barrier; two threads get 1.5 times."""

    chains = 12

    def __init__(self, lanes):
        self.lanes = lanes

    def fma(self, steps, threads):
        return 2 * steps * self.chains * self.lanes * threads / 100e9 / self._share(threads)

    def read(self, spans, passes):
        return sum(s.size for s in spans) * passes / 10e9 / self._share(len(spans))

    def barrier(self, times, threads):
        assert threads == 2
        return times * 50e-9

    def span(self, size):
        return np.empty(size, np.uint8)  # never written: no memory is taken

    def _share(self, threads):
        return {1: 1.0, 2: 1.5}[threads]


@pytest.mark.usefixtures("quiet")
def test_rates_are_of_all_threads_together(monkeypatch):
    monkeypatch.setattr(module, "system_caches", lambda: (32768, 2**20))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    found = measure({4: Clockwork(4), 8: Clockwork(8)}, find_target("x86-64-v3"))
    assert [(p.lanes, round(p.gflops.worst, 9)) for p in found.peaks] == [(4, 100), (8, 100)]
    assert [r.level for r in found.readings] == ["L1", "L2", "memory"]
    assert {round(r.gigabytes.median, 9) for r in found.readings} == {10}
    assert found.second is not None
    assert round(found.second.arithmetic.best, 9) == round(found.second.memory.best, 9) == 1.5
    assert round(found.second.barrier.best, 9) == 50
    assert found.cache_source == "system"
    assert (found.rounds, found.apart, found.disturbed) == (2 * ROUNDS, 0, "")


class Multiplier:
    """Probes of 8 multiply-adds a step, at 400 of 1e9 operations a second."""

    products = 8

    def run(self, steps, threads):
        return 2 * steps * self.products * threads / 400e9

    def rate(self, steps, threads=1):
        return ProductProbes.rate(self, steps, threads)


@pytest.mark.usefixtures("quiet")
def test_narrow_types_have_peaks_of_their_own(monkeypatch):
    monkeypatch.setattr(module, "system_caches", lambda: (32768, 2**20))
    narrow = {"int8 dots": NarrowProbes(Multiplier(), "x86-64-vnni")}
    found = measure({8: Clockwork(8)}, find_target("x86-64-v3"), narrow)
    (peak,) = found.narrow
    assert (peak.arithmetic, peak.target) == ("int8 dots", "x86-64-vnni")
    assert round(peak.gflops.median, 9) == 400
    assert found.gflops == pytest.approx(100)  # float32's stay apart
    text = " ".join(render(machine_table(found), 120).split())
    assert "multiply-adds, int8 by VNNI 400.0 400.0 400.0 GOP/s one core, x86-64-vnni" in text
    assert Machine.model_validate_json(found.model_dump_json()) == found
    before = found.model_dump(mode="json", exclude={"narrow", "narrow_kernels"})
    assert Machine.model_validate(before).narrow == ()  # of a version that did not measure them


class Shared(Clockwork):
    """Probes of a core that gets 40 MiB of an L3, at 30 GB/s."""

    def read(self, spans, passes):
        far = spans[0].size > 40 * 2**20
        return sum(s.size for s in spans) * passes / (15e9 if far else 30e9)


@pytest.mark.usefixtures("quiet")
def test_of_a_shared_cache_counts_what_one_core_gets(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    for named, gets in ((480, range(28, 41)), (32, {32})):
        caches = (32768, 2**21, named * 2**20)
        monkeypatch.setattr(module, "system_caches", lambda caches=caches: caches)
        found = measure({4: Shared(4)}, find_target("x86-64-v2"))
        assert found.caches[:2] == caches[:2]
        assert found.caches[2] // 2**20 in gets


def test_one_core_has_no_second(monkeypatch):
    monkeypatch.setattr(module, "system_caches", lambda: ())
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    found = measure({4: Clockwork(4)}, find_target("x86-64-v2"))
    assert found.second is None
    assert found.cores == 1
    assert (found.caches, found.cache_source) == ((), "sweep")  # 10 GB/s from everywhere


def test_spans_lie_between_the_level_within_and_their_own():
    kib = 1024
    caches = (48 * kib, 1024 * kib, 32768 * kib)
    assert spans_of_levels(caches) == {
        "L1": 24 * kib, "L2": 512 * kib, "L3": 8192 * kib, "memory": 128 * 1024 * kib,
    }  # fmt: skip
    small = spans_of_levels((64 * kib, 96 * kib))
    assert small == {"L1": 32 * kib, "L2": 96 * kib, "memory": 64 * 1024 * kib}
    assert list(spans_of_levels(())) == ["memory"]


def test_caches_end_where_reading_slows_down():
    sizes = [2**k for k in range(13, 27)]
    # as measured with AVX-512 on a CPU of 48 KiB, 1 MiB and 32 MiB
    rates = [551, 550, 545, 193, 199, 204, 269, 169, 119, 126, 118, 109, 104, 60]
    assert caches_in_sweep(sizes, rates) == (2**15, 2**20, 2**25)
    assert caches_in_sweep(sizes, [100.0] * 14) == ()
    assert caches_in_sweep(sizes, [100.0] * 5 + [20.0] * 9) == (2**17,)
    assert caches_in_sweep(sizes, [100, 100, 70, 50, 20, 20] + [19] * 8) == (2**14,)  # one fall


def test_the_system_names_its_caches(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    rows = [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2M"), ("Data", 3, "?")]
    for i, row in enumerate(rows):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        for name, value in zip(("type", "level", "size"), row, strict=True):
            (folder / name).write_text(f"{value}\n")
    (tmp_path / "index4").mkdir()  # says nothing
    assert system_caches(tmp_path) == (48 * 1024, 2 * 2**20)
    assert system_caches(tmp_path / "nowhere") == ()


def test_the_longer_of_computing_and_reading_counts():
    assert roofline(MACHINE, macs=50_000_000, size=1000, level="memory") == pytest.approx(1e-3)
    assert roofline(MACHINE, macs=50, size=10_000_000, level="memory") == pytest.approx(1e-3)
    assert roofline(MACHINE, macs=50, size=10_000_000, level="L2") == pytest.approx(5e-5)
    assert roofline(MACHINE, macs=50, size=10_000_000, level="L3") == pytest.approx(1e-3)  # none


def test_what_fits_lies_near():
    assert [MACHINE.level(n) for n in (32768, 32769, 2**20, 2**20 + 1)] == [
        "L1", "L2", "L2", "memory",
    ]  # fmt: skip
    assert (MACHINE.lanes, MACHINE.gflops) == (8, 100)


@pytest.mark.usefixtures("hurry", "quiet")
def test_this_machine_is_measured_and_kept(path):
    assert hardware.find() is None
    found = hardware.calibrate()
    assert hardware.find() == found
    assert [peak.lanes for peak in found.peaks] == [
        n for n in (4, 8, 16) if n <= find_target("native").lanes
    ]
    assert found.gflops > 1  # any machine of this century
    assert found.target == find_target("native").name
    for before, after in (('"format":2', '"format":1'), (found.date, "yesterday")):
        path.write_text(found.model_dump_json().replace(before, after))
        assert hardware.find() is None


def test_probes_do_all_that_they_are_asked():
    target = find_target("native")
    probes = Probes(target, target.lanes)
    span = probes.span(1000)
    assert span.size % (8 * 4 * target.lanes) == 0
    assert span.size >= 1000
    for probe in (
        lambda times: probes.fma(1000 * times, 1),
        lambda times: probes.read([span], 100 * times),
        lambda times: probes.barrier(100 * times, 1),
    ):
        short, long = (min(probe(times) for _ in range(5)) for times in (10, 200))
        assert long > 4 * short > 0  # 20 times the work


@pytest.mark.parametrize("name", narrow_arithmetic())
def test_narrow_probes_multiply_all_that_they_are_asked(name):
    target = narrow_arithmetic()[name]
    probes = ProductProbes(target, name)
    if not probes.allowed:
        pytest.skip("NOT TESTED: the system does not lend the tiles of AMX")
    short, long = (min(probes.run(steps, 1) for _ in range(5)) for steps in (5_000, 100_000))
    assert long > 4 * short > 0  # 20 times the work
    rate = max(probes.rate(100_000) for _ in range(3))
    usual = Probes(find_target("native"), find_target("native").lanes)
    best = max(fma_rate(usual, 100_000) for _ in range(3))
    # a CPU has at most 32 times as many products of bytes as of floats, and one is done at all
    assert 0.2 * best < rate < 40 * best


@pytest.mark.skipif(not AMX.runs_here, reason="NOT TESTED: this CPU has no AMX")
def test_tiles_are_asked_for_before_they_are_taken():
    script = "from depthwise.bench.peak import measure_peak\n"
    script += "from depthwise.runtime.target import AMX\n"
    script += "print(measure_peak(1, AMX, 'int8 tiles') > measure_peak(1, AMX))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_two_threads_start_and_meet():
    probes = Probes(find_target("native"), 4)
    assert probes.barrier(20, 2) > 0
    assert probes.read([probes.span(4096), probes.span(4096)], 3) > 0


def test_each_cpu_has_its_own_file(monkeypatch):
    monkeypatch.setattr(module, "cpu_features", lambda: frozenset({"fma"}))
    plain = machine_path()
    monkeypatch.setattr(module, "cpu_features", lambda: frozenset({"fma", "avx512f"}))
    assert machine_path() != plain
    monkeypatch.setattr(module, "cpu_features", lambda: frozenset({"fma"}))
    assert machine_path() == plain
    monkeypatch.setattr(module, "cpu_name", lambda: "another")
    assert machine_path() != plain


def test_calibrate_prints_what_is_known_and_measures_when_told(capsys, monkeypatch, path):
    monkeypatch.setattr(kernels, "time_kernels", lambda machine, _: machine)
    path.parent.mkdir()
    path.write_text(MACHINE.model_dump_json())
    code, out, _ = run("calibrate", capsys=capsys)
    assert code == 0
    assert "Round Numbers 3000, 2 cores, x86-64-v3" in out
    assert "one core, over 512 KiB of 1 MiB" in out
    assert "L3" not in out
    code, out, _ = run("calibrate", "--json", capsys=capsys)
    assert json.loads(out) == MACHINE.model_dump(mode="json")
    newer = MACHINE.model_copy(update={"cpu": "Newer", "second": None})
    monkeypatch.setattr(hardware, "calibrate", lambda: newer)
    code, out, _ = run("calibrate", "--again", capsys=capsys)
    assert code == 0
    assert "Newer" in out
    assert "two threads" not in out


# -------------------------------------------------------------------------------- what else runs


class Seen(Watch):
    """A watch that found so much of the cores in others' hands."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def load(self):
        return Load(self.share)


def others(*shares):
    """Return what makes the watch of one round after the other."""
    rounds = iter((0.0, *shares))  # the first warms up
    return lambda: Seen(next(rounds))


def trials(*rates):
    """Return a trial of these rates, after one that warms up, and those that were taken."""
    taken = []

    def trial():
        taken.append(1)
        return rates[min(len(taken), len(rates)) - 1]

    return {"fma": trial}, taken


@pytest.fixture
def at_work(monkeypatch):
    """Fake trials take no time: they always have their core."""
    monkeypatch.setattr(Waiting, "share", 0.0)


@pytest.mark.usefixtures("at_work")
def test_a_quiet_machine_makes_two_passes():
    trial, taken = trials(100.0)
    found = take_passes(trial, {}, others(*[0.02] * 2 * ROUNDS))
    assert (found.disturbed, found.apart, found.rounds) == ("", 0, 2 * ROUNDS)
    assert len(taken) == 1 + 2 * ROUNDS


@pytest.mark.usefixtures("at_work")
def test_a_busy_machine_is_noticed_though_its_rounds_agree():
    trial, taken = trials(50.0)  # always half of what it could do
    found = take_passes(trial, {}, others(*[0.5] * 99))
    assert found.disturbed == "other programs took 50% of the cores' time"
    assert len(taken) == 1 + MOST_DISTURBED * ROUNDS  # and it does not go on for ever
    assert found.values == {"fma": [50.0] * (len(taken) - 1)}


@pytest.mark.usefixtures("at_work")
def test_rounds_in_which_others_worked_do_not_count():
    one = [0.0] * (ROUNDS - 2) + [0.9] * 2
    trial, _ = trials(1.0, *[100.0] * (ROUNDS - 2), *[300.0] * 2, *[100.0] * ROUNDS)
    found = take_passes(trial, {}, others(*one, *[0.0] * ROUNDS))
    assert (found.disturbed, found.rounds) == ("", 2 * ROUNDS - 2)
    assert set(found.values["fma"]) == {100.0}


@pytest.mark.usefixtures("at_work")
def test_what_was_busy_for_one_pass_is_measured_again():
    trial, taken = trials(1.0, *[100.0] * ROUNDS, *[40.0] * ROUNDS, *[104.0] * ROUNDS)
    shares = [0.0] * ROUNDS + [0.6] * ROUNDS + [0.0] * ROUNDS
    found = take_passes(trial, {}, others(*shares))
    assert (found.disturbed, found.rounds) == ("", 2 * ROUNDS)
    assert min(found.values["fma"]) == 100.0
    assert found.apart == pytest.approx(1 - 100 / 104)
    assert len(taken) == 1 + 3 * ROUNDS


@pytest.mark.usefixtures("at_work")
def test_a_machine_that_changes_its_speed_is_kept_in_the_end():
    trial, taken = trials(1.0, *([200.0] * ROUNDS + [100.0] * ROUNDS) * 9)
    found = take_passes(trial, {}, others(*[0.0] * 99))
    assert (found.disturbed, found.apart) == ("", 0.5)  # said, but nothing else ran
    assert len(taken) == 1 + MOST_PASSES * ROUNDS
    assert max(found.values["fma"]) == 200.0


@pytest.mark.usefixtures("at_work")
def test_a_second_core_may_come_and_go():
    alone, _ = trials(100.0)
    twice, _ = trials(1.0, *([2.0] * ROUNDS + [1.0] * ROUNDS) * 2)
    found = take_passes(alone, {"fma twice": twice["fma"]}, others(*[0.0] * 99))
    assert (found.apart, found.rounds) == (0, 2 * ROUNDS)


def test_a_thread_that_waits_for_its_core_was_disturbed(monkeypatch):
    clock = {"wall": 0.0, "own": 0.0}
    monkeypatch.setattr(load.time, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(load.time, "process_time", lambda: clock["own"])

    def half():
        clock["wall"] += 2
        clock["own"] += 1
        return 50.0

    found = take_passes({"fma": half}, {}, others(*[None] * 99))
    assert found.disturbed == "what was measured waited 50% of its time for a core"


PIDS = (os.getpid(), 7)


@pytest.mark.parametrize(
    ("ticks", "ours", "foreign"), [(0, 0, 0.0), (90, 0, 0.45), (90, 60, 0.15), (90, 95, 0.0)]
)
def test_what_others_took_is_what_all_took_less_ours(ticks, ours, foreign, tmp_path, monkeypatch):
    def say(every, own):
        # user nice system idle iowait irq softirq steal guest guest_nice
        line = f"cpu  {100 + every // 3} {every // 3} 0 5000 700 0 0 {every // 3} 40 0"
        (tmp_path / "stat").write_text(f"{line}\ncpu0 1\ncpu1 1\nintr 9\n")
        for pid, used in zip(PIDS, (own // 2, own - own // 2), strict=True):
            (tmp_path / str(pid)).mkdir(exist_ok=True)
            rest = f"S 1 1 1 0 -1 0 0 0 0 0 {used} 0 0 0 20"
            (tmp_path / str(pid) / "stat").write_text(f"{pid} (a b) c) {rest}")

    monkeypatch.setattr(load, "PROC", tmp_path)
    monkeypatch.setattr(load.os, "sysconf", lambda _: 100)
    times = iter((10.0, 11.0))
    monkeypatch.setattr(load.time, "perf_counter", lambda: next(times))
    say(0, 0)
    watch = Watch(PIDS[1:])
    say(ticks, ours)
    assert watch.load().foreign == pytest.approx(foreign)


def test_where_the_system_tells_nothing_nobody_is_blamed(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "PROC", tmp_path)
    assert Watch().load() == Load(None)
    assert Load(None).disturbed == ""


def test_what_is_disturbed_is_not_kept_and_what_was_kept_stays(path, monkeypatch, capsys):
    keep(MACHINE)
    before = path.read_text()
    found = MACHINE.model_copy(update={"disturbed": "other programs took 90% of the cores' time"})
    monkeypatch.setattr(module, "measure", lambda *_: found)
    assert hardware.calibrate() == found  # for this run
    assert path.read_text() == before
    code, out, err = run("calibrate", "--again", capsys=capsys)
    assert code == 0
    assert "Round Numbers 3000" in out
    assert "NOT KEPT: other programs took 90% of the cores' time while" in err
    assert path.read_text() == before
    with pytest.raises(AssertionError):
        keep(found)


@pytest.mark.usefixtures("hurry")
@pytest.mark.skipif(sys.platform != "linux", reason="others are seen in /proc/stat")
def test_busy_loops_beside_a_calibration_are_noticed(path):
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        found = hardware.calibrate()
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert "other programs took" in found.disturbed
    assert not path.exists()


# ------------------------------------------------------------------------------- ages and shares


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"), (59, "just now"), (60, "1 minute ago"), (7199, "1 hour ago"),
        (3 * 86400, "3 days ago"), (65 * 86400, "2 months ago"), (800 * 86400, "2 years ago"),
    ],
)  # fmt: skip
def test_ages_are_said_in_words(seconds, words):
    assert in_words(seconds) == words
    date = datetime.now(UTC) - timedelta(seconds=seconds)
    assert MACHINE.model_copy(update={"date": date.isoformat()}).age == f"calibrated {words}"


def test_nothing_reaches_more_than_all():
    assert share_of(50, 100) == 0.5
    assert share_of(102.9, 100) == 1.0  # what clocks and cores do between two moments
    assert share_of(103.1, 100) is None
    assert share_of(241, 100) is None
    assert share_of(1, 0) is None
