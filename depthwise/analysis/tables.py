"""Costs as tables for a person to read."""

from rich.console import Group, RenderableType
from rich.text import Text

from depthwise.analysis.cost import Cost, Layer
from depthwise.analysis.count import CONVENTION
from depthwise.analysis.fitted import Column, FittedTable
from depthwise.analysis.units import TimeUnit, in_percent, in_ratio, in_units, time_unit
from depthwise.console import Screen
from depthwise.graph import Shape

COLUMNS = 120  # characters in a line, where the width is not known


def render(table: RenderableType, width: int = COLUMNS) -> str:
    """Return what would be printed, without colours."""
    console = Screen(width=width, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def in_shape(shape: Shape) -> str:
    """Return a shape without its batch axis: 96x112x112."""
    return "x".join(map(str, shape[1:] if len(shape) > 1 else shape))


BYTES = "read, written: bytes of each operator run on its own, weights included"
COST_COLUMNS = (
    Column("layer", kind="name", most=44, least=24),
    Column("kind", 5, "word"),
    Column("in", 9),
    Column("out", 4),
    Column("params", 3),
    Column("MACs"),
    Column("%", 2),
    Column("read", 7, note=BYTES),
    Column("written", 7, note=BYTES),
    Column("FLOP/B", 8),
    Column("sees", 6, note="sees: receptive field in input pixels"),
)


def cost_table(cost: Cost, all_layers: bool = False) -> RenderableType:
    """Return a row a layer, then the totals, the kinds, and what was not counted."""
    shown = [x for x in cost.layers if all_layers or x.macs != 0 or _slow(x, cost)]
    shapes = ", ".join("x".join(map(str, shape)) for shape in cost.input_shapes)
    title = Text(f"{cost.network or 'network'} on {shapes}: {CONVENTION} MACs", style="bold")
    notes = _notes(cost, [x for x in cost.layers if x not in shown])
    return Group(title, "", _layers_table(cost, shown), "", *notes)


def _layers_table(cost: Cost, shown: list[Layer]) -> FittedTable:
    columns, unit = COST_COLUMNS, None
    if cost.milliseconds is not None:
        unit = time_unit(1e-3 * (layer.milliseconds or 0) for layer in shown)
        note = f"{unit.name}: predicted for one thread; what is fused into a layer is in its time"
        columns = (*columns, Column(unit.name, 1, note=note))
    titles = [column.title for column in columns]
    rows = [[row[title] for title in titles] for row in (_row(x, cost, unit) for x in shown)]
    total = _total(cost, unit)
    return FittedTable(columns, rows, [total.get(title, "") for title in titles])


def _slow(layer: Layer, cost: Cost) -> bool:
    """Tell whether a layer is predicted to take a hundredth of the time, or more."""
    return bool(cost.milliseconds) and (layer.milliseconds or 0) >= cost.milliseconds / 100


def _total(cost: Cost, unit: TimeUnit | None) -> dict[str, str]:
    return {
        "layer": "total",
        **_time(cost.milliseconds, unit),
        "params": f"{cost.params:,}",
        "MACs": f"{cost.macs:,}",
        "%": "100",
        "read": in_units(cost.bytes_read, "B"),
        "written": in_units(cost.bytes_written, "B"),
        "FLOP/B": f"{cost.intensity:.1f}",
        "sees": _field(cost.receptive_field),
    }


def _row(layer: Layer, cost: Cost, unit: TimeUnit | None) -> dict[str, str]:
    share = (layer.macs or 0) / cost.macs if cost.macs else 0.0
    counted = layer.macs is not None
    return {
        "layer": layer.path or layer.name,
        "kind": layer.kind,
        "in": in_shape(layer.input_shape),
        "out": in_shape(layer.output_shape),
        "params": f"{layer.params:,}" if layer.params else "",
        "MACs": f"{layer.macs:,}" if layer.macs else "" if counted else "not counted",
        "%": in_percent(share) if layer.macs else "",
        "read": in_units(layer.bytes_read, "B"),
        "written": in_units(layer.bytes_written, "B"),
        "FLOP/B": f"{layer.intensity:.1f}" if layer.macs else "",
        "sees": _field(layer.receptive_field) if layer.receptive_field else "all",
        **_time(layer.milliseconds, unit),
    }


def _time(milliseconds: float | None, unit: TimeUnit | None) -> dict[str, str]:
    if unit is None:
        return {}
    return {unit.name: unit.show(1e-3 * milliseconds) if milliseconds else ""}


def _field(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _notes(cost: Cost, hidden: list[Layer]) -> list[RenderableType]:
    kinds = ", ".join(
        f"{kind} {in_percent(macs / cost.macs)} %"
        for kind, (_, _, macs) in cost.by_kind().items()
        if macs
    )
    notes = [
        f"{in_units(cost.params)} parameters, {in_units(cost.weight_bytes, 'B')}; "
        f"{in_units(cost.macs)} MACs, {in_units(cost.flops)} FLOPs",
        f"MACs by kind: {kinds or 'none'}",
        f"activations: at most {in_units(cost.peak_bytes, 'B')} at once, in {cost.peak_layer}, "
        "layer by layer with element-by-element operators in place",
    ]
    if error := cost.milliseconds_error:
        notes.append(
            f"how close predictions come here: {error.networks} networks, each from the times of "
            f"the others, were {100 * error.mean:.1f} % off on average, {100 * error.worst:.1f} % "
            "at worst"
        )
    if hidden:
        params = sum(layer.params for layer in hidden)
        notes.append(
            f"not shown: {len(hidden)} operators without MACs, with {params:,} parameters "
            "(--all shows them)"
        )
    if cost.unused_params:
        notes.append(f"{cost.unused_params:,} of the parameters are not read in evaluation")
    if cost.not_counted:
        names = ", ".join(
            sorted({f"{x.operator} in {x.path or 'the top'}" for x in cost.not_counted})
        )
        notes.append(f"NOT COUNTED, so the total is too low: {names}")
    return [Text(note) for note in notes]


COMPARE_COLUMNS = (
    Column("", kind="name", least=12),
    Column("first"),
    Column("second"),
    Column("ratio", 1),
    Column("first exactly", 2),
    Column("second exactly", 2),
)


def compare_table(first: Cost, second: Cost) -> RenderableType:
    """Return two costs side by side, with the ratio of the first to the second."""
    quantities = (
        ("parameters", "params", ""), ("MACs", "macs", ""), ("weights", "weight_bytes", "B"),
        ("bytes read", "bytes_read", "B"), ("bytes written", "bytes_written", "B"),
        ("peak activations", "peak_bytes", "B"),
    )  # fmt: skip
    rows = [
        _compare(label, getattr(first, field), getattr(second, field), unit)
        for label, field, unit in quantities
    ]
    a, b = first.intensity, second.intensity
    rows.append(("FLOP/byte", f"{a:.2f}", f"{b:.2f}", _ratio(a, b), "", ""))
    fields = (_field(cost.receptive_field) for cost in (first, second))
    rows.append(("receptive field", *fields, "", "", ""))
    for kind in first.by_kind() | second.by_kind():
        a, b = (cost.by_kind().get(kind, (0, 0, 0))[2] for cost in (first, second))
        if a or b:
            rows.append(_compare(f"MACs, {kind}", a, b, ""))
    heads = [Text(f"{word}: {_title(c)}") for word, c in (("first", first), ("second", second))]
    missing = [n for c in (first, second) for n in _notes(c, []) if "NOT COUNTED" in str(n)]
    title = Text(f"{CONVENTION} MACs", style="bold")
    return Group(title, *heads, "", FittedTable(COMPARE_COLUMNS, rows), *missing)


def _title(cost: Cost) -> str:
    shapes = ", ".join("x".join(map(str, shape)) for shape in cost.input_shapes)
    return f"{cost.network} on {shapes}"


def _compare(label: str, a: int, b: int, unit: str) -> tuple[str, ...]:
    return (label, in_units(a, unit), in_units(b, unit), _ratio(a, b), f"{a:,}", f"{b:,}")


def _ratio(a: float, b: float) -> str:
    return in_ratio(a / b) if b else ""
