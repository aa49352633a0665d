"""Baseline: how many times faster than ResNet-50 the library is, beside what MACs promise."""

from statistics import median

import numpy as np
import torch

from depthwise.bench.exported_model import direct_library
from depthwise.bench.worker import time_runs
from depthwise.families.registry import construct
from depthwise.graph.dtypes import find_dtype
from depthwise.hardware.load import Watch
from depthwise.progress import track
from depthwise.report.record import Baseline, BaselineTimes, CostSummary, Report
from depthwise.runtime.library import Library, load
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request
from depthwise.shipping.stages import counting
from depthwise.sources.source import torch_source

TURN = 0.2  # seconds of runs that each of the two gets in a round
FEWEST, MOST = 3, 200  # runs in a turn


def time_baseline(
    request: Request, network: CurrentNetwork, report: Report
) -> tuple[Baseline, CurrentNetwork]:
    """Time the library and ResNet-50 in rounds, on images of the same size.

    ResNet-50 has random weights and direct convolutions alone: it does the multiply-adds that are
    counted, one for one, in the same kernels and on as many threads.
    """
    costs, side = report.find(CostSummary), network.side
    assert costs
    saved = costs.macs_saved
    if side is None or not saved or not request.build.chosen.runs_here:
        return Baseline(times=None, disturbed=""), network
    other = _build_baseline(side, request)
    watch = Watch()
    ours, theirs = _time_in_rounds(load(request.directory), other, request.rounds)
    ratio = median(their / our for our, their in zip(ours, theirs, strict=True))
    times = BaselineTimes(
        milliseconds=1e3 * median(theirs), ours=1e3 * median(ours), rounds=request.rounds,
        macs_saved=saved, time_saved=ratio, realized=ratio / saved,
    )  # fmt: skip
    return Baseline(times=times, disturbed=watch.load().disturbed), network


def _build_baseline(side: int, request: Request) -> Library:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = construct(counting.BASELINE).eval()
    program = torch_source(net, [(1, 3, side, side)]).program
    return direct_library(program, request.build)


def _time_in_rounds(own: Library, other: Library, rounds: int) -> tuple[list[float], list[float]]:
    """Return the median seconds of each library in each round."""
    pair = [(library, draw_inputs(library)) for library in (own, other)]
    found: tuple[list[float], list[float]] = ([], [])
    counts = [_runs_in_a_turn(library, inputs) for library, inputs in pair]
    doing = f"timing beside {counting.BASELINE} in {rounds} rounds"
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
        find_dtype(tensor.dtype).draw(random, tensor.shape)
        for tensor in library.manifest.network.inputs
    ]
