"""A process that runs one network in one runtime, asked over a pipe.

    python -m depthwise.bench.worker MODULE CASE THREADS [COPIES RUNS]

With COPIES it opens the network so often, on a part of the threads each, and a run is RUNS runs of
all of them at once.
Each line on standard input asks for a number of runs; each line on standard output answers in JSON.
The first answer, to nothing, is how long it took to open the network and what it computes.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from depthwise.bench.peers import EXPECTED, RunOnce
from depthwise.compiler.verification.difference import relative_error

LONGEST = 300  # characters of a reason
WARM = 0.05  # seconds of runs before those that are timed: caches, clocks and threads wake


def error_of(found: np.ndarray, expected: np.ndarray) -> float:
    """Return how far an output is off, infinity where it has not as many elements as expected."""
    if found.size != expected.size:
        return float("inf")
    return relative_error(found.reshape(expected.shape), expected)


def time_runs(run: RunOnce, count: int) -> list[float]:
    """Return the seconds of each of `count` runs, after some that are not timed."""
    end = time.perf_counter() + WARM
    run()
    while time.perf_counter() < end:
        run()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def together(opened: Sequence[RunOnce], runs: int) -> RunOnce:
    """Return what runs all that was opened at once, each a number of times."""
    pool = ThreadPoolExecutor(len(opened))

    def several(run: RunOnce) -> np.ndarray:
        return [run() for _ in range(runs)][-1]

    def run() -> np.ndarray:
        outputs = list(pool.map(several, opened))  # of all, so that all are done
        return outputs[0]

    return run


def answers(
    module: str, case: Path, threads: int, copies: int, runs: int
) -> Iterator[dict[str, Any]]:
    """Open the network, then answer each line of standard input."""
    start = time.perf_counter()
    open_network = importlib.import_module(module).open_network
    opened = [open_network(case, threads // copies) for _ in range(copies)]
    run = opened[0] if copies == runs == 1 else together(opened, runs)
    seconds = time.perf_counter() - start
    error = error_of(run(), np.load(case / EXPECTED))
    yield {"opened": seconds, "error": error}
    for line in sys.stdin:
        yield {"times": time_runs(run, int(line))}


def main(module: str, case: str, threads: str, copies: str = "1", runs: str = "1") -> None:
    """Answer until standard input ends; what the runtime prints goes to standard error."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        try:
            for answer in answers(module, Path(case), int(threads), int(copies), int(runs)):
                print(json.dumps(answer), file=out, flush=True)
        except Exception as error:  # whatever a runtime raises is told, and the others go on
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
            print(json.dumps({"failed": reason}), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
