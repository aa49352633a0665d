"""A budget in milliseconds, held: the result is compiled and timed, and corrected by that."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from depthwise.graph import Graph
from depthwise.progress import Say, silent
from depthwise.report.slimming_record import say_cost
from depthwise.slimming.search import Bench, is_near, make_round, search
from depthwise.slimming.state import SearchProgress

ABOVE, BELOW = 1.02, 0.93  # of the limit: times between these meet it
CORRECTIONS = 4
ROOM = 0.99  # of the limit is aimed at, for times are known to a percent


def hold_time(
    bench: Bench, progress: SearchProgress, limit: float, time_of: Callable[[Graph], float],
    tell: Say = silent,
) -> Iterator[SearchProgress]:  # fmt: skip
    """Yield drafts on the way to a limit, then such as come closer to it; the last one is the best.

    Before the last round the time is measured, so that this one saves what is missing. A draft that
    is too slow goes a round further, from what was measured. The round of one that is faster than
    it had to be is made again, so that nothing is given up that the budget allows, and again
    between those that were too fast and too slow. `tell` is told what was measured.
    """
    for reached in _towards(bench, progress, limit, time_of, tell):
        progress = reached
        yield progress
    best: tuple[bool, float, SearchProgress] | None = None
    tried: list[Savings] = []  # of the last round
    asked: float | None = None  # of it, where it was made again
    for correction in range(CORRECTIONS + 1):
        taken, number = time_of(progress.draft.graph), len(progress.rounds)
        estimated = bench.prices.cost(progress.draft.graph)
        met = taken <= ABOVE * limit
        divergence = progress.rounds[-1].divergence if progress.rounds else 0.0
        rank = (not met, divergence if met else taken, progress)
        if best is None or rank[:2] < best[:2]:
            best = rank
        close = met and (taken >= BELOW * limit or not number)
        if close or correction == CORRECTIONS:
            break
        again = met or bool(tried)
        said = "more than enough" if met else "not enough yet"
        next_ = f"round {number} is made again" if again else f"round {number + 1} follows"
        told = f"{say_measured(taken, estimated)}: {said}"
        tell(f"{told}, so estimates are scaled by that, and {next_}")
        if again:
            before = progress.before.graph
            base = time_of(before)
            if not tried:
                bench.prices.offset += base - bench.prices.cost(before)
            saved = base - bench.prices.cost(progress.draft.graph) if asked is None else asked
            tried.append(Savings(saved, base - taken))
            asked = to_estimate(tried, base - ROOM * limit)
            progress = _made_again(bench, progress, base, asked)
            yield progress
        else:
            bench.prices.hold(progress.draft.graph, taken)
            for reached in _towards(bench, progress, ROOM * limit, time_of, tell):
                progress = reached
                yield progress
    if best and best[2] is not progress:
        yield best[2]


def _towards(
    bench: Bench, progress: SearchProgress, limit: float, time_of: Callable[[Graph], float],
    tell: Say,
) -> Iterator[SearchProgress]:  # fmt: skip
    """Yield where a search stands after each round, the time measured before the last one."""
    for draft, found in search(bench, progress.draft, limit, progress.rounds):
        cost = bench.prices.cost(draft.graph)
        if is_near(cost, limit):
            taken = time_of(draft.graph)  # what the last round saves is told better by it
            tell(f"{say_measured(taken, cost)}: the last round starts from that")
            bench.prices.hold(draft.graph, taken)
        progress = progress.then(draft, found, bench.prices.line)
        yield progress


def _made_again(
    bench: Bench, progress: SearchProgress, base: float, saving: float
) -> SearchProgress:
    """Return where a search stands after its last round was made again, to save so much."""
    earlier = progress.rounds[:-1]
    divergence = earlier[-1].divergence if earlier else 0.0
    draft, found = make_round(
        bench, progress.before, base - saving, len(progress.rounds), divergence
    )
    return SearchProgress((*earlier, found), draft, progress.before, bench.prices.line)


class Savings(NamedTuple):
    """What a round was to save by estimate, and what it saved, in milliseconds."""

    estimated: float
    measured: float


def to_estimate(tried: Iterable[Savings], wanted: float) -> float:
    """Return what a round is to save by estimate so that this is what it saves measured.

    Between the nearest of those that were tried, of which nothing saves nothing; beyond all of
    them as the largest.
    """
    points = sorted([Savings(0.0, 0.0), *tried], key=lambda each: (each.measured, each.estimated))
    less = [each for each in points if each.measured <= wanted]
    more = [each for each in points if each.measured > wanted]
    if not less:
        return 0.0
    if not more:
        largest = less[-1]
        return largest.estimated * wanted / largest.measured if largest.measured else wanted
    (low, had), (high, has) = less[-1], more[0]
    return low + (wanted - had) / (has - had) * (high - low)


def say_measured(taken: float, estimated: float) -> str:
    """Return what was measured, beside what was estimated, in milliseconds."""
    times = (say_cost("milliseconds", each) for each in (taken, estimated))
    return "compiled, it takes {} where {} was estimated".format(*times)
