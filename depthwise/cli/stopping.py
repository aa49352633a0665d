"""Ctrl-C and its like: one line, the exit code that shells expect, nothing left over.

Imported before all else, so it needs only what is in memory when Python starts, or nearly. The
first signal is raised in the main thread as Stopped, so that every `with` and `finally` on the way
cleans up; all later ones are ignored, for they would break that off. Where nothing has come of it
after GRACE seconds, a thread ends the process.
"""

import _thread
import atexit
import os
import signal
import sys
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # as typing's
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType
    from typing import Any

GRACE = 3.0  # seconds to clean up in, or to come back from a long call into C

WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "ended, for its terminal was closed",
}


class Stopped(BaseException):
    """A signal that ends the command; its notes are said after "interrupted"."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.number = number


_received: list[int] = []  # the signal that was raised
_said = _thread.allocate_lock()  # taken by who says so, the main thread or the one that insists


def received() -> int | None:
    """Return the signal that ends the command; None where there was none."""
    return _received[0] if _received else None


def answer_signals() -> None:
    """Have SIGINT, SIGTERM and SIGHUP raise Stopped, but those that our parent had us ignore."""
    for number in WORDS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)
    sys.unraisablehook = _raise_again


def ignore_signals() -> None:
    """Let no signal be seen while Python itself ends."""
    for number in WORDS:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_IGN)


def say_stopped(number: int, notes: "Iterable[str]" = ()) -> int:
    """Say in a line that the command was stopped; return its exit code."""
    if received() is None or _said.acquire(blocking=False):
        with suppress(OSError, ValueError):
            print(_line(number, notes), file=sys.stderr, flush=True)
    return 128 + number


def _line(number: int, notes: "Iterable[str]" = ()) -> str:
    clear = "\r\x1b[K\x1b[?25h" if os.isatty(2) else ""  # what was drawn there; the cursor
    return clear + "; ".join((f"depthwise: {WORDS[signal.Signals(number)]}", *notes))


@contextmanager
def postponing() -> "Iterator[Callable[[], bool]]":
    """Let the first signal wait for the end of the block; give what tells whether one waits.

    So what must not be left half done can be finished. The second signal does not wait.
    """
    waiting: list[int] = []

    def wait(number: int, frame: "FrameType | None") -> None:
        if waiting:
            _stop(number, frame)
        waiting.append(number)

    with _answering(wait):
        yield lambda: bool(waiting)
    if waiting:
        _stop(waiting[0], None)


@contextmanager
def passing_on(send: "Callable[[int], None]") -> "Iterator[None]":
    """Let those who do the work of the block answer signals: `send` is given each of them."""
    with _answering(lambda number, _frame: send(number)):
        yield


@contextmanager
def _answering(answer: "Callable[[int, FrameType | None], None]") -> "Iterator[None]":
    """Let signals that are answered by Stopped have another answer in the block."""
    mine = [number for number in WORDS if signal.getsignal(number) is _stop]
    for number in mine:
        signal.signal(number, answer)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, _stop)


def _stop(number: int, _frame: "FrameType | None") -> None:
    if _received:
        return
    _received.append(number)
    with suppress(RuntimeError):  # no thread to be had: then nothing can insist
        _thread.start_new_thread(_insist, (number,))
    raise Stopped(number)


def _raise_again(lost: "Any") -> None:
    """Raise a signal once more that came where Python cannot raise, as in a __del__."""
    if isinstance(lost.exc_value, Stopped):
        _thread.start_new_thread(_send_again, (lost.exc_value.number,))
    elif not _received:
        sys.__unraisablehook__(lost)


def _send_again(number: int) -> None:
    time.sleep(0.02)  # until what called the hook has returned
    _received.clear()
    _thread.interrupt_main(signal.Signals(number))


def _insist(number: int) -> None:
    time.sleep(GRACE)
    _thread.start_new_thread(_end, (number, 1.0))
    atexit._run_exitfuncs()  # temporary folders, children: whatever asked to be told
    _end(number, 0)


def _end(number: int, seconds: float) -> None:
    """End the process after some seconds, with the line where it was not said yet."""
    time.sleep(seconds)
    if _said.acquire(blocking=False):
        with suppress(OSError):
            os.write(2, f"{_line(number)}\n".encode())
    os._exit(128 + number)
