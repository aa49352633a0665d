"""What is measured of a machine, and what is said from it."""

import json
import os

import numpy as np
import pytest
from machines import MACHINE
from test_cli import run

from depthwise import machine
from depthwise.compiler.target import find_target
from depthwise.machine import calibration as module
from depthwise.machine import kernels, roofline
from depthwise.machine.caches import caches_in_sweep, system_caches
from depthwise.machine.calibration import machine_path, measure, spans_of_levels
from depthwise.machine.probes import Probes


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    """What is measured here does not take the place of the real measurement."""
    place = tmp_path / "machines" / "this.json"
    monkeypatch.setattr(module, "machine_path", lambda: place)
    return place


@pytest.fixture
def hurry(monkeypatch):
    """Two short rounds: the numbers are of no use, but for being there."""
    monkeypatch.setattr(module, "ROUNDS", 2)
    monkeypatch.setattr(module, "SECONDS", 1e-4)
    monkeypatch.setattr(module, "MEMORY", 2**20)


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
    assert found.rounds == 9


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


@pytest.mark.usefixtures("hurry")
def test_this_machine_is_measured_and_kept(path):
    assert machine.find() is None
    found = machine.calibrate()
    assert machine.find() == found
    assert [peak.lanes for peak in found.peaks] == [
        n for n in (4, 8, 16) if n <= find_target("native").lanes
    ]
    assert found.gflops > 1  # any machine of this century
    assert found.target == find_target("native").name
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))
    assert machine.find() is None


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
    monkeypatch.setattr(kernels, "time_kernels", lambda machine: machine)
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
    monkeypatch.setattr(machine, "calibrate", lambda: newer)
    code, out, _ = run("calibrate", "--again", capsys=capsys)
    assert code == 0
    assert "Newer" in out
    assert "two threads" not in out
