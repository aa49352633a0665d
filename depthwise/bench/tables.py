"""Measurements as tables for a person to read."""

from rich.console import Group, RenderableType
from rich.text import Text

from depthwise.accounting.finding import counted
from depthwise.accounting.fitted import Column, FittedTable
from depthwise.accounting.tables import in_shape
from depthwise.accounting.units import TimeUnit, in_percent, in_units, time_unit
from depthwise.bench.layers import LayerTime, Profile, bound
from depthwise.bench.record import NetworkRecord, RuntimeRecord
from depthwise.machine import Machine

MICROSECONDS = TimeUnit("us", 1e6)
LAYER_COLUMNS = (
    Column("layer", kind="name", most=36),
    Column("kernel", 5, "name", most=14, least=8),
    Column("out", 6, "word"),
    Column("how", 8, "name", most=24),
    Column("us"),
    Column("%", 1),
    Column("GFLOP/s", 4),
    Column("% peak", 3),
)
ROOF_COLUMNS = (Column("% roof", 2), Column("bound by", 7, "word"))
RUNTIME_COLUMNS = (
    Column("p10 to p90", 4),
    Column("% of peak", 2),
    Column("ours is", 1),
    Column("error", 3),
)


def layers_table(
    network: str, profile: Profile, peak: float, machine: Machine | None
) -> RenderableType:
    """Return a row a layer and kernel, then the whole; `peak` is one core's, in FLOP/s.

    With a calibrated `machine` a row says how near its roofline it is, and what that is made of.
    """
    total = sum(layer.seconds for layer in profile.layers)
    columns = (*LAYER_COLUMNS, *(ROOF_COLUMNS if machine else ()))
    rows = []
    for layer in profile.layers:
        roof = _roof(layer, machine, peak) if machine and layer.bytes else ("", "")
        rows.append((*_layer(layer, total, peak), *roof)[: len(columns)])
    whole = (
        "total", "", "", "", MICROSECONDS.show(profile.seconds), "100",
        f"{profile.flops / 1e9:.1f}", f"{100 * profile.flops / peak:.1f}", "", "",
    )  # fmt: skip
    title = Text(f"{network}, median of {profile.runs} runs on one thread", style="bold")
    notes = [f"one core's FMA peak: {peak / 1e9:.1f} GFLOP/s"]
    notes += [] if machine else ["`depthwise calibrate` once, and this table has rooflines"]
    table = FittedTable(columns, rows, whole[: len(columns)])
    return Group(title, "", table, "", *map(Text, notes))


def _roof(layer: LayerTime, machine: Machine, peak: float) -> tuple[str, str]:
    found = bound(layer, machine, peak)
    return f"{100 * found.seconds / layer.seconds:.0f}" if layer.seconds else "", found.reason


def _layer(layer: LayerTime, total: float, peak: float) -> tuple[str, ...]:
    rates = (f"{layer.flops / 1e9:.1f}", f"{100 * layer.flops / peak:.1f}")
    return (
        layer.path or layer.name, layer.kernel.removeprefix("f32_"), in_shape(layer.shape),
        layer.comment, MICROSECONDS.show(layer.seconds), in_percent(layer.seconds / total),
        *(rates if layer.macs else ("", "")),
    )  # fmt: skip


def network_table(found: NetworkRecord, threads: int) -> RenderableType:
    """Return a row a runtime, ours first, then the others from the fastest to those that failed."""
    peers = sorted(found.peers, key=lambda peer: peer.seconds or float("inf"))
    own = (found.ours,) if found.direct is found.ours else (found.ours, found.direct)
    runtimes = (*own, *peers)
    unit = time_unit(runtime.seconds or 0 for runtime in runtimes)
    columns = (Column("", kind="name"), Column(unit.name), *RUNTIME_COLUMNS)
    rows = [_runtime(runtime, found, unit) for runtime in runtimes if runtime.rounds]
    shape = "x".join(map(str, found.input_shape))
    title = (
        f"{found.network} on {shape}, {in_units(found.macs)} MACs, "
        f"{counted(threads, 'thread')}, {counted(len(found.peaks), 'round')}"
    )
    low, high = (f"{peak / 1e9:.0f}" for peak in (min(found.peaks), max(found.peaks)))
    notes = [
        *(f"{_name(each)} cannot run it: {each.failed}" for each in runtimes if not each.rounds),
        *_summary(found),
        f"FMA peak of the cores used: {low if low == high else f'{low} to {high}'} GFLOP/s",
    ]
    return Group(Text(title, style="bold"), "", FittedTable(columns, rows), "", *map(Text, notes))


def _name(runtime: RuntimeRecord) -> str:
    return " ".join([runtime.name, *list(runtime.versions.values())[:1]])


def _runtime(runtime: RuntimeRecord, found: NetworkRecord, unit: TimeUnit) -> tuple[str, ...]:
    ratio = None if runtime is found.ours else found.ratio(runtime)
    low, high = (unit.show(runtime.percentile(percent)) for percent in (10, 90))
    return (
        _name(runtime), unit.show(runtime.seconds or 0), f"{low} to {high}",
        f"{100 * (found.share_of_peak(runtime) or 0):.1f}", f"{ratio:.2f}x" if ratio else "",
        "" if runtime.error is None else f"{runtime.error:.0e}",
    )  # fmt: skip


def _summary(found: NetworkRecord) -> list[str]:
    ours = found.ours
    if not ours.rounds:
        return []
    lines = [f"ours: p99 / median {ours.percentile(99) / ours.percentile(50):.2f}"]
    if best := found.best_peer:
        lines.append(f"best peer: {best.name}, {found.ratio(best):.2f}x our time")
    return lines
