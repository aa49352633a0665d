"""Progress of long work: how long it is expected to take, and each step of it.

Work calls `report_progress` or `track`. A watcher shows it: a bar of our own at the terminal, or
what `watching` put in its place, as the command line does.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from depthwise.console import Screen
from depthwise.files.cache import cache_directory, keep_text

PATIENCE = 2.0  # seconds without a bar
PACES = Path("paces") / "seconds.json"  # in the cache: what a step of each kind of work took
USUAL = {"compiling": 0.4}  # seconds a step, where it was never done here
TELLING = 50  # steps, whose pace counts as much as what was known: of fewer, beginning is a part

Item = TypeVar("Item")
Say = Callable[[str], None]  # is told, in sentences, how it goes


def silent(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Activity:
    """A stretch of work of `total` steps, and the seconds that it is expected to take, if known."""

    doing: str
    total: int
    seconds: float | None

    def __str__(self) -> str:
        """What is done, and how long it may take: compiling 57 kernels, about 40 s."""
        long = self.seconds is not None and self.seconds >= 1
        return f"{self.doing}, about {say_duration(self.seconds or 0)}" if long else self.doing


class Watcher(Protocol):
    """Who shows activities, also one that begins within another."""

    def begin(self, activity: Activity) -> None:
        """Show an activity."""
        ...

    def advance(self, steps: int) -> None:
        """Show that a number of steps of the innermost activity were done."""
        ...

    def end(self) -> None:
        """Show the innermost activity no longer."""
        ...


class Elapsed(ProgressColumn):
    """The time that an activity has taken."""

    def render(self, task: Task) -> Text:
        """Return minutes and seconds."""
        seconds = int(task.elapsed or 0)
        return Text(f"{seconds // 60}:{seconds % 60:02}")


COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())


class OwnBar:
    """A bar on standard error, where that is a terminal and the work takes more than a moment."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def begin(self, activity: Activity) -> None:
        """Draw the bar."""
        if may_draw() and (activity.seconds is None or activity.seconds >= PATIENCE):
            self._bar = Progress(*COLUMNS, console=Screen(stderr=True), transient=True)
            self._bar.add_task(str(activity), total=activity.total)
            self._bar.start()

    def advance(self, steps: int) -> None:
        """Move it on."""
        if self._bar:
            self._bar.advance(self._bar.task_ids[0], steps)

    def end(self) -> None:
        """Take it away."""
        if self._bar:
            self._bar.stop()
        self._bar = None


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


def may_draw() -> bool:
    """Tell whether there is a terminal for a bar, on whose line no other display draws."""
    return sys.stderr.isatty() and not hasattr(sys.stderr, "rich_proxied_file")


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Let `watcher` show the activities of the work inside."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def report_progress(
    doing: str, total: int, seconds: float | None = None, pace: str = ""
) -> Iterator[Callable[[int], None]]:
    """Show work of `total` steps, and yield what is called with the number of steps just done.

    It is expected to take `seconds`, or what work of the kind `pace` took here before.
    """
    if pace:
        known = _read_paces().get(pace, USUAL.get(pace))
        seconds = None if known is None else known * total
    watcher = _watcher.get() or OwnBar()
    watcher.begin(Activity(doing, total, seconds))
    start = time.perf_counter()
    try:
        yield watcher.advance
    finally:
        watcher.end()
    if pace and total:
        _keep_pace(pace, total, time.perf_counter() - start)


def track(
    items: Sequence[Item], doing: str, seconds: float | None = None, pace: str = ""
) -> Iterator[Item]:
    """Yield the items, each a step of an activity."""
    with report_progress(doing, len(items), seconds, pace) as advance:
        for item in items:
            yield item
            advance(1)


def say_duration(seconds: float) -> str:
    """Return a duration as people say it: 8 s, 40 s, 3 minutes."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds, -1):.0f} s" if seconds < 95 else f"{round(seconds / 60)} minutes"


def _read_paces() -> dict[str, float]:
    try:
        found = json.loads((cache_directory() / PACES).read_text())
    except Exception:  # a guess is not worth a failure: it is then not said how long it takes
        return {}
    kept = found.items() if isinstance(found, dict) else ()
    return {k: float(v) for k, v in kept if isinstance(v, int | float) and 0 < v < 1e6}


def _keep_pace(pace: str, steps: int, seconds: float) -> None:
    """Keep what a step took, at most halfway from what was known: loads of machines vary."""
    with suppress(Exception):  # a cache that cannot be written is said where it matters
        paces = _read_paces()
        known = paces.get(pace, USUAL.get(pace, seconds / steps))
        paces[pace] = known + (seconds / steps - known) * min(1.0, steps / TELLING) / 2
        keep_text(cache_directory() / PACES, json.dumps(paces))
