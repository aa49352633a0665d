"""A process that runs one network in one runtime, asked over a pipe.

    python -m depthwise.bench.worker MODULE CASE PRECISION THREADS [COPIES RUNS]

With COPIES it opens the network so often, on a part of the threads each, and a run is RUNS runs of
all of them at once. Where the case has images to judge precisions on, they are run, too.
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

from depthwise.bench.peers import EXPECTED, EXPECTED_OF_IMAGES, IMAGES, INPUT, Opened, RunOnce
from depthwise.compiler.verification.difference import relative_error

LONGEST = 300  # characters of a reason
WARM = 0.05  # seconds of runs before those that are timed: caches, clocks and threads wake


def error_of(found: np.ndarray, expected: np.ndarray) -> float:
    """Return how far an output is off, infinity where it has not as many elements as expected."""
    if found.size != expected.size:
        return float("inf")
    return relative_error(found.reshape(expected.shape), expected)


def judge(opened: Opened, images: np.ndarray, expected: np.ndarray) -> tuple[float, float | None]:
    """Return how far outputs of images are off at most, and the share that keeps its class.

    The network takes as many images at once as `expected` has in its second axis. There are no
    classes where it does not return a vector of scores for each image.
    """
    worst, same, count = 0.0, 0, 0
    for given, wanted in zip(images, expected, strict=True):
        opened.give(given)
        found = np.array(opened.run())  # whose memory may be the runtime's
        worst = max(worst, error_of(found, wanted))
        if worst < float("inf") and has_classes(wanted):
            scores, known = (y.reshape(len(wanted), -1) for y in (found, wanted))
            same += int((scores.argmax(1) == known.argmax(1)).sum())
            count += len(wanted)
    return worst, same / count if count else None


def has_classes(output: np.ndarray) -> bool:
    """Tell whether an output is a vector of scores for each image, as 1x1 maps are, too."""
    return output.ndim >= 2 and output.shape[1] > 1 and output[0].size == output.shape[1]


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
    module: str, case: Path, precision: str, threads: int, copies: int, runs: int
) -> Iterator[dict[str, Any]]:
    """Open the network, then answer each line of standard input."""
    start = time.perf_counter()
    open_network = importlib.import_module(module).open_network
    opened: list[Opened] = [open_network(case, threads // copies, precision) for _ in range(copies)]
    seconds = time.perf_counter() - start
    error, agreement = 0.0, None
    if (case / IMAGES).is_file():
        images, expected = np.load(case / IMAGES), np.load(case / EXPECTED_OF_IMAGES)
        error, agreement = judge(opened[0], images, expected)
    x = np.load(case / INPUT)
    for each in opened:
        each.give(x)
    run = opened[0].run if copies == runs == 1 else together([e.run for e in opened], runs)
    error = max(error, error_of(run(), np.load(case / EXPECTED)))
    yield {"opened": seconds, "error": error, "agreement": agreement, "how": opened[0].how}
    for line in sys.stdin:
        yield {"times": time_runs(run, int(line))}


def main(module: str, case: str, precision: str, *numbers: str) -> None:
    """Answer until standard input ends; what the runtime prints goes to standard error."""
    threads, copies, runs = (*map(int, numbers), 1, 1)[:3]
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        try:
            for answer in answers(module, Path(case), precision, threads, copies, runs):
                print(json.dumps(answer), file=out, flush=True)
        except Exception as error:  # whatever a runtime raises is told, and the others go on
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
            print(json.dumps({"failed": reason}), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
