"""Ctrl-C at any moment: one line, exit 130, nothing left over; sent as a terminal sends it."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")

ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
PATIENCE = 120  # seconds, on a busy machine


class Terminal:
    """A command with a terminal of its own for standard error, and a group for its signals."""

    def __init__(self, *arguments, folder):
        master, slave = pty.openpty()
        temporary, cache = folder / "tmp", folder / "cache"
        temporary.mkdir()
        self.folder, self.shown = folder, b""
        self.process = subprocess.Popen(
            (sys.executable, "-m", "depthwise", *arguments), cwd=folder, stdin=slave,
            stdout=subprocess.PIPE, stderr=slave, start_new_session=True,
            env={**os.environ, "XDG_CACHE_HOME": str(cache), "TMPDIR": str(temporary)},
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, args=(master,))
        self._reader.start()
        self.wait_for(self._answers_signals)

    def _read(self, master):
        try:
            while some := os.read(master, 65536):
                self.shown += some
        except OSError:  # nobody holds the other end any more
            pass
        os.close(master)

    def _answers_signals(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
        return caught >> (signal.SIGTERM - 1) & 1

    def wait_for(self, ready):
        """Wait until `ready` says yes, while the command runs."""
        end = time.monotonic() + PATIENCE
        while not ready():
            assert self.process.poll() is None, self.shown[-500:]
            assert time.monotonic() < end
            time.sleep(0.005)

    def press(self, times=1, number=signal.SIGINT, group=True):
        """Send a signal, so many times, as fast as fingers can."""
        for _ in range(times):
            if self.process.poll() is None:
                (os.killpg if group else os.kill)(self.process.pid, number)
            time.sleep(0.03)

    def end(self):
        """Return the exit code, what was printed, and the lines that stay on the terminal."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        self._reader.join(PATIENCE)
        text = ESCAPES.sub("", self.shown.decode(errors="replace"))
        lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
        return self.process.returncode, out.decode(), [line for line in lines if line.strip()]

    def left_over(self):
        """Return temporary files and folders, and processes, that are still there."""
        temporary = (self.folder / "tmp").iterdir()
        found = [path for path in temporary if "torchinductor" not in path.name]  # PyTorch's cache
        found += [*self.folder.glob("cache/depthwise/.building-*")]
        found += [*self.folder.glob("cache/depthwise/failed-*")]
        found += [*self.folder.glob(".*.new*")]
        return found + [process for process in sessions() if process[1] == self.process.pid]


def sessions():
    """Yield (process, session, name) of all that run."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:  # it has just ended
            continue
        if rest.split()[0] != "Z":
            yield int(path.parent.name), int(rest.split()[3]), name


def assert_interrupted(terminal, line="depthwise: interrupted", code=130):
    found, _, lines = terminal.end()
    assert "Traceback" not in terminal.shown.decode(errors="replace")
    assert found == code, lines
    assert lines[-1] == line, lines
    assert sum("depthwise: " in each for each in lines) == 1, lines
    shown = terminal.shown.decode(errors="replace")
    assert shown.rfind(SHOW_CURSOR) > shown.rfind(HIDE_CURSOR)
    assert not terminal.left_over()


@pytest.mark.parametrize("seconds", [0, 0.02, 0.1, 0.3, 0.7, 1.5])
def test_three_presses_while_it_starts(seconds, tmp_path):
    terminal = Terminal("cost", "mobilenet_v2", folder=tmp_path)
    time.sleep(seconds)
    terminal.press(3)
    assert_interrupted(terminal)


@pytest.mark.parametrize(
    ("number", "group", "line", "code"),
    [
        (signal.SIGINT, True, "depthwise: interrupted", 130),
        (signal.SIGTERM, False, "depthwise: terminated", 143),
    ],
)
def test_while_compilers_run(number, group, line, code, tmp_path):
    terminal = Terminal(
        "compile", "conv:separable", "--target", "wasm32", "--out", "k", folder=tmp_path
    )
    terminal.wait_for(lambda: [*tmp_path.glob("cache/depthwise/.building-*/net0.c")])
    terminal.press(number=number, group=group)
    assert_interrupted(terminal, line, code)
    assert not (tmp_path / "k").exists()


STUBBORN = """
import time, tempfile
from pathlib import Path
kept = tempfile.TemporaryDirectory()
class Swallows:
    def __del__(self):
        Path("here").touch()
        for _ in range(100): time.sleep(0.05)
def lost():
    thing = Swallows()
    del thing
    while True: time.sleep(0.05)
def deaf():
    Path("here").touch()
    while True:
        try:
            time.sleep(100)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("name", ["lost", "deaf"])
def test_code_that_swallows_the_interrupt(name, tmp_path):
    (tmp_path / "nets.py").write_text(STUBBORN)
    terminal = Terminal("cost", f"nets.py:{name}", folder=tmp_path)
    terminal.wait_for((tmp_path / "here").exists)
    terminal.press(3)
    start = time.monotonic()
    assert_interrupted(terminal)
    assert time.monotonic() - start < 30


def test_a_signal_that_our_parent_ignores_is_ignored(tmp_path):
    command = f"trap '' INT; echo ready; exec {sys.executable} -m depthwise --help"
    process = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"  # a signal before the trap would end the shell
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    assert b"Usage" in process.communicate()[0]
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("presses", [1, 3])
@pytest.mark.parametrize(
    "arguments",
    [
        ("cost", "mobilenet_v2"),
        ("lint", "mobilenet_v2"),
        ("predict",),
        ("compile", "resnet56_cifar", "--out", "k"),
        ("ship", "resnet56_cifar", "--shape", "1,3,32,32", "--out", "k"),
        ("bench", "resnet56_cifar", "--rounds", "1", "--peers", "pytorch"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_at_any_moment(arguments, presses, tmp_path):
    (tmp_path / "whole").mkdir()
    start = time.monotonic()
    whole = Terminal(*arguments, folder=tmp_path / "whole")
    assert whole.end()[0] in (0, 1)
    duration = time.monotonic() - start
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        terminal = Terminal(*arguments, folder=folder)
        time.sleep(duration * number / 12)
        if terminal.process.poll() is not None:
            terminal.end()
            continue
        terminal.press(presses)
        code, _, lines = terminal.end()
        assert "Traceback" not in terminal.shown.decode(errors="replace")
        assert code in (0, 1, 130)  # it may have been at its end
        if code == 130:
            assert lines[-1].startswith("depthwise: interrupted")
        assert not terminal.left_over()
