"""Measurements as tables for a person to read."""

from rich.console import Group, RenderableType
from rich.text import Text

from depthwise.analysis.fitted import Column, FittedTable
from depthwise.analysis.tables import in_shape
from depthwise.analysis.units import TimeUnit, in_percent, in_units, time_unit
from depthwise.bench.layers import LayerTime, Profile
from depthwise.bench.record import AGREEING, NetworkResult, RuntimeRecord
from depthwise.escaping import counted
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware import Machine
from depthwise.hardware.arithmetic import TITLES
from depthwise.hardware.record import share_of

NONE = "–"  # where there is no share, for more was reached than there should be

MICROSECONDS = TimeUnit("us", 1e6)
PRECISION_COLUMN = Column("computes in", kind="word")
AGREEMENT_COLUMN = Column("same class", 0)
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


def layers_table(network: str, profile: Profile, machine: Machine | None) -> RenderableType:
    """Return a row a layer and kernel, then the whole.

    With a calibrated `machine` a row says how near its roofline it is, and what that is made of. No
    share is above 100 %: what was faster than the roof proves the roof wrong, and has none.
    """
    columns = (*LAYER_COLUMNS, *(ROOF_COLUMNS if machine else ()))
    rows = []
    for layer in profile.layers:
        roof = _roof(layer, machine, profile) if machine and layer.bytes else ("", "")
        rows.append((*_layer(layer, profile), *roof)[: len(columns)])
    whole = (
        "total", "", "", "", MICROSECONDS.show(profile.seconds), "100",
        f"{profile.flops / 1e9:.1f}",
        _percent(share_of(profile.least_arithmetic, profile.seconds)), "", "",
    )  # fmt: skip
    title = Text(f"{network}, {profile.runs} runs on one thread", style="bold")
    notes = [f"one core's FMA peak: {profile.peak / 1e9:.1f} GFLOP/s; multiply-adds are those done"]
    if profile.narrow:
        peaks = ", ".join(
            f"{TITLES[name]} {peak / 1e9:.1f}" for name, peak in profile.narrow.items()
        )
        notes.append(f"shares are those of what a layer multiplies with: {peaks} GOP/s")
    notes.append(machine.age if machine else CALIBRATE)
    if machine and profile.contradicts(machine):
        notes.append(CONTRADICTED)
    spoilt = profile.disturbed or (machine.disturbed if machine else "")
    head = [Text(f"NOT A MEASUREMENT: {spoilt}", style="bold red")] if spoilt else []
    table = FittedTable(columns, rows, whole[: len(columns)])
    return Group(title, *head, "", table, "", *map(Text, notes))


CALIBRATE = "`depthwise calibrate` once, and this table has rooflines"
CONTRADICTED = (
    f"{NONE}: the peak measured was lower than what this layer reached: the machine changed speed "
    "meanwhile"
)


def _percent(share: float | None, digits: int = 1) -> str:
    return NONE if share is None else f"{100 * share:.{digits}f}"


def _roof(layer: LayerTime, machine: Machine, profile: Profile) -> tuple[str, str]:
    least = profile.least(layer, machine)
    return _percent(share_of(least.seconds, layer.seconds), 0), least.reason


def _layer(layer: LayerTime, profile: Profile) -> tuple[str, ...]:
    rates = (
        f"{layer.flops / 1e9:.1f}",
        _percent(share_of(layer.flops, profile.peak_of(layer.arithmetic))),
    )
    return (
        layer.path or layer.name, layer.kernel.removeprefix("f32_"), in_shape(layer.shape),
        layer.comment, MICROSECONDS.show(layer.seconds),
        in_percent(layer.seconds / profile.seconds), *(rates if layer.macs else ("", "")),
    )  # fmt: skip


