"""How far a training is: its steps, its time, and the learning rate that belongs to them."""

import time

import torch

from depthwise.training.optimizer import set_rates
from depthwise.training.order import Order
from depthwise.training.recipe import Recipe
from depthwise.training.schedule import TimeFit, Timeline, cosine, one_cycle
from depthwise.training.state import Progress


class Pace:
    """The schedule of a recipe: by epochs, or fitted to a limit of time while steps are timed."""

    def __init__(self, recipe: Recipe, order: Order, progress: Progress):
        """Go on where `progress` stands."""
        self._recipe, self._order, self._progress = recipe, order, progress
        self._most = order.steps(recipe.epochs)
        self._fit = TimeFit(recipe.time, progress.decisions, self._most) if recipe.time else None
        self._began = time.perf_counter() - progress.seconds
        self._judging = 0.0  # seconds that judging took, the last time

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

    def note_step(self, seconds: float) -> None:
        """Take note of a step that was done."""
        progress = self._progress
        progress.step += 1
        progress.seconds = self.elapsed
        if self._fit:
            total = self.timeline.total(progress.step) or self._most
            epochs = (total - progress.step) * self._order.batch / self._order.size
            ahead = (epochs + 1) * self._judging
            self._fit.update(progress.step, seconds, progress.seconds, ahead)
            progress.decisions = list(self.timeline.decisions)

    def note_judging(self, seconds: float) -> None:
        """Take note of how long an evaluation took: there is one after each epoch to come."""
        self._judging = seconds
        self._progress.seconds = self.elapsed
