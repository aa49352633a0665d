"""Measurements as tables for a person to read."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from depthwise.accounting.tables import in_shape, in_units
from depthwise.bench.layers import LayerTime, Profile
from depthwise.bench.record import NetworkRecord, RuntimeRecord
from depthwise.machine import Machine
from depthwise.machine.record import share_of

NONE = "–"  # where there is no share, for more was reached than there should be


def layers_table(network: str, profile: Profile, machine: Machine | None) -> RenderableType:
    """Return a row a layer and kernel, then the whole.

    With a calibrated `machine` a row says how near its roofline it is, and what that is made of. No
    share is above 100 %: what was faster than the roof proves the roof wrong, and has none.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, width in (("layer", 36), ("kernel", 14), ("out", 12), ("how", 24)):
        table.add_column(title, no_wrap=True, overflow="ellipsis", max_width=width)
    for title in ("us", "%", "GFLOP/s", "% peak"):
        table.add_column(title, justify="right", no_wrap=True)
    if machine:
        table.add_column("% roof", justify="right", no_wrap=True)
        table.add_column("bound by", no_wrap=True)
    for layer in profile.layers:
        roof = _roof(layer, machine, profile.peak) if machine and layer.bytes else ()
        table.add_row(*_layer(layer, profile), *roof)
    table.add_section()
    table.add_row(
        "total", "", "", "", f"{profile.seconds * 1e6:.1f}", "100", f"{profile.flops / 1e9:.1f}",
        _percent(share_of(profile.flops, profile.peak)), style="bold",
    )  # fmt: skip
    title = Text(f"{network}, {profile.runs} runs on one thread", style="bold")
    notes = [f"one core's FMA peak: {profile.peak / 1e9:.1f} GFLOP/s; multiply-adds are those done"]
    notes.append(machine.age if machine else CALIBRATE)
    if machine and profile.contradicts(machine):
        notes.append(CONTRADICTED)
    spoilt = profile.disturbed or (machine.disturbed if machine else "")
    head = [Text(f"NOT A MEASUREMENT: {spoilt}", style="bold red")] if spoilt else []
    return Group(title, *head, "", table, "", *notes)


CALIBRATE = "`depthwise calibrate` once, and this table has rooflines"
CONTRADICTED = (
    f"{NONE}: the peak measured was lower than what this layer reached: the machine changed speed "
    "meanwhile"
)


def _percent(share: float | None, digits: int = 1) -> str:
    return NONE if share is None else f"{100 * share:.{digits}f}"


def _roof(layer: LayerTime, machine: Machine, peak: float) -> tuple[str, str]:
    least = layer.least(machine, peak)
    return _percent(share_of(least.seconds, layer.seconds), 0), least.reason


def _layer(layer: LayerTime, profile: Profile) -> tuple[str, ...]:
    rates = (f"{layer.flops / 1e9:.1f}", _percent(share_of(layer.flops, profile.peak)))
    return (
        layer.path or layer.name, layer.kernel.removeprefix("f32_"), in_shape(layer.shape),
        layer.comment, f"{layer.seconds * 1e6:.1f}",
        f"{100 * layer.seconds / profile.seconds:.2f}", *(rates if layer.macs else ("", "")),
    )  # fmt: skip


def network_table(
    found: NetworkRecord, threads: int, machine: Machine | None = None
) -> RenderableType:
    """Return a row a runtime, ours first, then the others from the fastest to those that failed.

    `machine` is how this one was calibrated.
    """
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
    head = [Text(f"NOT A MEASUREMENT: {found.disturbed}", style="bold red")] * bool(found.disturbed)
    note += f"; {machine.age} at {threads * machine.gflops:.0f}" if machine else ""
    over = [OVER] if any(map(found.is_over, found.runtimes)) else []
    return Group(Text(title, style="bold"), *head, "", table, "", *_summary(found), note, *over)


OVER = (
    f"{NONE}: faster than the multiply-adds counted allow at this peak: it does fewer (Winograd), "
    "or the machine changed speed meanwhile"
)


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
        _percent(found.share_of_peak(runtime)),
        f"{ratio:.2f}x" if ratio else "", error, "",
    )  # fmt: skip


def _summary(found: NetworkRecord) -> list[str]:
    ours = found.ours
    if not ours.rounds or found.disturbed:
        return []
    lines = [f"ours: p99 / median {ours.percentile(99) / ours.percentile(50):.2f}"]
    if best := found.best_peer:
        lines.append(f"best peer: {best.name}, {found.ratio(best):.2f}x our time")
    return lines
