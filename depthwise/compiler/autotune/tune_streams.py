"""Streaming by measurement: what is done in bands of rows, and how high they are.

A few partitions of the whole network are timed step by step, cut where all of them part, and of
each piece the fastest is taken.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from depthwise.compiler.autotune.measurements import Measurement, MeasurementCache, Segment
from depthwise.compiler.autotune.tune_algorithms import Measure, measure_parts
from depthwise.compiler.constants import Constants, constants_of
from depthwise.compiler.lowering.algorithms import Algorithms
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plans
from depthwise.compiler.schedule.partition import Bands, Group, Partition, fastest, single
from depthwise.graph import Graph

WINDOWS = (1 / 8, 1 / 4, 5 / 8, 1)  # shares of the second cache that are tried beside the default


def fastest_groups(
    graph: Graph, options: CompileOptions, algorithms: Algorithms,
    measure: Measure = measure_parts,
) -> list[Group]:  # fmt: skip
    """Return what to stream of a rewritten graph whose layers are computed by `algorithms`.

    What was measured before, for this network or another, is read from the cache. Raises
    BuildError as compile_c does.
    """
    constants = constants_of(options.chosen, options.core)
    plans = make_plans(graph, constants, algorithms, tried_partitions(constants))
    cache = MeasurementCache(options.chosen, options.cc)
    steps = plans[0].whole.steps
    pieces = _pieces(plans)
    trials: dict[tuple[int, int], Measurement] = {}
    missing = []
    for first, last in pieces:
        trial = cache.find(_piece(steps[first:last]), _ways(plans, first, last))
        if trial:
            trials[first, last] = trial
        else:
            missing.append((first, last))
    if missing:
        piece_of = {s.name: piece for piece in missing for s in steps[slice(*piece)]}
        found = measure(plans, options.cc, lambda step: piece_of.get(step.name))
        for first, last in missing:
            ways = _ways(plans, first, last)
            columns = [_all_ways(plans, first, last).index(way) for way in ways]
            trial = Measurement.of_rounds(ways, found[first, last][:, columns])
            cache.keep(_piece(steps[first:last]), trial)
            trials[first, last] = trial
    return _joined(plans[0], trials)


def tried_partitions(constants: Constants) -> list[Partition]:
    """Return the ways to stream that are timed, the default first."""
    others = (
        replace(constants, windows=int(share * constants.core.caches.l2)) for share in WINDOWS
    )
    return [*(partial(fastest, constants=each) for each in (constants, *others)), single]


def _pieces(plans: Sequence[Plan]) -> list[tuple[int, int]]:
    """Return where pieces start and end that differ between plans, whole nodes in each."""
    steps = plans[0].whole.steps
    common = set.intersection(*({group.first for group in plan.groups} for plan in plans))
    cuts = [at for at in sorted(common) if at == 0 or steps[at - 1].name != steps[at].name]
    pieces = pairwise([*cuts, len(steps)])
    return [piece for piece in pieces if len(_ways(plans, *piece)) > 1]


def _all_ways(plans: Sequence[Plan], first: int, last: int) -> list[Bands]:
    """Return how each plan streams the steps from `first` up to `last`."""
    return [
        Bands(tuple(
            Group(g.first - first, g.last - first, g.height, g.channels)
            for g in plan.groups if first <= g.first < last
        ))
        for plan in plans
    ]  # fmt: skip


def _ways(plans: Sequence[Plan], first: int, last: int) -> list[Bands]:
    """Return the same, each way once, the default first."""
    return list(dict.fromkeys(_all_ways(plans, first, last)))


def _piece(steps: Sequence[KernelCall]) -> Segment:
    return Segment(tuple(f"{step.kernel} {_shown_all(step)}" for step in steps))


def _shown_all(step: KernelCall) -> dict[str, str]:
    return {name: _shown(argument) for name, argument in step.arguments.items()}


def _shown(argument: object) -> str:
    return str((argument.shape, argument.strides) if isinstance(argument, TensorView) else argument)


def _joined(plan: Plan, trials: dict[tuple[int, int], Measurement]) -> list[Group]:
    """Return the groups of a plan with those of each piece as decided."""
    inside = {at for first, last in trials for at in range(first, last)}
    groups = [group for group in plan.groups if group.first not in inside]
    for (first, _), trial in trials.items():
        bands = trial.decide()
        assert isinstance(bands, Bands)
        groups += bands.start(first)
    return sorted(groups, key=lambda group: group.first)
