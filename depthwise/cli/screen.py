"""Where the verbs print."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.text import Text

from depthwise.console import Screen
from depthwise.escaping import in_line
from depthwise.progress import COLUMNS, Activity, watching

if TYPE_CHECKING:
    from depthwise.sources.source import Source

MOST_NAMED = 4  # images, in one message
WORTH_A_LINE = 60.0  # seconds
WIDE = 140  # characters, where neither a window nor COLUMNS sets the width: in a pipe or a file


def screen() -> Console:
    """Return the console of standard output, as wide as its window or as COLUMNS says."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    return Screen(width=None if known else WIDE)


def progress() -> Console:
    """Return the console for progress on standard error, silent where it is no terminal."""
    return Screen(stderr=True, quiet=not sys.stderr.isatty())


class OfKnownLength(ProgressColumn):
    """Another column, empty where it is not known how much there is to do."""

    def __init__(self, column: ProgressColumn):
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        """Return what the other column shows."""
        return Text("") if task.total is None else self._column(task)


class Display:
    """What a verb is doing: a line that turns, and the long activity within it as a bar.

    Where no person is watching, a line says what takes longer than `WORTH_A_LINE`.
    """

    def __init__(self, doing: str, total: int | None = None):
        columns = (SpinnerColumn(), COLUMNS[0], *map(OfKnownLength, COLUMNS[1:]))
        self._bar = Progress(*columns, console=progress(), transient=True)
        self._whole = self._bar.add_task(escape(doing), total=total)
        self._activities: list[TaskID] = []

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, doing: str, done: int | None = None) -> None:
        """Say what is done now, and how much of the whole was."""
        self._bar.update(self._whole, description=escape(doing), completed=done)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Draw nothing while something else is shown in its place."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def begin(self, activity: Activity) -> None:
        """Show an activity below, one within another below that."""
        self._activities.append(self._bar.add_task(escape(str(activity)), total=activity.total))
        if not sys.stderr.isatty() and (activity.seconds or 0) >= WORTH_A_LINE:
            say(str(activity))

    def advance(self, steps: int) -> None:
        """Move the innermost bar on."""
        self._bar.advance(self._activities[-1], steps)

    def end(self) -> None:
        """Take it away."""
        self._bar.remove_task(self._activities.pop())


@contextmanager
def waiting(doing: str, total: int | None = None) -> Iterator[Display]:
    """Show on standard error what is done while a verb is at work, and the long activities within.

    What the network's own code prints meanwhile goes there, too: results alone are on standard
    output.
    """
    with redirect_stdout(sys.stderr), Display(doing, total) as display, watching(display):
        yield display


def say(text: str) -> None:
    """Say something that is no result and no error, in a line of standard error."""
    print(f"depthwise: {in_line(text)}", file=sys.stderr)


def say_taken(source: "Source") -> None:
    """Say which key of a checkpoint the weights were under, where it has several."""
    taken = source.loaded_weights
    if taken and (taken.key or taken.others or taken.left_out):
        say(str(taken))


def name_left_out(broken: Sequence[str], usable: int) -> None:
    """Say on standard error which images are left out, and why.

    Raises ValueError where none is left.
    """
    if broken and not usable:
        shown = "; ".join(broken[:MOST_NAMED])
        more = len(broken) - MOST_NAMED
        raise ValueError(f"{shown}; and {more} more like it" if more > 0 else shown)
    for reason in broken:
        say(f"left out: {reason}")
