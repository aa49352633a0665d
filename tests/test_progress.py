"""What takes long: how long is said, bars move within it, and nobody is told who does not look."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from depthwise import progress
from depthwise.bench import rounds
from depthwise.cli import screen
from depthwise.compiler.autotune import tune_algorithms as tune
from depthwise.progress import PACES, Activity, report_progress, say_duration, track, watching
from depthwise.runtime.target import find_target
from depthwise.toolchain import build
from depthwise.toolchain.build import compile_c

NATIVE = find_target("native")
NET = """#include <stddef.h>
size_t net_arena_bytes(void) { return 0; }
size_t net_weights_bytes(void) { return 0; }
int net_run(const void *w, const float *in, float *out, void *arena) { return 0; }
"""
HIDDEN = '__attribute__((noinline, visibility("hidden")))'


class Seen:
    """A watcher that remembers."""

    def __init__(self):
        self.activities, self.events = [], []

    def begin(self, activity):
        self.activities.append(activity)
        self.events.append("begin")

    def advance(self, steps):
        self.events.append(steps)

    def end(self):
        self.events.append("end")


@pytest.fixture
def seen():
    watcher = Seen()
    with watching(watcher):
        yield watcher


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "depthwise" / PACES).parent.mkdir(parents=True)
    return tmp_path / "depthwise"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.2, ""), (3.4, ", about 3 s"), (38, ", about 40 s"), (170, ", about 3 minutes")],
)
def test_a_stage_says_how_long_it_may_take(seconds, text):
    assert str(Activity("compiling 412 kernels", 412, seconds)) == f"compiling 412 kernels{text}"
    assert say_duration(0.01) == "1 s"


def test_every_unit_of_c_moves_the_bar_by_its_kernels(cache, seen, monkeypatch):
    monkeypatch.setattr(build, "MOMENT", 0.0)
    kernels = "\n".join(
        f"void call_{i}(float *x);\n{HIDDEN} void call_{i}(float *x) {{\n    x[0] = {i};\n}}"
        for i in range(3)
    )
    compile_c((NET, kernels), NATIVE)
    assert [each.doing for each in seen.activities] == ["compiling 4 kernels"]
    assert sorted(map(str, seen.events)) == ["1", "3", "begin", "end"]
    assert json.loads((cache / PACES).read_text())["compiling"] > 0
    compile_c((NET, kernels), NATIVE)
    assert len(seen.activities) == 1  # it is there: nothing takes long


def test_what_was_done_here_before_says_how_long_the_next_takes(cache, seen):
    assert [*track("ab", "working", pace="work")] == ["a", "b"]
    (cache / PACES).write_text('{"work": 2.5, "odd": "x"}')
    with report_progress("working", 80, pace="work") as advance:
        advance(80)
    assert [each.seconds for each in seen.activities] == [None, 200.0]
    assert json.loads((cache / PACES).read_text())["work"] == pytest.approx(1.25, abs=0.01)
    (cache / PACES).write_text("[broken")
    assert [*track("ab", "working", pace="work")] == ["a", "b"]
    assert seen.activities[-1].seconds is None


def test_one_step_that_took_long_to_begin_says_little_of_many(cache, monkeypatch):
    times = iter([0.0, 50.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))
    with report_progress("compiling 1 kernel", 1, pace="compiling") as advance:
        advance(1)
    kept = json.loads((cache / PACES).read_text())["compiling"]
    assert kept == pytest.approx(0.4 + 49.6 / 100)  # the usual 0.4, and a hundredth of the rest


def test_a_failure_ends_the_stage_and_is_no_measure(cache, seen):
    with pytest.raises(RuntimeError), report_progress("working", 3, pace="work"):
        raise RuntimeError
    assert seen.events == ["begin", "end"]
    assert not (cache / PACES).exists()


def test_each_turn_of_tuning_and_of_comparing_is_a_step(seen, monkeypatch):
    class Clocked:
        def runs(self, *_):
            return np.ones((3, 0))

    class Plan:
        steps = ()

    monkeypatch.setattr(tune, "build_clocked", lambda plans, _: [Clocked() for _ in plans])
    tune.measure_parts([Plan(), Plan()], None, lambda step: step)
    participant = rounds.Participant(
        rounds.OURS, worker=type("W", (), {"pid": 0, "run": lambda _, n: [1e-3] * n})()
    )
    rounds.take_turns([participant], 4, lambda: 1.0)
    tuned, compared = seen.activities
    assert (tuned.total, compared.total) == (2 * tune.ROUNDS, 4)
    assert tuned.seconds == pytest.approx(2 * tune.ROUNDS * tune.SECONDS)
    assert compared.seconds == pytest.approx(4 * rounds.TURN)
    assert seen.events.count(1) == tuned.total + compared.total


def test_plain_output_has_a_line_for_what_is_long_alone(capsys):
    with screen.waiting("compiling"):
        for seconds in (2.0, 40.0, 90.0):
            with report_progress("compiling 99 kernels", 99, seconds) as advance:
                advance(99)
    assert capsys.readouterr().err == "depthwise: compiling 99 kernels, about 90 s\n"


TERMINAL = """
import time
from depthwise.cli.screen import waiting
from depthwise.progress import report_progress, track
with waiting("tuning"):
    with report_progress("outer", 2, 30) as advance:
        for _ in track(range(4), "timing 4 ways", 12):
            time.sleep(0.3)
        advance(1)
        time.sleep(0.3)
"""


def read_terminal(arguments, code_expected=0):
    """Return what a command writes to a terminal on standard error."""
    ours, terminal = os.openpty()
    done = subprocess.run(
        [sys.executable, *arguments], stderr=terminal, stdout=subprocess.PIPE, check=False,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.set_blocking(ours, False)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except BlockingIOError:
            break
        if not part:
            break
        text += part
    os.close(ours)
    os.close(terminal)
    assert done.returncode == code_expected
    return text.decode()


def test_bars_move_within_a_stage_at_a_terminal():
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", read_terminal(["-c", TERMINAL]))
    assert "tuning" in text
    assert "timing 4 ways, about 10 s" in text
    assert "outer, about 30 s" in text
    counts = [int(n) for n in re.findall(r"timing 4 ways.*?(\d)/4 0:0\d", text)]
    assert {0, 1, 2, 3} <= set(counts)
    assert all(a <= b for a, b in pairwise(counts))
    assert re.search(r"outer.*?1/2", text)


def test_a_library_user_gets_a_bar_of_our_own(monkeypatch):
    shown = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    advance = progress.Progress.advance
    monkeypatch.setattr(progress.Progress, "advance", lambda *a: shown.append(a) or advance(*a))
    assert len([*track(range(3), "working", 60)]) == len(shown) == 3
    assert len([*track(range(3), "working", 0.1)]) == len(shown) == 3  # too short for one
