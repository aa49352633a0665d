"""Plan by measurement: the few ways to compute each convolution, timed on this machine.

Plans of the whole network that differ in these alone are built together and take turns, timed step
by step: so each way finds the caches, borders and weights as they are in the network.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from depthwise.compiler.algorithms import Algorithm, Algorithms, Layer, candidates
from depthwise.compiler.build import may_draw
from depthwise.compiler.clock import build_clocked
from depthwise.compiler.plan import Plan, make_plan
from depthwise.compiler.target import Target
from depthwise.compiler.trials import Trial, TrialCache
from depthwise.graph import Graph

ROUNDS = 7
SECONDS = 0.1  # that each plan runs in each round
LEAST_RUNS = 3

Rounds = Mapping[Layer, np.ndarray]  # seconds: (rounds, plans)
Measure = Callable[[Sequence[Plan], str | None], Rounds]


def fastest_algorithms(
    graph: Graph, target: Target, cc: str | None = None, measure: Measure | None = None
) -> Algorithms:
    """Return the fastest way to compute each convolution of a rewritten graph on this machine.

    What was measured before, for this network or another, is read from the cache. `measure` takes
    the place of our own timing. Raises BuildError as compile_c does.
    """
    cache = TrialCache(target, cc)
    tried = {layer: candidates(layer, target) for layer in make_plan(graph, target).algorithms}
    chosen: dict[Layer, Algorithm] = {}
    open_: dict[Layer, list[Algorithm]] = {}
    for layer, ways in tried.items():
        trial = cache.find(layer, ways)
        if len(ways) > 1 and trial is None:
            open_[layer] = ways
        else:
            chosen[layer] = trial.decide() if trial else ways[0]
    if not open_:
        return chosen
    plans = [
        make_plan(graph, target, algorithms=chosen | _turn(open_, turn))
        for turn in range(max(map(len, open_.values())))
    ]
    found = (measure or measure_layers)(plans, cc)
    for layer, ways in open_.items():
        trial = Trial.of_rounds(ways, found[layer][:, : len(ways)])
        cache.keep(layer, trial)
        chosen[layer] = trial.decide()
    return chosen


def _turn(open_: Mapping[Layer, Sequence[Algorithm]], turn: int) -> dict[Layer, Algorithm]:
    """Return the way of each layer whose turn it is; the default where all had theirs."""
    return {layer: ways[turn if turn < len(ways) else 0] for layer, ways in open_.items()}


def measure_layers(plans: Sequence[Plan], cc: str | None) -> Rounds:
    """Return the seconds of each layer in each plan, round after round, in memory anew each time.

    A layer that occurs several times counts with all its calls.
    """
    trials = build_clocked(plans, cc)
    layers = dict.fromkeys(step.layer for step in plans[0].steps if step.layer)
    found = {layer: np.zeros((ROUNDS, len(plans))) for layer in layers}
    members = [
        {layer: [i for i, step in enumerate(plan.steps) if step.layer == layer] for layer in layers}
        for plan in plans
    ]
    turns = [(r, n) for r in range(ROUNDS) for n in range(len(plans))]
    console = Console(stderr=True, quiet=not may_draw())
    for r, n in track(turns, "timing layers", console=console, transient=True):
        runs = trials[n].runs(SECONDS, LEAST_RUNS)
        for layer, steps in members[n].items():
            found[layer][r, n] = np.median(runs[:, steps].sum(axis=1))
    return found
