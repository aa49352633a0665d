"""The last stage: how many times faster than ResNet-50 the library is, beside what MACs promise."""

from statistics import median

import numpy as np
import torch

from depthwise.bench.exported_model import direct_library
from depthwise.bench.worker import time_runs
from depthwise.families.registry import construct
from depthwise.hardware.load import Watch
from depthwise.progress import track
from depthwise.report.record import BaselineRecord, Referenced, Report
from depthwise.runtime.library import Library, load
from depthwise.shipping.request import Order
from depthwise.shipping.stages import counting
from depthwise.sources.source import torch_source

TURN = 0.2  # seconds of runs that each of the two gets in a round
FEWEST, MOST = 3, 200  # runs in a turn


def refer(order: Order, report: Report) -> BaselineRecord:
    """Time the library and ResNet-50 interleaved, on images of the same size.

    ResNet-50 has random weights and direct convolutions alone: it does the multiply-adds that are
    counted, one for one, in the same kernels and on as many threads.
    """
    side = order.source.side
    assert report.counted
    saved = report.counted.macs_saved
    if side is None or not saved or not order.build.chosen.runs_here:
        return BaselineRecord(found=None)
    reference = _build_reference(side, order)
    watch = Watch()
    own, other = _time_by_turns(load(order.directory), reference, order.rounds)
    disturbed = watch.load().disturbed
    ratio = median(theirs / ours for ours, theirs in zip(own, other, strict=True))
    found = Referenced(
        milliseconds=1e3 * median(other), ours=1e3 * median(own), rounds=order.rounds,
        macs_saved=saved, time_saved=ratio, kept=ratio / saved, disturbed=disturbed,
    )  # fmt: skip
    return BaselineRecord(found=found)


def _build_reference(side: int, order: Order) -> Library:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = construct(counting.REFERENCE).eval()
    program = torch_source(net, [(1, 3, side, side)]).program
    return direct_library(program, order.build.chosen, order.build.threads)


def _time_by_turns(own: Library, other: Library, rounds: int) -> tuple[list[float], list[float]]:
    """Return the median seconds of each library in each round."""
    pair = [(library, draw_inputs(library)) for library in (own, other)]
    found: tuple[list[float], list[float]] = ([], [])
    counts = [_runs_in_a_turn(library, inputs) for library, inputs in pair]
    doing = f"timing beside {counting.REFERENCE} in {rounds} rounds"
    for _ in track(range(rounds), doing, 2 * rounds * TURN):
        for (library, inputs), count, times in zip(pair, counts, found, strict=True):
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
        random.standard_normal(tensor.shape, np.float32)
        for tensor in library.manifest.network.inputs
    ]
