"""Measurements as tables for a person to read."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from depthwise.accounting.tables import in_shape, in_units
from depthwise.bench.layers import LayerTime, Profile, bound
from depthwise.bench.record import NetworkRecord, RuntimeRecord
from depthwise.machine import Machine


def layers_table(
    network: str, profile: Profile, peak: float, machine: Machine | None
) -> RenderableType:
    """Return a row a layer and kernel, then the whole; `peak` is one core's, in FLOP/s.

    With a calibrated `machine` a row says how near its roofline it is, and what that is made of.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, width in (("layer", 36), ("kernel", 14), ("out", 12), ("how", 24)):
        table.add_column(title, no_wrap=True, overflow="ellipsis", max_width=width)
    for title in ("us", "%", "GFLOP/s", "% peak"):
        table.add_column(title, justify="right", no_wrap=True)
    if machine:
        table.add_column("% roof", justify="right", no_wrap=True)
        table.add_column("bound by", no_wrap=True)
    total = sum(layer.seconds for layer in profile.layers)
    for layer in profile.layers:
        roof = _roof(layer, machine, peak) if machine and layer.bytes else ()
        table.add_row(*_layer(layer, total, peak), *roof)
    table.add_section()
    table.add_row(
        "total", "", "", "", f"{profile.seconds * 1e6:.1f}", "100", f"{profile.flops / 1e9:.1f}",
        f"{100 * profile.flops / peak:.1f}", style="bold",
    )  # fmt: skip
    title = Text(f"{network}, median of {profile.runs} runs on one thread", style="bold")
    notes = [f"one core's FMA peak: {peak / 1e9:.1f} GFLOP/s"]
    notes += [] if machine else ["`depthwise calibrate` once, and this table has rooflines"]
    return Group(title, "", table, "", *notes)


def _roof(layer: LayerTime, machine: Machine, peak: float) -> tuple[str, str]:
    found = bound(layer, machine, peak)
    return f"{100 * found.seconds / layer.seconds:.0f}" if layer.seconds else "", found.reason


def _layer(layer: LayerTime, total: float, peak: float) -> tuple[str, ...]:
    rates = (f"{layer.flops / 1e9:.1f}", f"{100 * layer.flops / peak:.1f}")
    return (
        layer.path or layer.name, layer.kernel.removeprefix("f32_"), in_shape(layer.shape),
        layer.comment, f"{layer.seconds * 1e6:.1f}", f"{100 * layer.seconds / total:.2f}",
        *(rates if layer.macs else ("", "")),
    )  # fmt: skip


def network_table(found: NetworkRecord, threads: int) -> RenderableType:
    """Return a row a runtime, ours first, then the others from the fastest to those that failed."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in ("ms", "p10 to p90", "% of peak", "ours is", "error"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    peers = sorted(found.peers, key=lambda peer: peer.seconds or float("inf"))
    own = (found.ours,) if found.direct is found.ours else (found.ours, found.direct)
    for runtime in (*own, *peers):
        table.add_row(*_runtime(runtime, found))
    shape = "x".join(map(str, found.input_shape))
    title = (
        f"{found.network} on {shape}, {in_units(found.macs)} MACs, "
        f"{_several(threads, 'thread')}, {_several(len(found.peaks), 'round')}"
    )
    low, high = (f"{peak / 1e9:.0f}" for peak in (min(found.peaks), max(found.peaks)))
    note = f"FMA peak of the cores used: {low if low == high else f'{low} to {high}'} GFLOP/s"
    return Group(Text(title, style="bold"), "", table, "", *_summary(found), note)


def _several(count: int, name: str) -> str:
    return f"{count} {name}{'s' if count > 1 else ''}"


def _runtime(runtime: RuntimeRecord, found: NetworkRecord) -> tuple[str, ...]:
    name = " ".join([runtime.name, *list(runtime.versions.values())[:1]])
    error = "" if runtime.error is None else f"{runtime.error:.0e}"
    if not runtime.rounds:
        return (name, "", "", "", "", error, runtime.failed or "")
    ratio = None if runtime is found.ours else found.ratio(runtime)
    low, high = (1e3 * runtime.percentile(percent) for percent in (10, 90))
    return (
        name, f"{1e3 * (runtime.seconds or 0):.3f}", f"{low:.3f} to {high:.3f}",
        f"{100 * (found.share_of_peak(runtime) or 0):.1f}",
        f"{ratio:.2f}x" if ratio else "", error, "",
    )  # fmt: skip


def _summary(found: NetworkRecord) -> list[str]:
    ours = found.ours
    if not ours.rounds:
        return []
    lines = [f"ours: p99 / median {ours.percentile(99) / ours.percentile(50):.2f}"]
    if best := found.best_peer:
        lines.append(f"best peer: {best.name}, {found.ratio(best):.2f}x our time")
    return lines
