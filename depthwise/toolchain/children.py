"""Child processes that do not outlive the work they were started for."""

import atexit
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Lock
from types import TracebackType
from typing import IO


class Children:
    """Commands that several threads may run; those that still run when it is left are killed.

    Each leads a process group of its own, so that it is killed with all that it started, and so
    that Ctrl-C at the terminal comes to us alone: a compiler would print its own words of it.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._left = False
        self._lock = Lock()

    def __enter__(self) -> "Children":
        atexit.register(self.kill)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.kill()
        atexit.unregister(self.kill)

    def run(
        self, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, and return what it printed. Raises OSError if it cannot start.

        Once its Children are left, raises ChildProcessError.
        """
        with self._lock:
            self._check_wanted()
            process = start(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
            self._running.add(process)
        try:
            out, errors = process.communicate()
        finally:
            self._running.discard(process)
            end(process)
        self._check_wanted()  # else its end is our doing, and no failure of its own
        return subprocess.CompletedProcess(command, process.returncode, out, errors)

    def kill(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._left = True
        with self._lock:
            for process in tuple(self._running):
                _kill(process)

    def _check_wanted(self) -> None:
        if self._left:
            raise ChildProcessError("the work that this was started for was given up")


def start(
    command: Sequence[str], stdin: int, stderr: int | IO[str], env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command in a process group of its own; its output is a pipe of text."""
    return subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=env, text=True,
        errors="replace", process_group=0,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process with all that it started, where it still runs, and close its pipes."""
    _kill(process)
    with suppress(BrokenPipeError), process:  # what it was not yet told is not told any more
        pass


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
