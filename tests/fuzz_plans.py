"""Random graphs, their plans done by the oracle: `python tests/fuzz_plans.py --graphs 10000`.

Each graph is planned for speed, for memory and for threads, with thresholds so low that what is
small is streamed and divided too; targets, windows and ways to convolve change from graph to graph.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch
from other_constants import PLACE, changed
from random_graphs import draw_graph, draw_views
from shrink import is_sound, shrink
from sketch import Drawn

from depthwise.compiler.constants import constants_of
from depthwise.compiler.lowering.algorithms import Algorithms, candidates
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.partition import Optimize
from depthwise.compiler.verification.oracle import check_plan
from depthwise.graph import Graph, show
from depthwise.runtime.target import TARGETS

DRAW: tuple[Callable[[int], Drawn], ...] = (draw_views, draw_views, draw_graph)
WINDOWS = (500, 2_000, 6_000, 20_000)  # bytes of a chain's windows


@dataclass(frozen=True)
class Way:
    """How a graph is planned."""

    optimize: Optimize | None
    threads: int
    target: int
    windows: int

    def check(self, drawn: Drawn) -> None:
        """Plan a graph and do the plan; raises whatever is wrong."""
        with patch(PLACE, changed(cold=0, windows=self.windows, meeting=1.0)):
            graph = rewrite(drawn.graph)
            target = TARGETS[self.target]
            ways = mixed(graph, self.target, self.windows) if self.optimize != "memory" else {}
            plan = make_plan(graph, target, self.optimize, self.threads, ways)
            check_plan(plan, drawn.inputs)


def mixed(graph: Graph, number: int, turn: int) -> Algorithms:
    """Return another candidate for each layer, by turns."""
    target = TARGETS[number]
    layers = make_plan(graph, target, optimize=None).algorithms
    tried = {layer: candidates(layer, constants_of(target)) for layer in layers}
    return {layer: ways[(at + turn) % len(ways)] for at, (layer, ways) in enumerate(tried.items())}


def ways(seed: int) -> Iterator[Way]:
    """Yield the ways in which the graph of a seed is planned."""
    windows = WINDOWS[seed // 3 % len(WINDOWS)]
    targets = [(seed + i) % len(TARGETS) for i in range(3)]
    yield Way("speed", 1, targets[0], windows)
    yield Way("memory", 1, targets[1], windows)
    yield Way(("speed", "memory", None)[seed % 3], 2 + seed // 2 % 3, targets[2], windows)


def draw(seed: int) -> Drawn:
    """Return the graph of a seed."""
    return DRAW[seed % len(DRAW)](seed)


def failure(seed: int) -> str:
    """Return what is wrong with the plans of a seed's graph, shrunk; "" where nothing is."""
    drawn = draw(seed)
    if not is_sound(drawn):
        return ""
    for way in ways(seed):
        found = fails(drawn, way)
        if found:
            small = shrink(drawn, lambda one, way=way: fails(one, way))
            return f"seed {seed}, {way}: {found}\n{fails(small, way)}\n{show(small.graph)}"
    return ""


def fails(drawn: Drawn, way: Way) -> str:
    """Return what is wrong with a graph planned in one way."""
    try:
        way.check(drawn)
    except Exception as problem:  # whatever it is, the graph is legal
        return f"{type(problem).__name__}: {problem}"
    return ""


def main() -> None:
    """Check many graphs; ends with an error where one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=2_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    start, bad = time.monotonic(), 0
    seeds = range(options.start, options.start + options.graphs)
    with ProcessPoolExecutor(options.jobs, initializer=one_thread) as pool:
        for done, found in enumerate(pool.map(failure, seeds, chunksize=10), 1):
            if found:
                bad += 1
                print(found, flush=True)
            if not done % 500:
                rate = done / (time.monotonic() - start)
                print(f"{done} graphs, {bad} wrong, {rate:.1f} a second", flush=True)
    raise SystemExit(f"{bad} of {options.graphs} graphs are planned wrong" if bad else 0)


def one_thread() -> None:
    """Let each process compute on one thread; quietly, for some numbers overflow."""
    torch.set_num_threads(1)
    np.seterr(all="ignore")


if __name__ == "__main__":
    main()
