"""How a training goes, live: a bar where a person watches, else a line an epoch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn

from depthwise.cli import stopping
from depthwise.cli.files import writing
from depthwise.cli.processes import leads
from depthwise.cli.screen import progress as progress_console
from depthwise.cli.screen import say

if TYPE_CHECKING:
    from depthwise.training.history import EpochRecord
    from depthwise.training.keeper import Onlooker
    from depthwise.training.pace import Pace
    from depthwise.training.state import Progress as TrainingProgress

WORTH_SAYING = 0.01  # the share of time spent waiting for images, from which on it is shown
SMOOTH = 0.98  # of the loss that is shown: the mean of some 50 steps


class TrainingDisplay:
    """Shows steps and epochs; says to stop when `is_asked` does."""

    def __init__(self, is_asked: Callable[[], bool]):
        self._is_asked = is_asked
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
        self._bar = Progress(*columns, console=progress_console(), transient=True)
        self._task = self._bar.add_task("training", total=1.0, said="")
        self._loss: float | None = None
        self._epoch: EpochRecord | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def asks_to_stop(self) -> bool:
        """Whether somebody pressed Ctrl-C."""
        return self._is_asked()

    def step(self, progress: "TrainingProgress", loss: float, pace: "Pace") -> None:
        """Move the bar on."""
        before = loss if self._loss is None else self._loss
        self._loss = SMOOTH * before + (1 - SMOOTH) * loss
        parts = [f"epoch {progress.epoch + 1}", f"loss {self._loss:.3f}"]
        if self._epoch:
            parts.append(f"accuracy {self._epoch.validation_accuracy:.1%}")
        parts.append(f"{pace.images_per_second:,.0f} images/s")
        if pace.waiting > WORTH_SAYING:
            parts.append(f"{pace.waiting:.0%} waiting for images")
        parts.append(f"{clock(pace.left)} left")
        self._bar.update(self._task, completed=pace.done, said=", ".join(parts))

    def say(self, text: str) -> None:
        """Say it in a line of its own."""
        say(text)

    def epoch(self, record: "EpochRecord") -> None:
        """Say what an epoch came to."""
        self._epoch = record
        say(
            f"epoch {record.epoch}: loss {record.loss:.3f}, validation accuracy "
            f"{record.validation_accuracy:.2%}, {record.images_per_second:,.0f} images/s, "
            f"{clock(record.seconds)}"
        )


@contextmanager
def showing(directory: Path) -> "Iterator[Onlooker]":
    """Show a training in a directory; the first signal lets it finish a step and be kept.

    Processes beside the first of a training show nothing. Raises ValueError for what cannot be
    written inside, and Stopped at the end where there was a signal.
    """
    with writing("--out", directory), stopping.postponing() as is_asked:
        if leads():
            with TrainingDisplay(is_asked) as display:
                yield display
        else:
            from depthwise.training.keeper import Unseen  # noqa: PLC0415

            yield Unseen(is_asked)


def clock(seconds: float | None) -> str:
    """Return a time as clocks show it, 1:07 or 2:01:07."""
    if seconds is None:
        return "some time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
