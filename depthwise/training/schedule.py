"""What the learning rate is at each step, and how many steps fit a limit of time.

Rates are pure functions of progress, the share of the training that is done: 0 at the first step,
1 when the last one has been done. A `Timeline` says what the progress is at a step.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

# ---------------------------------------------------------------- rates


def one_cycle(
    progress: float, peak: float, warmup: float = 0.3, start: float = 0.04, final: float = 4e-6
) -> float:
    """Return the learning rate of one cycle: half a cosine up to `peak`, half a cosine down.

    Smith & Topin, arXiv:1708.07120, with the cosines and the defaults of torch's OneCycleLR.

    Args:
        progress: Share of the training that is done, 0 to 1.
        peak: The highest learning rate.
        warmup: Share of the training after which the rate is at its peak.
        start: The first rate, as a share of the peak.
        final: The last rate, as a share of the peak.
    """
    if progress < _checked(warmup):
        return peak * _half_cosine(start, 1.0, progress / warmup)
    return peak * _half_cosine(1.0, final, (progress - warmup) / (1 - warmup))


def cosine(
    progress: float, peak: float, warmup: float = 0.05, start: float = 0.01, final: float = 0.0
) -> float:
    """Return the learning rate of a straight warm-up to `peak`, then half a cosine down.

    Loshchilov & Hutter, arXiv:1608.03983, without restarts; Goyal et al., arXiv:1706.02677,
    section 2.2, for the warm-up. The arguments are those of `one_cycle`.
    """
    if progress < _checked(warmup):
        return peak * (start + (1 - start) * progress / warmup)
    return peak * _half_cosine(1.0, final, (progress - warmup) / (1 - warmup))


def momentum_cycle(
    progress: float, high: float = 0.95, low: float = 0.85, warmup: float = 0.3
) -> float:
    """Return the momentum of one cycle: low where the learning rate is high (arXiv:1803.09820)."""
    if progress < _checked(warmup):
        return _half_cosine(high, low, progress / warmup)
    return _half_cosine(low, high, (progress - warmup) / (1 - warmup))


def _checked(warmup: float) -> float:
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup}: a share of the training is accepted, 0 to below 1")
    return warmup


def _half_cosine(first: float, last: float, share: float) -> float:
    assert 0 <= share <= 1, f"progress is a share, found {share}"
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


# ---------------------------------------------------------------- steps


class Moment(NamedTuple):
    """Where in a training a step is: the share that is done, and all its steps, where known."""

    done: float
    total: int | None


class Decision(NamedTuple):
    """From `step` on, the training is to end when `total` steps are done."""

    step: int
    total: int


@dataclass(frozen=True)
class Timeline:
    """How progress rises from step to step: straight from each decision to the end it names.

    Progress never jumps and never falls, whatever the decisions, and is 1 at the end of the last.
    Before the first decision it is 0. Plain numbers: `Timeline(tuple(decisions))` is all its state.
    """

    decisions: tuple[Decision, ...] = ()

    @classmethod
    def of_steps(cls, total: int) -> "Timeline":
        """Return the timeline of a training whose number of steps is known."""
        return cls((Decision(0, total),))

    def progress(self, step: int) -> float:
        """Return the share of the training that is done when `step` steps are done."""
        left, since, total = 1.0, 0, math.inf
        for decision in self.decisions:
            if decision.step > step:
                break
            left *= _share_left(decision.step, since, total)
            since, total = decision
        return 1 - left * _share_left(step, since, total)

    def total(self, step: int) -> int | None:
        """Return how many steps the training has, by what was decided until `step`."""
        totals = [decision.total for decision in self.decisions if decision.step <= step]
        return totals[-1] if totals else None


def _share_left(step: int, since: int, total: float) -> float:
    if total == math.inf:
        return 1.0
    return (total - step) / (total - since) if step < total else 0.0


class TimeFit:
    """Fits the number of steps to a limit of time, again and again while steps are timed.

    The training is to end after the steps that are done and those for which there is time left.
    What a step takes is the median of a few means over consecutive steps: means, since data often
    arrives in bursts; their median, since a slow start or a pause then falls into one of them and
    counts for nothing. It is fitted again whenever an eighth of the time or of the steps that were
    left has passed, so that the estimates come ever closer to the end.

    Decisions that a run has recorded may be given: until the last of them nothing is decided, so
    that the run's schedule is repeated exactly.
    """

    FEWEST = 5  # timed steps before it decides, unless they would take half of what is left
    KEPT = 100  # timed steps, the last ones: what a step takes may change
    PART = 1 / 8  # of what is left, after which it is fitted again

    def __init__(
        self, limit: float, decisions: Sequence[tuple[int, int]] = (), most: float = math.inf
    ):
        """Take the limit in seconds, what was decided before, (step, total) each, and `most` steps.

        Where all of these can be done before the time is over, the schedule ends with them.
        """
        if not 0 < limit < math.inf:
            raise ValueError(f"limit={limit}: a positive number of seconds is accepted")
        self.limit, self._most = limit, most
        self.timeline = Timeline(tuple(Decision(*decision) for decision in decisions))
        self._seconds = deque[float](maxlen=self.KEPT)
        self._timed = 0
        self._next = (0, 0.0)  # the step, and the seconds, at which to fit again

    def update(self, step: int, seconds: float, elapsed: float, ahead: float = 0.0) -> bool:
        """Take note of a step that was done, and fit the number of steps if it is time to.

        Args:
            step: How many steps are done.
            seconds: What the last one took.
            elapsed: How many seconds of the limit are used up, those before a resumption included.
            ahead: How many seconds of the rest are for something else: evaluation, say.

        Returns:
            Whether something was decided: `timeline` then has one decision more.
        """
        self._timed += 1
        if self._timed == 2:
            self._seconds.clear()  # the first step compiles, fills caches, opens files
        self._seconds.append(seconds)
        left = max(self.limit - elapsed - ahead, 0.0)
        hurries = (self.FEWEST - self._timed) * seconds > left / 2
        if not self._is_due(step, elapsed, hurries):
            return False
        fitting = step + int(left / max(self._seconds_per_step(), 1e-9))
        total = max(step, int(min(fitting, self._most)))
        self.timeline = Timeline((*self.timeline.decisions, Decision(step, total)))
        self._next = (
            step + math.ceil((total - step) * self.PART),
            elapsed + min(elapsed, (self.limit - elapsed) * self.PART),
        )
        return True

    def _is_due(self, step: int, elapsed: float, hurries: bool) -> bool:
        decisions = self.timeline.decisions
        if decisions and step <= decisions[-1].step:
            return False
        if elapsed >= self.limit:
            return True
        if self._timed < (2 if hurries else self.FEWEST):
            return False
        next_step, next_elapsed = self._next
        return step >= next_step or elapsed >= next_elapsed

    def _seconds_per_step(self) -> float:
        """Return the median of the means of a few runs of consecutive steps."""
        seconds = list(self._seconds)
        length = -(-len(seconds) // self.FEWEST)
        return median(fmean(seconds[at : at + length]) for at in range(0, len(seconds), length))
