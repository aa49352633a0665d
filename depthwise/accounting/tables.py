"""Costs as tables for a person to read."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from depthwise.accounting.count import CONVENTION
from depthwise.graph import Shape
from depthwise.spelling import Screen

if TYPE_CHECKING:
    from depthwise.accounting.cost import Cost, Layer


COLUMNS = 120  # characters in a line, where nobody says how many
UNBOUNDED = 10_000


def render(table: RenderableType, width: int = COLUMNS) -> str:
    """Return what would be printed, without colours."""
    console = Screen(width=width, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def in_units(count: float, unit: str = "") -> str:
    """Return a count with three digits and k, M or G: 300.8 M, 14.0 MB."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.2f} {prefix}{unit}"
    return f"{count:.0f} {unit}".strip()


def in_shape(shape: Shape) -> str:
    """Return a shape without its batch axis: 96x112x112."""
    return "x".join(map(str, shape[1:] if len(shape) > 1 else shape))


SPARED = (("in",), ("FLOP/B",), ("read", "written"))  # columns, as a narrow screen does without


def cost_table(cost: "Cost", all_layers: bool = False, columns: int = COLUMNS) -> RenderableType:
    """Return a row a layer, then the totals, the kinds, and what was not counted."""
    shown = [x for x in cost.layers if all_layers or x.macs != 0 or _slow(x, cost)]
    titles = ["in", "out", "params", "MACs", "%", "read", "written", "FLOP/B", "sees"]
    if cost.milliseconds is not None:
        titles.append("ms")
    table = _layers_table(cost, shown, titles)
    for spared in SPARED:
        if Screen(width=UNBOUNDED).measure(table).maximum <= columns:
            break
        titles = [title for title in titles if title not in spared]
        table = _layers_table(cost, shown, titles)
    shapes = ", ".join("x".join(map(str, shape)) for shape in cost.input_shapes)
    title = Text(f"{cost.network or 'network'} on {shapes}: {CONVENTION} MACs", style="bold")
    notes = _notes(cost, [x for x in cost.layers if x not in shown], "read" in titles)
    return Group(title, "", table, "", *notes)


def _layers_table(cost: "Cost", shown: list["Layer"], titles: list[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("layer", no_wrap=True, overflow="ellipsis", max_width=44)
    table.add_column("kind", no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for layer in shown:
        row = _row(layer, cost)
        table.add_row(layer.path or layer.name, layer.kind, *(row[title] for title in titles))
    total = _total(cost)
    table.add_section()
    table.add_row("total", "", *(total.get(title, "") for title in titles), style="bold")
    return table


def _slow(layer: "Layer", cost: "Cost") -> bool:
    """Tell whether a layer is predicted to take a hundredth of the time, or more."""
    return bool(cost.milliseconds) and (layer.milliseconds or 0) >= cost.milliseconds / 100


def _total(cost: "Cost") -> dict[str, str]:
    return {
        "ms": _milliseconds(cost.milliseconds),
        "params": f"{cost.params:,}",
        "MACs": f"{cost.macs:,}",
        "%": "100",
        "read": in_units(cost.bytes_read, "B"),
        "written": in_units(cost.bytes_written, "B"),
        "FLOP/B": f"{cost.intensity:.1f}",
        "sees": _field(cost.receptive_field),
    }


def _row(layer: "Layer", cost: "Cost") -> dict[str, str]:
    share = 100 * (layer.macs or 0) / cost.macs if cost.macs else 0.0
    counted = layer.macs is not None
    return {
        "in": in_shape(layer.input_shape),
        "out": in_shape(layer.output_shape),
        "params": f"{layer.params:,}" if layer.params else "",
        "MACs": f"{layer.macs:,}" if layer.macs else "" if counted else "not counted",
        "%": f"{share:.2f}" if layer.macs else "",
        "read": in_units(layer.bytes_read, "B"),
        "written": in_units(layer.bytes_written, "B"),
        "FLOP/B": f"{layer.intensity:.1f}" if layer.macs else "",
        "sees": _field(layer.receptive_field) if layer.receptive_field else "all",
        "ms": _milliseconds(layer.milliseconds),
    }


def _milliseconds(time: float | None) -> str:
    return f"{time:.4f}" if time else ""


def _field(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _notes(cost: "Cost", hidden: list["Layer"], bytes_shown: bool) -> list[RenderableType]:
    kinds = ", ".join(
        f"{kind} {100 * macs / cost.macs:.2f} %"
        for kind, (_, _, macs) in cost.by_kind().items()
        if macs
    )
    notes = [
        f"{in_units(cost.params)} parameters, {in_units(cost.weight_bytes, 'B')}; "
        f"{in_units(cost.macs)} MACs, {in_units(cost.flops)} FLOPs",
        f"MACs by kind: {kinds or 'none'}",
        f"activations: at most {in_units(cost.peak_bytes, 'B')} at once, in {cost.peak_layer}, "
        "layer by layer with element-by-element operators in place",
        "sees: receptive field in input pixels",
    ]
    if bytes_shown:
        notes.append("read, written: bytes of each operator run on its own, weights included")
    if cost.milliseconds is not None:
        notes.append("ms: predicted for one thread; what is fused into a layer is in its time")
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


def compare_table(first: "Cost", second: "Cost") -> RenderableType:
    """Return two costs side by side, with the ratio of the first to the second."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in (_title(first), _title(second), "ratio"):
        table.add_column(name, justify="right")
    rows = (
        ("parameters", "params", ""), ("MACs", "macs", ""), ("weights", "weight_bytes", "B"),
        ("bytes read", "bytes_read", "B"), ("bytes written", "bytes_written", "B"),
        ("peak activations", "peak_bytes", "B"), ("FLOP for each byte", "intensity", None),
    )  # fmt: skip
    for label, field, unit in rows:
        a, b = getattr(first, field), getattr(second, field)
        table.add_row(label, *(_quantity(x, unit) for x in (a, b)), _ratio(a, b))
    table.add_row("receptive field", *(_field(c.receptive_field) for c in (first, second)), "")
    kinds = first.by_kind() | second.by_kind()
    for kind in kinds:
        a, b = (c.by_kind().get(kind, (0, 0, 0))[2] for c in (first, second))
        if a or b:
            table.add_row(f"MACs, {kind}", f"{a:,}", f"{b:,}", _ratio(a, b))
    missing = [n for c in (first, second) for n in _notes(c, [], False) if "NOT COUNTED" in str(n)]
    return Group(Text(f"{CONVENTION} MACs", style="bold"), "", table, *missing)


def _title(cost: "Cost") -> str:
    return f"{cost.network} {', '.join('x'.join(map(str, s)) for s in cost.input_shapes)}"


def _quantity(value: float, unit: str | None) -> str:
    if unit is None:
        return f"{value:.2f}"
    return f"{value:,}" + (f" ({in_units(value, unit)})" if value >= 1e6 or unit else "")


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.2f}x" if b else ""
