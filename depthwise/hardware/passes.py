"""Probes in rounds, rounds in passes: repeated where other work disturbed them, up to a limit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from depthwise.hardware.load import Load, Waiting, Watch

ROUNDS = 9  # of a pass
MOST_PASSES = 4  # a quiet machine makes 2
MOST_DISTURBED = 2  # of them: other work that lasts so long will not end soon
AGREE = 0.1  # by which the bests of two passes may differ

Trial = Callable[[], float]


@dataclass(frozen=True)
class Round:
    """What each trial returned in turn, and what else ran meanwhile."""

    values: dict[str, float]
    load: Load

    @property
    def quiet(self) -> bool:
        """Whether nothing disturbed it."""
        return not self.load.disturbed


@dataclass(frozen=True)
class Passes:
    """All rounds that count: `values` of each trial, a number a round.

    `apart` is by how much the last two passes differ in the best of any trial of one thread.
    `disturbed` says what disturbed them; then all rounds count, for there are no better ones.
    """

    values: Mapping[str, list[float]]
    apart: float
    disturbed: str

    @property
    def rounds(self) -> int:
        """How many rounds count."""
        return len(next(iter(self.values.values())))


def take_passes(
    alone: Mapping[str, Trial], together: Mapping[str, Trial], watch: Callable[[], Watch] = Watch
) -> Passes:
    """Run all trials in rounds until two passes without a disturbance agree, at most MOST_PASSES.

    `alone` returns rates of one thread; `together` are trials of two, which agree with none: the
    second core of a virtual machine is a whole one in one minute, and half of the first in the
    next. A pass counts where at least half of its rounds were quiet, with these alone. Where no
    two agree though nothing else ran, the machine itself changes its speed: to measure on would
    not end, and the best rounds are what it can do.
    """
    _round(alone, together, watch)  # warms up
    made: list[list[Round]] = []
    counted: list[list[Round]] = []
    apart = 0.0
    for _ in range(MOST_PASSES):
        made.append([_round(alone, together, watch) for _ in range(ROUNDS)])
        quiet = [each for each in made[-1] if each.quiet]
        if 2 * len(quiet) >= ROUNDS:
            counted.append(quiet)
        if len(made) - len(counted) == MOST_DISTURBED:
            break
        if len(counted) < 2:
            continue
        apart = _apart(counted[-2], counted[-1], alone)
        if apart <= AGREE:
            break
    every = [each for rounds in made for each in rounds]
    disturbed = _disturbance(every) if len(counted) < 2 else ""
    taken = every if disturbed else [each for rounds in counted for each in rounds]
    values = {name: [each.values[name] for each in taken] for name in (*alone, *together)}
    return Passes(values, apart, disturbed)


def _round(
    alone: Mapping[str, Trial], together: Mapping[str, Trial], watch: Callable[[], Watch]
) -> Round:
    begun, waiting = watch(), Waiting()
    values = {name: waiting.call(trial) for name, trial in alone.items()}
    values |= {name: trial() for name, trial in together.items()}
    return Round(values, Load(begun.load().foreign, waiting.share))


def _apart(one: list[Round], other: list[Round], names: Mapping[str, Trial]) -> float:
    """Return the largest difference between the bests of two passes, relative to the better."""
    bests = [
        sorted(max(each.values[name] for each in rounds) for rounds in (one, other))
        for name in names
    ]
    return max(1 - low / high for low, high in bests)


def _disturbance(rounds: list[Round]) -> str:
    """Return what disturbed the median of the disturbed rounds, in words."""
    loads = [each.load for each in rounds if not each.quiet]
    loads.sort(key=lambda load: (load.foreign or 0.0) + (load.waited or 0.0))
    return loads[len(loads) // 2].disturbed
