"""What the trainings of a trade-off came to: accuracy, cost and time of each, as rows."""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

import numpy as np

from depthwise.escaping import in_cell
from depthwise.graph.dtypes import find_dtype
from depthwise.hardware.load import Watch
from depthwise.runtime.library import Library
from depthwise.runtime.target import cpu_name
from depthwise.training.evaluation import interval
from depthwise.training.tradeoff import Combination, Tradeoff

ROUNDS = 7  # in each of which every library has its turn
TURN, FEWEST = 0.05, 3  # seconds and runs of a turn


@dataclass(frozen=True, eq=False)
class Point:
    """A combination that was trained.

    Attributes:
        combination: Of width and resolution.
        images: How many its accuracy is of.
        right: How many of them were named rightly, by each training.
        milliseconds: Of its compiled library for one image, on one thread: the median.
    """

    combination: Combination
    images: int
    right: tuple[int, ...]
    milliseconds: float

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The accuracy of each training, as a share."""
        return tuple(right / self.images for right in self.right)

    @property
    def accuracy(self) -> float:
        """The mean accuracy."""
        return fmean(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the mean, which more trainings do not narrow.

        They are judged on the same images, and it says what other images would change.
        """
        return interval(round(fmean(self.right)), self.images)

    @property
    def spread(self) -> float | None:
        """The standard deviation of the accuracy from training to training; None of one."""
        return stdev(self.accuracies) if len(self.right) > 1 else None


@dataclass(frozen=True, eq=False)
class Points:
    """All that was trained so far, measured together.

    Attributes:
        network: What is trained.
        data: On what.
        split: Which images the accuracies are of.
        points: The largest width and resolution first.
        processor: The CPU that the milliseconds are of.
        disturbed: What disturbed these, in words; empty where nothing did.
    """

    network: str
    data: str
    split: str
    points: tuple[Point, ...]
    processor: str
    disturbed: str

    def rows(self) -> list[dict[str, object]]:
        """Return what is known of each point, by the names of the columns."""
        return [_row(self, point) for point in self.points]

    def csv(self) -> str:
        """Return a line of column names and a line for each point."""
        file, rows = io.StringIO(), self.rows()
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: in_cell(value) for name, value in row.items()} for row in rows)
        return file.getvalue()


def measure(tradeoff: Tradeoff) -> Points:
    """Return the points of what is finished; libraries that are missing are compiled.

    All libraries take turns, so that a machine that is slow for a while is slow for all of them.
    Raises what compiling does.
    """
    found = [
        (combination, [each for each in results if each is not None])
        for combination in tradeoff.combinations
        if any(results := [tradeoff.result(combination, seed) for seed in tradeoff.seeds])
    ]
    libraries = [tradeoff.library(combination) for combination, _ in found]
    watch = Watch()
    times = milliseconds(libraries)
    disturbed = watch.load().disturbed
    points = [
        Point(combination, results[0].images, tuple(each.right for each in results), each_time)
        for (combination, results), each_time in zip(found, times, strict=True)
    ]
    points.sort(key=lambda point: (-(point.combination.width or 0), -point.combination.side))
    asked = tradeoff.request
    return Points(asked.network, asked.data, tradeoff.split, tuple(points), cpu_name(), disturbed)


def milliseconds(libraries: Sequence[Library]) -> list[float]:
    """Return what one run of each library takes: the median over all rounds."""
    random = np.random.default_rng(0)
    inputs = [
        [
            find_dtype(each.dtype).draw(random, each.shape)
            for each in library.manifest.network.inputs
        ]
        for library in libraries
    ]
    times: list[list[float]] = [[] for _ in libraries]
    for _ in range(ROUNDS):
        for library, arrays, kept in zip(libraries, inputs, times, strict=True):
            kept.append(_turn(library, arrays))
    return [1000 * median(each) for each in times]


def _turn(library: Library, arrays: Sequence[np.ndarray]) -> float:
    """Return the median seconds of the runs of one turn, after one that fills the caches."""
    library.run(arrays)
    seconds: list[float] = []
    while len(seconds) < FEWEST or sum(seconds) < TURN:
        start = time.perf_counter()
        library.run(arrays)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def _row(points: Points, point: Point) -> dict[str, object]:
    found, (low, high) = point.combination, point.interval
    return {
        "network": points.network, "data": points.data, "width": found.width,
        "resolution": found.share, "pixels": found.side, "macs": found.cost.macs,
        "parameters": found.cost.params, "milliseconds": round(point.milliseconds, 5),
        "processor": points.processor, "disturbed": points.disturbed, "split": points.split,
        "images": point.images, "trainings": len(point.right),
        "accuracy": round(point.accuracy, 6), "low": round(low, 6), "high": round(high, 6),
        "deviation": None if point.spread is None else round(point.spread, 6),
        "accuracies": " ".join(f"{each:.6f}" for each in point.accuracies),
    }  # fmt: skip
