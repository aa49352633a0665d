"""A budget in milliseconds, held: the result is compiled and timed, and corrected by that."""

from collections.abc import Callable, Iterator

from depthwise.graph import Graph
from depthwise.progress import Say, silent
from depthwise.report.slimming_record import say_cost
from depthwise.slimming.search import Bench, make_round, search
from depthwise.slimming.state import SearchProgress

ABOVE, BELOW = 1.02, 0.93  # of the limit: times between these meet it
CORRECTIONS = 4
ROOM = 0.99  # of the limit is aimed at, for times are known to a percent


def hold_time(
    bench: Bench, progress: SearchProgress, limit: float, time_of: Callable[[Graph], float],
    tell: Say = silent,
) -> Iterator[SearchProgress]:  # fmt: skip
    """Yield drafts whose measured times come closer to a limit; the last one is the best.

    Estimates are scaled by what was measured. A draft that is too slow goes a round further. The
    round of one that is faster than it had to be is made again, so that nothing is given up that
    the budget allows. `tell` is told what was measured.
    """
    best: tuple[bool, float, SearchProgress] | None = None
    for _ in range(CORRECTIONS):
        taken = time_of(progress.draft.graph)
        estimated = bench.prices.cost(progress.draft.graph)
        bench.prices.scale *= taken / estimated
        met = taken <= ABOVE * limit
        divergence = progress.rounds[-1].divergence if progress.rounds else 0.0
        rank = (not met, divergence if met else taken, progress)
        if best is None or rank[:2] < best[:2]:
            best = rank
        if met and (taken >= BELOW * limit or not progress.rounds):
            break
        said, number = say_measured(taken, estimated), len(progress.rounds)
        next_ = "is made again" if met else "follows"
        tell(
            f"{said}: {'more than enough' if met else 'not enough yet'}, so estimates are scaled "
            f"by that, and round {number if met else number + 1} {next_}"
        )
        if not met:
            steps = search(bench, progress.draft, ROOM * limit, progress.rounds)
            for draft, found in steps:
                progress = progress.then(draft, found, bench.prices.scale)
                yield progress
        else:
            earlier = progress.rounds[:-1]
            before = earlier[-1].divergence if earlier else 0.0
            draft, found = make_round(
                bench, progress.before, ROOM * limit, len(progress.rounds), before
            )
            progress = SearchProgress((*earlier, found), draft, progress.before, bench.prices.scale)
            yield progress
    if best and best[2] is not progress:
        yield best[2]


def say_measured(taken: float, estimated: float) -> str:
    """Return what was measured, beside what was estimated, in milliseconds."""
    times = (say_cost("milliseconds", each) for each in (taken, estimated))
    return "compiled, it takes {} where {} was estimated".format(*times)
