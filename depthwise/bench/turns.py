"""Libraries of ours in turns, in this process."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from depthwise.bench.worker import time_runs
from depthwise.graph.dtypes import find_dtype
from depthwise.progress import track
from depthwise.runtime.library import Library

TURN = 0.2  # seconds of runs that each gets in a round
FEWEST, MOST = 3, 200  # runs in a turn


def time_in_turns(libraries: Sequence[Library], rounds: int, doing: str) -> list[list[float]]:
    """Return the median seconds of each library in each round; `doing` says so in words.

    The order turns by one from round to round, so that none always follows the same one.
    """
    given = [(library, draw_inputs(library)) for library in libraries]
    counts = [_runs_in_a_turn(library, inputs) for library, inputs in given]
    found: list[list[float]] = [[] for _ in libraries]
    turns = list(zip(given, counts, found, strict=True))
    for number in track(range(rounds), doing, len(turns) * rounds * TURN):
        start = number % len(turns)
        for (library, inputs), count, times in (*turns[start:], *turns[:start]):
            runs = time_runs(lambda one=library, x=inputs: one.run(x)[0], count)
            times.append(median(runs))
    return found


def _runs_in_a_turn(library: Library, inputs: list[np.ndarray]) -> int:
    fastest = min(time_runs(lambda: library.run(inputs)[0], FEWEST))
    return min(MOST, max(FEWEST, round(TURN / fastest)))


def draw_inputs(library: Library) -> list[np.ndarray]:
    """Return random inputs of a library, always the same."""
    random = np.random.default_rng(0)
    return [
        find_dtype(tensor.dtype).draw(random, tensor.shape)
        for tensor in library.manifest.network.inputs
    ]
