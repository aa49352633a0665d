"""Measurements as tables for a person to read."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from depthwise.accounting.tables import in_shape
from depthwise.bench.layers import LayerTime, Profile


def layers_table(network: str, profile: Profile, peak: float) -> RenderableType:
    """Return a row a kernel call, then the whole; `peak` is one core's, in FLOP/s."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("layer", "kernel", "out", "how"):
        table.add_column(title, no_wrap=True, overflow="ellipsis", max_width=44)
    for title in ("us", "%", "GFLOP/s", "% of peak"):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in profile.layers:
        table.add_row(*_row(layer, profile, peak))
    table.add_section()
    table.add_row(
        "total", "", "", "", f"{profile.seconds * 1e6:.1f}", "100", f"{profile.flops / 1e9:.1f}",
        f"{100 * profile.flops / peak:.1f}", style="bold",
    )  # fmt: skip
    title = Text(f"{network}, median of {profile.runs} runs on one thread", style="bold")
    return Group(title, "", table, "", f"one core's FMA peak: {peak / 1e9:.1f} GFLOP/s")


def _row(layer: LayerTime, profile: Profile, peak: float) -> tuple[str, ...]:
    rate = (f"{layer.flops / 1e9:.1f}", f"{100 * layer.flops / peak:.1f}") if layer.macs else ()
    return (
        layer.path or layer.name, layer.kernel.removeprefix("f32_"), in_shape(layer.shape),
        layer.comment, f"{layer.seconds * 1e6:.1f}", f"{100 * layer.seconds / profile.seconds:.2f}",
        *rate,
    )  # fmt: skip
