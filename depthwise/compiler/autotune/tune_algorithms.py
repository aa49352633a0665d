"""Plan by measurement: the few ways to compute each convolution, timed on this machine.

Plans of the whole network that differ in these alone are built together and take turns, timed step
by step: so each way finds the caches, borders and weights as they are in the network.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from depthwise.compiler.autotune.measurements import Measurement, MeasurementCache
from depthwise.compiler.autotune.step_timer import build_clocked
from depthwise.compiler.constants import constants_of
from depthwise.compiler.lowering.algorithms import Algorithm, Algorithms, ConvWorkload, candidates
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.graph import Graph
from depthwise.progress import track

ROUNDS = 7
SECONDS = 0.1  # that each plan runs in each round
LEAST_RUNS = 3

PartOf = Callable[[KernelCall], Hashable]
Rounds = Mapping[Hashable, np.ndarray]  # seconds: (rounds, plans)
Measure = Callable[[Sequence[Plan], str | None, PartOf], Rounds]


def measure_parts(plans: Sequence[Plan], cc: str | None, part_of: PartOf) -> Rounds:
    """Return the seconds of each part in each plan, in rounds, each with newly allocated buffers.

    The part of a step is what `part_of` says, None where its time is not asked for.
    """
    trials = build_clocked(plans, cc)
    members = [_members(plan, part_of) for plan in plans]
    found = {part: np.zeros((ROUNDS, len(plans))) for part in members[0]}
    turns = [(r, n) for r in range(ROUNDS) for n in range(len(plans))]
    doing = f"timing {len(members[0])} layers in {len(plans)} ways"
    for r, n in track(turns, doing, len(turns) * SECONDS):
        runs = trials[n].runs(SECONDS, LEAST_RUNS)
        for part, steps in members[n].items():
            found[part][r, n] = np.median(runs[:, steps].sum(axis=1))
    return found


def _members(plan: Plan, part_of: PartOf) -> dict[Hashable, list[int]]:
    """Return the numbers of the steps of each part."""
    members: dict[Hashable, list[int]] = {}
    for i, step in enumerate(plan.steps):
        part = part_of(step)
        if part is not None:
            members.setdefault(part, []).append(i)
    return members


def fastest_algorithms(
    graph: Graph, options: CompileOptions, measure: Measure = measure_parts
) -> Algorithms:
    """Return the fastest way to compute each convolution of a rewritten graph on this machine.

    What was measured before, for this network or another, is read from the cache. `measure` takes
    the place of our own timing. Raises BuildError as compile_c does.
    """
    target, core = options.chosen, options.core
    cache = MeasurementCache(target, options.cc)
    layers = make_plan(graph, target, optimize=None, core=core).algorithms
    tried = {layer: candidates(layer, constants_of(target, core)) for layer in layers}
    chosen: dict[ConvWorkload, Algorithm] = {}
    open_: dict[ConvWorkload, list[Algorithm]] = {}
    for layer, ways in tried.items():
        trial = cache.find(layer, ways)
        if len(ways) > 1 and trial is None:
            open_[layer] = ways
        else:
            chosen[layer] = _decided(trial) if trial else ways[0]
    if not open_:
        return chosen
    plans = [
        make_plan(graph, target, algorithms=chosen | _turn(open_, turn), core=core)
        for turn in range(max(map(len, open_.values())))
    ]
    found = measure(plans, options.cc, lambda step: step.layer)
    for layer, ways in open_.items():
        trial = Measurement.of_rounds(ways, found[layer][:, : len(ways)])
        cache.keep(layer, trial)
        chosen[layer] = _decided(trial)
    return chosen


def _decided(trial: Measurement) -> Algorithm:
    way = trial.decide()
    assert isinstance(way, Algorithm)
    return way


def _turn(
    open_: Mapping[ConvWorkload, Sequence[Algorithm]], turn: int
) -> dict[ConvWorkload, Algorithm]:
    """Return the way of each layer whose turn it is; the default where all had theirs."""
    return {layer: ways[turn if turn < len(ways) else 0] for layer, ways in open_.items()}
