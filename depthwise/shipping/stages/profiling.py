"""Profile: where the time goes on one thread, layer by layer, beside the least possible."""

from collections.abc import Callable
from dataclasses import replace

from depthwise import hardware as machines
from depthwise.analysis.count import kind as kind_of
from depthwise.bench.layers import LayerTime, Profile, agreed, profile
from depthwise.bench.turns import draw_inputs
from depthwise.bench.worker import time_runs
from depthwise.compiler.options import INT8
from depthwise.compiler.pipeline import choose_plan, rewrite_for
from depthwise.hardware import Machine
from depthwise.hardware.record import share_of
from depthwise.report.record import (
    Compilation,
    CostSummary,
    KindTimeRecord,
    LayerProfile,
    LayerTimeRecord,
    Report,
)
from depthwise.runtime.library import load
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request

COPY = "copy"  # of the input and the output between PyTorch's layout and ours


def profile_library(
    request: Request, network: CurrentNetwork, report: Report
) -> tuple[LayerProfile, CurrentNetwork]:
    """Time every layer of the library, and compare it with the least that this machine allows.

    Calibrates the machine where that was not done before, or where a layer is faster than the
    calibration allows.
    """
    costs, compiled = report.find(CostSummary), report.find(Compilation)
    assert costs
    assert compiled
    precision = compiled.manifest.build.precision
    if not request.build.chosen.runs_here:
        remark = f"This machine cannot run a library for {request.build.chosen.full_name}."
        return _not_timed(remark), network
    if precision == INT8:
        remark = "The layers of a library in int8 are timed by `depthwise bench --layers` alone."
        return _not_timed(remark), network
    known = machines.find() or machines.calibrate()
    options = replace(request.build.here, threads=1, precision=precision)
    plan = choose_plan(rewrite_for(options, network.source.graph)[0], options)
    found, here = agreed(profile(plan, library=_time_library(request)), known)
    kinds = _kinds_of_layers(costs, network)
    return _summarise(found, kinds, here, _age(known, here)), network


def _not_timed(remark: str) -> LayerProfile:
    return LayerProfile(
        milliseconds=0, library=None, ideal=None, rate=0, peak=0, of_peak=None, layers=(),
        kinds=(), machine=None, calibrated="", contradicted=(), disturbed="", remarks=(remark,),
    )  # fmt: skip


def _time_library(request: Request) -> Callable[[int], list[float]] | None:
    """Return what times runs of the saved library; None where it has several threads."""
    if request.build.threads > 1:
        return None
    library = load(request.directory)
    inputs = draw_inputs(library)
    return lambda count: time_runs(lambda: library.run(inputs)[0], count)


def _age(known: Machine, here: Machine) -> str:
    """Return when the machine was calibrated, and why again."""
    if here is known:
        return here.age
    return f"{here.age}: what was {known.age} allowed less than was measured"


def _kinds_of_layers(costs: CostSummary, network: CurrentNetwork) -> dict[str, str]:
    """Return the kind of each layer by its path, and of what has no multiply-adds by its name."""
    graph = network.source.graph
    by_name = {node.name: kind_of(graph, node) for node in graph}
    return {**by_name, **{layer.path: layer.kind for layer in costs.layers if layer.macs}}


def _summarise(
    found: Profile, kinds: dict[str, str], here: Machine, calibrated: str
) -> LayerProfile:
    rows = tuple(_row(layer, kinds, here, found) for layer in found.layers)
    contradicted = tuple(
        row.path
        for row, layer in zip(rows, found.layers, strict=True)
        if layer.contradicts(here, found.peak_of(layer.arithmetic))
    )
    # what is too short to tell counts as if it were at its roofline
    ideal = sum(row.ideal or row.microseconds for row in rows if row.bound) / 1e3
    return LayerProfile(
        milliseconds=1e3 * found.seconds,
        library=None if found.library is None else 1e3 * found.library,
        ideal=None if contradicted else ideal, rate=found.flops / 1e9,
        peak=found.peak / 1e9, of_peak=share_of(found.least_arithmetic, found.seconds),
        layers=rows,
        kinds=_by_kind(rows, found), machine=here, calibrated=calibrated,
        contradicted=contradicted, disturbed=found.disturbed or here.disturbed, remarks=(),
    )  # fmt: skip


def _row(layer: LayerTime, kinds: dict[str, str], here: Machine, found: Profile) -> LayerTimeRecord:
    peak = found.peak_of(layer.arithmetic)
    least = found.least(layer, here)
    known = kinds.get(layer.path if layer.macs else layer.name, "")
    of_ideal = share_of(least.seconds, layer.seconds) if layer.bytes else None
    return LayerTimeRecord(
        path=layer.path or layer.name or COPY, kind=known or COPY,
        kernel=layer.kernel.removeprefix("f32_"), shape=layer.shape[1:],
        microseconds=1e6 * layer.seconds,
        ideal=None if of_ideal is None else 1e6 * min(least.seconds, layer.seconds),
        bound=least.reason if layer.bytes else "", share=layer.seconds / found.seconds,
        rate=layer.flops / 1e9, of_peak=share_of(layer.flops, peak), of_ideal=of_ideal,
        intensity=2 * layer.needed / layer.bytes if layer.bytes else 0.0,
    )  # fmt: skip


def _by_kind(rows: tuple[LayerTimeRecord, ...], found: Profile) -> tuple[KindTimeRecord, ...]:
    """Return the kinds, the one that takes most time first."""
    macs: dict[str, int] = {}
    for row, layer in zip(rows, found.layers, strict=True):
        macs[row.kind] = macs.get(row.kind, 0) + layer.macs
    every = sum(macs.values()) or 1
    records = [
        KindTimeRecord(
            kind=kind, macs_share=macs[kind] / every,
            microseconds=sum(row.microseconds for row in rows if row.kind == kind),
            share=sum(row.share for row in rows if row.kind == kind),
        )
        for kind in macs
    ]  # fmt: skip
    return tuple(sorted(records, key=lambda record: -record.share))