def network_table(
    found: NetworkResult, threads: int, machine: Machine | None = None
) -> RenderableType:
    """Return a row a runtime, ours first, then the others from the fastest to those that failed.

    Ours by other C compilers come after ours. `machine` is how this one was calibrated.
    """
    peers = sorted(found.peers, key=_seconds)
    direct = (found.direct,) if found.direct not in found.own else ()
    runtimes = (*sorted(found.own, key=_seconds), *direct, *found.compiled, *peers)
    unit = time_unit(runtime.seconds or 0 for runtime in runtimes)
    batch = found.input_shape[0]
    more = (Column("images/s", 0),) if batch > 1 else ()
    columns = (Column("", kind="name"), Column(unit.name), *more, *RUNTIME_COLUMNS)
    rows = [_runtime(runtime, found, unit) for runtime in runtimes if runtime.rounds]
    if found.images:
        columns = (*columns[:1], PRECISION_COLUMN, *columns[1:], AGREEMENT_COLUMN)
        ran = [runtime for runtime in runtimes if runtime.rounds]
        rows = [
            (row[0], runtime.precision, *row[1:], _agreement(runtime))
            for row, runtime in zip(rows, ran, strict=True)
        ]
    shape = "x".join(map(str, found.input_shape))
    title = (
        f"{found.network} on {shape}, {in_units(found.macs)} MACs, "
        f"{counted(threads, 'thread')}, {counted(len(found.peaks), 'round')}"
    )
    low, high = (f"{peak / 1e9:.0f}" for peak in (min(found.peaks), max(found.peaks)))
    notes = [
        *(f"{_title(each)} cannot run it: {each.failed}" for each in runtimes if not each.rounds),
        *(f"{_title(each)}: {each.how}" for each in runtimes if each.rounds and each.how),
        *_judged_on(found),
        *_summary(found),
        f"FMA peak of the cores used: {low if low == high else f'{low} to {high}'} GFLOP/s"
        + (f"; {machine.age} at {threads * machine.gflops:.0f}" if machine else ""),
    ]
    held = sorted({each.held for each in runtimes if each.held})
    notes += [f"peers were held to less than this CPU has: {how}" for how in held]
    notes += [OVER] if any(map(found.is_over, found.runtimes)) else []
    head = [Text(f"NOT A MEASUREMENT: {found.disturbed}", style="bold red")] * bool(found.disturbed)
    table = FittedTable(columns, rows)
    return Group(Text(title, style="bold"), *head, "", table, "", *map(Text, notes))


OVER = (
    f"{NONE}: faster than the multiply-adds counted allow at this peak: it does fewer (Winograd), "
    "or the machine changed speed meanwhile"
)


def _seconds(runtime: RuntimeRecord) -> float:
    return runtime.seconds or float("inf")


def _agreement(runtime: RuntimeRecord) -> str:
    return "" if runtime.agreement is None else f"{runtime.agreement:.1%}"


def _title(runtime: RuntimeRecord) -> str:
    """Return its name with its precision where that is not float32, for sentences."""
    return _name(runtime) + ("" if runtime.precision == FLOAT32.name else f", {runtime.precision}")


def _name(runtime: RuntimeRecord) -> str:
    name = " ".join([runtime.name, *list(runtime.versions.values())[:1]])
    return ", ".join(filter(None, (name, runtime.way, "held" if runtime.held else "")))


def _runtime(runtime: RuntimeRecord, found: NetworkResult, unit: TimeUnit) -> tuple[str, ...]:
    ratio = None if runtime is found.ours else found.ratio(runtime)
    low, high = (unit.show(runtime.percentile(percent)) for percent in (10, 90))
    seconds, batch = runtime.seconds or 0, found.input_shape[0]
    rate = (f"{batch / seconds:.0f}",) if batch > 1 and seconds else ()
    return (
        _name(runtime), unit.show(seconds), *rate, f"{low} to {high}",
        _percent(found.share_of_peak(runtime)), f"{ratio:.2f}x" if ratio else "",
        "" if runtime.error is None else f"{runtime.error:.0e}",
    )  # fmt: skip


def _summary(found: NetworkResult) -> list[str]:
    ours = found.ours
    if not ours.rounds or found.disturbed:
        return []
    which = f" in {ours.precision}" if len(found.own) > 1 else ""
    lines = [f"ours{which}: p99 / median {ours.percentile(99) / ours.percentile(50):.2f}"]
    if best := found.best_peer:
        lines.append(f"best peer: {best.title}, {found.ratio(best):.2f}x our time{which}")
    return lines


def _judged_on(found: NetworkResult) -> list[str]:
    """Return what classes are compared on, which no other program disturbs."""
    if not found.images:
        return []
    return [
        f"same class: as PyTorch in float32, on {found.images}",
        f"ours and the best peer are the fastest of those that give it for {AGREEING:.0%} of them",
    ]
