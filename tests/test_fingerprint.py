"""Which edits of this package make a calibration stale: those of the C that was timed alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from machines import MACHINE
from torch import nn

import depthwise
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.graph import capture
from depthwise.hardware.record import KernelCoefficients, KernelTable, Machine
from depthwise.latency import calibration_networks, fingerprint
from depthwise.latency.calibration_networks import CalibrationNetwork
from depthwise.latency.fingerprint import code_digest, digest_for, emitted_digest, is_current
from depthwise.runtime.target import find_target

TARGET = find_target(MACHINE.target)
PACKAGE = Path(depthwise.__file__).parent
SMALL = """
from torch import nn
from depthwise.latency import calibration_networks, fingerprint
from depthwise.latency.calibration_networks import CalibrationNetwork
from depthwise.runtime.target import find_target

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8))

calibration_networks.CALIBRATION_NETWORKS = (CalibrationNetwork("small", build, (1, 3, 12, 12)),)
"""


def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8))


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """One small network in place of the eight, and a cache of its own."""
    networks = (CalibrationNetwork("small", build, (1, 3, 12, 12)),)
    monkeypatch.setattr(calibration_networks, "CALIBRATION_NETWORKS", networks)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest_for.cache_clear()
    yield
    digest_for.cache_clear()


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, without the weights that are bundled with it."""
    shutil.copytree(
        PACKAGE, tmp_path / "copy" / "depthwise", ignore=shutil.ignore_patterns("data", "*.pyc")
    )
    return tmp_path / "copy"


def digest_in(copy):
    """Return the digest that a copy of the package computes, in a process of its own."""
    script = f"{SMALL}\nprint(fingerprint.emitted_digest(find_target({TARGET.name!r})))"
    return subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(copy)}, cwd=copy,
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


def append(copy, name, text):
    path = copy / "depthwise" / name
    path.write_text(path.read_text() + text)


def test_comments_of_the_compiler_and_of_kernels_change_nothing(copy):
    sources = [path.relative_to(copy / "depthwise") for path in copy.rglob("compiler/**/*.py")]
    assert len(sources) > 20
    for name in sources:
        append(copy, name, "\n# a comment\n")
    append(copy, "kernels/conv.h", "\n/* a comment, of two\n   lines */\n")
    assert digest_in(copy) == emitted_digest(TARGET)


def test_another_kernel_changes_it(copy):
    append(copy, "kernels/conv.h", "\nstatic int another;\n")
    assert digest_in(copy) != emitted_digest(TARGET)


def test_another_plan_changes_it(monkeypatch):
    before = emitted_digest(TARGET)
    monkeypatch.setattr(
        fingerprint, "calibration_plan",
        lambda network, target, _: make_plan(
            rewrite(capture(network.build().eval(), network.shape)), target, optimize="memory"
        ),
    )  # fmt: skip
    assert emitted_digest(TARGET) != before


@pytest.mark.parametrize(("name", "value"), [("VERSION", 0), ("OPTIMISE", ("-O1",))])
def test_other_features_and_other_flags_change_it(name, value, monkeypatch):
    before = emitted_digest(TARGET)
    monkeypatch.setattr(fingerprint, name, value)
    assert emitted_digest(TARGET) != before


def test_every_target_has_its_own():
    assert emitted_digest(TARGET) != emitted_digest(find_target("aarch64"))


def timed(code):
    kernels = (KernelCoefficients(kernel="others", steps=1, coefficients={}, error=0),)
    table = KernelTable(
        code=code, calibrated=MACHINE.date, gflops=100, kernels=kernels, networks=()
    )
    return MACHINE.model_copy(update={"kernels": table})


def test_a_calibration_stays_current_while_the_digest_does():
    here = timed(code_digest(TARGET))
    assert is_current(here)
    assert not is_current(timed("other"))
    assert not is_current(MACHINE)
    assert not is_current(here.model_copy(update={"date": "2026-01-02T00:00:00+00:00"}))


def test_the_digest_is_made_once_for_the_same_sources(copy, monkeypatch, tmp_path):
    made = []
    real = fingerprint.emitted_digest
    monkeypatch.setattr(fingerprint, "emitted_digest", lambda t, p: made.append(t) or real(t, p))
    monkeypatch.setattr(fingerprint, "files", lambda _: copy / "depthwise")

    def again():
        digest_for.cache_clear()  # as another process
        return code_digest(TARGET)

    first = again()
    assert again() == first
    assert len(made) == 1
    append(copy, "compiler/plan.py", "# a comment")
    assert again() == first
    assert len(made) == 2
    (one, other) = (tmp_path / "cache" / "depthwise" / "fingerprints").iterdir()
    one.write_text("cut")
    other.write_bytes(b"\xff")
    assert again() == first
    assert len(made) == 3


def test_without_a_cache_it_is_made_every_time(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    assert code_digest(TARGET) == emitted_digest(TARGET)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(Path, "home", lambda: Path("relative"))
    digest_for.cache_clear()
    assert code_digest(TARGET) == emitted_digest(TARGET)


def test_a_table_of_an_earlier_version_is_left_out_and_the_calibration_stays():
    text = timed("any").model_dump_json().replace('"coefficients"', '"prices"')
    assert Machine.model_validate_json(text) == MACHINE
