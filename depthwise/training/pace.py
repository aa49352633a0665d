"""How far a training is: its steps, its time, and the learning rate that belongs to them."""

import time
from collections import deque

import torch

from depthwise.training.distributed import World
from depthwise.training.optimizer import set_rates
from depthwise.training.order import Order
from depthwise.training.recipe import Recipe
from depthwise.training.schedule import Moment, TimeFit, Timeline, cosine, one_cycle
from depthwise.training.state import Progress

RECENT = 50  # steps that rates are taken from
SHORTEST = 1e-9  # seconds: what takes less, by a coarse clock, is taken to take so long


class Pace:
    """The schedule of a recipe: by epochs, or fitted to a limit of time while steps are timed.

    All processes go by the first one's clock, so that they decide alike.
    """

    def __init__(self, recipe: Recipe, order: Order, progress: Progress, world: World):
        """Go on where `progress` stands."""
        assert recipe.epochs is not None
        self._recipe, self._order, self._progress, self._world = recipe, order, progress, world
        self._most = order.steps(recipe.epochs)
        self._fit = TimeFit(recipe.time, progress.decisions, self._most) if recipe.time else None
        self._began = time.perf_counter() - progress.seconds
        self._judging = 0.0  # seconds that judging took, the last time
        self._recent = deque[tuple[float, float]](maxlen=RECENT)  # seconds learned, and waited

    @property
    def timeline(self) -> Timeline:
        """How progress rises from step to step."""
        return self._fit.timeline if self._fit else Timeline.of_steps(self._most)

    @property
    def elapsed(self) -> float:
        """Seconds since the training began, without those between a kill and going on."""
        return time.perf_counter() - self._began

    @property
    def done(self) -> float:
        """The share of the training that is done."""
        return self.timeline.progress(self._progress.step)

    @property
    def moment(self) -> Moment:
        """Where in the training the next step is, by what was decided until now."""
        return Moment(self.done, self.timeline.total(self._progress.step))

    @property
    def is_over(self) -> bool:
        """Whether there is no step left."""
        total = self.timeline.total(self._progress.step)
        return total is not None and self._progress.step >= total

    def set_rates(self, optimizer: torch.optim.Optimizer) -> float:
        """Set the learning rate of the next step; return it."""
        recipe = self._recipe
        assert recipe.learning_rate is not None
        shape = one_cycle if recipe.schedule == "one-cycle" else cosine
        rate = shape(self.done, recipe.learning_rate, recipe.warmup)
        set_rates(optimizer, rate)
        return rate

    @property
    def images_per_second(self) -> float:
        """How many images were learned from in a second of late, waiting included."""
        return self._order.batch * len(self._recent) / self._spent

    @property
    def waiting(self) -> float:
        """The share of time that steps waited for their images of late."""
        return sum(waited for _, waited in self._recent) / self._spent

    @property
    def _spent(self) -> float:
        """Seconds that the steps of late took, waiting included."""
        return max(SHORTEST, sum(map(sum, self._recent)))

    @property
    def left(self) -> float | None:
        """Seconds until the end, judging included; None where it is not known yet."""
        total = self.timeline.total(self._progress.step)
        if total is None:
            return None
        step = self._spent / len(self._recent)
        return (total - self._progress.step) * step + self._judging_ahead(total)

    def note_step(self, learned: float, waited: float) -> None:
        """Take note of a step: the seconds that it took, and those that it waited for images."""
        progress = self._progress
        learned, waited, progress.seconds = self._world.agree(learned, waited, self.elapsed)
        self._recent.append((learned, waited))
        progress.step += 1
        if self._fit:
            total = self.timeline.total(progress.step) or self._most
            ahead = self._judging_ahead(total)
            self._fit.update(progress.step, learned + waited, progress.seconds, ahead)
            progress.decisions = list(self.timeline.decisions)

    def note_judging(self, seconds: float) -> None:
        """Take note of how long an evaluation took: there is one after each epoch to come.

        Processes that do not judge wait here for the one that does.
        """
        self._judging, self._progress.seconds = self._world.agree(seconds, self.elapsed)

    def _judging_ahead(self, total: int) -> float:
        """Return the seconds of judging until the end: after each epoch, and twice at the end."""
        epochs = (total - self._progress.step) * self._order.batch / self._order.size
        return (epochs + 2) * self._judging
