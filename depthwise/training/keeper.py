"""What a training leaves on the disk while it goes on, so that a kill costs half a minute."""

import time
from collections.abc import Callable
from typing import Protocol

from depthwise.sources.run_folder import BEST, LAST
from depthwise.training.data.squares import Prepared
from depthwise.training.distributed import World
from depthwise.training.event_files import EventFiles
from depthwise.training.history import EpochRecord, History
from depthwise.training.learner import Learner
from depthwise.training.pace import SHORTEST, Pace
from depthwise.training.parts import say_parts
from depthwise.training.run import Run
from depthwise.training.state import Progress, gather, save_state, save_tensors

SAVE_EVERY = 30.0  # seconds of training between two states


class Onlooker(Protocol):
    """Who is shown how a training goes, and may ask it to stop after a step."""

    def step(self, progress: Progress, loss: float, pace: Pace) -> None:
        """A step was done."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is over."""
        ...

    def say(self, text: str) -> None:
        """Something is to be known, in a sentence."""
        ...

    @property
    def asks_to_stop(self) -> bool:
        """Whether the training is to stop, and to be kept as it is."""
        ...


class Unseen:
    """Nobody looks on; somebody may ask to stop."""

    def __init__(self, is_asked: Callable[[], bool] = lambda: False):
        self._is_asked = is_asked

    @property
    def asks_to_stop(self) -> bool:
        """Whether somebody asked."""
        return self._is_asked()

    def step(self, progress: Progress, loss: float, pace: Pace) -> None:
        """Show nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""


class Follower:
    """What stands in a keeper's place in processes that do not lead: it writes nothing.

    Attributes:
        progress: Where the training stands.
        is_stopped: Whether somebody asked a process of the world to stop.
    """

    def __init__(self, progress: Progress, onlooker: Onlooker, world: World):
        self.progress, self.is_stopped = progress, False
        self._onlooker, self._world = onlooker, world

    @property
    def is_due(self) -> bool:
        """Whether the state is to be written."""
        return False

    def begin(self, learner: Learner) -> None:
        """Write nothing."""

    def note_step(self, loss: float, learned: float, waited: float, pace: Pace) -> None:  # noqa: ARG002
        """Take note of whether somebody asks to stop."""
        self._onlooker.step(self.progress, loss, pace)
        self._ask()

    def end_epoch(self, learner: Learner, validation: Prepared, rate: float, pace: Pace) -> None:  # noqa: ARG002
        """Wait until the first process has judged."""
        self.progress.epoch += 1
        pace.note_judging(0.0)
        self._ask()

    def save(self, learner: Learner) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Leave nothing open."""

    def _ask(self) -> None:
        self.is_stopped = self._world.any(self._onlooker.asks_to_stop)


class Keeper(Follower):
    """Writes the history, the weights of the best epoch, the last ones, and the whole state."""

    def __init__(self, run: Run, progress: Progress, onlooker: Onlooker, world: World):
        """Go on with a run that stands where `progress` says."""
        super().__init__(progress, onlooker, world)
        assert run.recipe.batch is not None
        self.run, self._batch = run, run.recipe.batch
        self._history = History(run.directory, progress.history_bytes)
        self._events = EventFiles(run.directory, self._history.epochs)
        self._saved = time.perf_counter()
        self._steps, self._learned, self._waited = 0, 0.0, 0.0  # of this epoch, in this session
        self._parts = progress.parts

    @property
    def is_due(self) -> bool:
        """Whether the state is to be written."""
        return self.is_stopped or time.perf_counter() - self._saved > SAVE_EVERY

    def begin(self, learner: Learner) -> None:
        """Keep the first state of a new run, and make the directory the run's."""
        if not self.run.exists:
            self.save(learner)
            self.run.enter()

    def note_step(self, loss: float, learned: float, waited: float, pace: Pace) -> None:
        """Take note of a step: the seconds that it took, and those that it waited for its batch."""
        self.progress.loss_sum += loss
        self.progress.loss_steps += 1
        self._steps += 1
        self._learned += learned
        self._waited += waited
        if self.progress.parts != self._parts:
            self._parts = self.progress.parts
            self._onlooker.say(say_parts(self._batch, self._parts))
        super().note_step(loss, learned, waited, pace)

    def end_epoch(self, learner: Learner, validation: Prepared, rate: float, pace: Pace) -> None:
        """Judge the weights at an epoch's end; keep them where none before were as right."""
        start = time.perf_counter()
        found = learner.judge(validation, self.run.record.classes)
        pace.note_judging(time.perf_counter() - start)
        progress, seconds = self.progress, max(SHORTEST, self._learned + self._waited)
        progress.epoch += 1
        record = EpochRecord(
            epoch=progress.epoch, step=progress.step, seconds=progress.seconds,
            learning_rate=rate, resolution=learner.side(pace.done),
            loss=progress.loss_sum / max(1, progress.loss_steps),
            validation_loss=found.loss, validation_accuracy=found.accuracy,
            images_per_second=self._steps * self._batch / seconds, waiting=self._waited / seconds,
        )  # fmt: skip
        progress.loss_sum, progress.loss_steps = 0.0, 0
        self._steps, self._learned, self._waited = 0, 0.0, 0.0
        progress.history_bytes = self._history.add(record)
        self._events.add(record)
        if found.accuracy > progress.best_accuracy:
            progress.best_accuracy, progress.best_epoch = found.accuracy, progress.epoch
            self._write(BEST, learner)
        self._onlooker.epoch(record)
        self._ask()

    def save(self, learner: Learner) -> None:
        """Write the last weights, and all that going on needs."""
        self._write(LAST, learner)
        average = {f"average.{name}": each for name, each in learner.average.state().items()}
        precision = learner.precision
        self.progress.scale = precision.scale
        self.progress.since_overflow = precision.since_overflow
        save_state(
            self.run.directory, self.progress, gather(learner.learning, learner.optimizer) | average
        )
        self._saved = time.perf_counter()

    def close(self) -> None:
        """Close the event files; all else is closed as soon as it is written."""
        self._events.close()

    def _write(self, name: str, learner: Learner) -> None:
        save_tensors(self.run.directory / name, learner.judged.state_dict(), {})
