"""Baseline: how many times faster than ResNet-50 the library is, beside what MACs promise."""

from statistics import median

import torch

from depthwise.bench.exported_model import direct_library
from depthwise.bench.turns import time_in_turns
from depthwise.families.registry import construct
from depthwise.hardware.load import Watch
from depthwise.report.record import Baseline, BaselineTimes, CostSummary, Report
from depthwise.runtime.library import Library, load
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request
from depthwise.shipping.stages import counting
from depthwise.sources.source import torch_source


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
    doing = f"timing beside {counting.BASELINE} in {request.rounds} rounds"
    ours, theirs = time_in_turns([load(request.directory), other], request.rounds, doing)
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
