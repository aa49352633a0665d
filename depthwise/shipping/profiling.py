"""The fifth stage: where the time goes on one thread, layer by layer, against the ideal."""

from depthwise import machine as machines
from depthwise.accounting.count import kind as kind_of
from depthwise.bench.layers import LayerTime, Profile, bound, profile
from depthwise.bench.peak import measure_peak
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import make_plan
from depthwise.machine import Machine
from depthwise.report.record import (
    Counted,
    KindTimeRecord,
    LayerTimeRecord,
    Profiled,
    Report,
)
from depthwise.shipping.order import Order

COPY = "copy"  # of the input and the output between PyTorch's layout and ours


def profile_layers(order: Order, report: Report) -> Profiled:
    """Time every layer of the library, and set it beside what this machine would allow.

    Measures the machine where it was not measured before.
    """
    if not order.build.chosen.runs_here:
        remark = f"This machine cannot run a library for {order.build.chosen.name}."
        return Profiled(
            milliseconds=0, ideal=0, rate=0, peak=0, of_peak=0, layers=(), kinds=(), machine=None,
            remarks=(remark,),
        )  # fmt: skip
    assert report.counted
    here = machines.find() or machines.calibrate()
    graph = rewrite(order.source.graph)
    plan = make_plan(graph, order.build.chosen, optimize=order.build.optimize)
    before = measure_peak()
    found = profile(plan)
    peak = max(before, measure_peak())
    kinds = _kinds_of_layers(report.counted, order)
    return _summarise(found, kinds, here, peak)


def _kinds_of_layers(counted: Counted, order: Order) -> dict[str, str]:
    """Return the kind of each layer by its path, and of what has no multiply-adds by its name."""
    by_name = {node.name: kind_of(order.source.graph, node) for node in order.source.graph}
    return {**by_name, **{layer.path: layer.kind for layer in counted.layers if layer.macs}}


def _summarise(found: Profile, kinds: dict[str, str], here: Machine, peak: float) -> Profiled:
    whole = sum(layer.seconds for layer in found.layers)
    rows = tuple(_row(layer, kinds, here, peak, whole) for layer in found.layers)
    ideal = sum(row.ideal for row in rows) / 1e3
    return Profiled(
        milliseconds=1e3 * found.seconds, ideal=ideal, rate=found.flops / 1e9, peak=peak / 1e9,
        of_peak=found.flops / peak, layers=rows, kinds=_by_kind(rows, found), machine=here,
        remarks=(),
    )  # fmt: skip


def _row(
    layer: LayerTime, kinds: dict[str, str], here: Machine, peak: float, whole: float
) -> LayerTimeRecord:
    least = bound(layer, here, peak)
    known = kinds.get(layer.path if layer.macs else layer.name, "")
    return LayerTimeRecord(
        path=layer.path or layer.name or COPY, kind=known or COPY,
        kernel=layer.kernel.removeprefix("f32_"), shape=layer.shape[1:],
        microseconds=1e6 * layer.seconds, ideal=1e6 * least.seconds,
        bound=least.reason if layer.bytes else "", share=layer.seconds / whole if whole else 0.0,
        rate=layer.flops / 1e9, of_peak=layer.flops / peak,
        of_ideal=least.seconds / layer.seconds if layer.seconds else 0.0,
        intensity=2 * layer.macs / layer.bytes if layer.bytes else 0.0,
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
            ideal=sum(row.ideal for row in rows if row.kind == kind),
            share=sum(row.share for row in rows if row.kind == kind),
        )
        for kind in macs
    ]  # fmt: skip
    return tuple(sorted(records, key=lambda record: -record.share))
