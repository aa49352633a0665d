"""The charts of a report as SVG elements of its page, whose style sheet colours them.

What stands in a group of class axis is a scale; every other number has its value beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from depthwise.machine.record import Machine
from depthwise.report.colours import COLOURS, colour_name
from depthwise.report.record import Counted, LayerTimeRecord, Profiled
from depthwise.report.svg import text_width, wire, words

WIDTH, HEIGHT = 440, 330  # pixels: letters of 10 stay readable on a phone 360 pixels wide
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 40
LETTERS = 10

MARKERS = {
    "pointwise": "circle",
    "depthwise": "triangle",
    "standard": "square",
    "linear": "diamond",
}

Map = Callable[[float], float]


@dataclass(frozen=True)
class Frame:
    """Where numbers lie in a chart: x and y to pixels."""

    x: Map
    y: Map


def roofline_chart(found: Profiled) -> str:
    """Return every layer with multiply-adds at its FLOPs a byte and GFLOP/s, below the roofs."""
    layers = [layer for layer in found.layers if layer.rate > 0 and layer.of_ideal is not None]
    if not layers or found.machine is None or found.contradicted:  # no roof that could be drawn
        return ""
    low, high = _decades([layer.intensity for layer in layers])
    bottom, top = _decades([layer.rate for layer in layers] + [found.peak * 1.3])
    frame = Frame(
        _logarithmic(low, high, LEFT, WIDTH - RIGHT),
        _logarithmic(bottom, top, HEIGHT - BOTTOM, TOP),
    )
    shapes = [
        *_axes(frame, (low, high), (bottom, top), "FLOPs for each byte", "GFLOP/s"),
        *_roofs(frame, found.machine, found.peak, (low, high, bottom)),
        *(_point(frame, layer) for layer in sorted(layers, key=lambda each: -each.share)),
        *_key(sorted({colour_name(layer.kind) for layer in layers}, key=list(COLOURS).index)),
    ]
    return _svg("Each layer below the roofs of this machine", HEIGHT, shapes)


def field_chart(counted: Counted, side: int) -> str:
    """Return how many pixels of the image each layer sees, from the first to the last."""
    fields = [layer.receptive_field[0] for layer in counted.layers if layer.receptive_field]
    if len(fields) < 2:
        return ""
    height, most = 220, max(*fields, side)
    frame = Frame(
        _linear(0, len(fields) - 1, LEFT, WIDTH - RIGHT), _linear(0, most, height - BOTTOM, TOP)
    )
    points = [(frame.x(i), frame.y(field)) for i, field in enumerate(fields)]
    corners = [points[0]]
    for before, after in pairwise(points):
        corners += [(after[0], before[1]), after]
    step = 10 ** floor(log10(most))
    ticks = [i * step / 2 for i in range(1, ceil(2 * most / step))]
    grid = [wire((LEFT, frame.y(t)), (WIDTH - RIGHT, frame.y(t)), style="grid") for t in ticks]
    scale = [words(LEFT - 6, frame.y(t) + 3, f"{t:g}", LETTERS, "dim end") for t in ticks]
    image = frame.y(side)
    below = 12 if image < TOP + 2 * LETTERS else -5  # above is the title of the axis
    shapes = [
        *grid, _axis(scale),
        wire((LEFT, height - BOTTOM), (WIDTH - RIGHT, height - BOTTOM), style="line"),
        wire((LEFT, image), (WIDTH - RIGHT, image), style="line dashed"),
        words(LEFT + 6, image + below, "the whole image", LETTERS, "dim"),
        wire(*corners, style="curve"),
        words((LEFT + WIDTH) / 2, height - 12, "layers, from the image to the answer", LETTERS,
              "dim middle"),
        words(LEFT, TOP - 4, "pixels seen", LETTERS, "dim"),
    ]  # fmt: skip
    return _svg("Receptive field by layer", height, shapes)


def _roofs(
    frame: Frame, machine: Machine, peak: float, edges: tuple[float, float, float]
) -> list[str]:
    """Return the line of the arithmetic and one a level of memory, each with its number."""
    low, high, bottom = edges
    shapes = [
        wire((frame.x(low), frame.y(peak)), (frame.x(high), frame.y(peak)), style="roof"),
        _told(peak, words(WIDTH - RIGHT - 2, frame.y(peak) - 5, f"peak {peak:.0f} GFLOP/s", LETTERS,
                          "ink end")),
    ]  # fmt: skip
    for reading in machine.readings:
        rate = reading.gigabytes.best
        first, last = max(low, bottom / rate), min(high, peak / rate)
        if first >= last:
            continue
        start, end = (frame.x(first), frame.y(first * rate)), (frame.x(last), frame.y(last * rate))
        shapes.append(wire(start, end, style="roof dashed"))
        at = first * (last / first) ** 0.12
        label = f"{reading.level} {rate:.0f} GB/s"
        place = words(frame.x(at) + 7, frame.y(at * rate) + 6, label, 9, "dim")
        shapes.append(_told(rate, place))
    return shapes


def _point(frame: Frame, layer: LayerTimeRecord) -> str:
    """Return a layer's mark: its shape and colour tell the kind, its size the share of time."""
    kind = colour_name(layer.kind)
    x, y = frame.x(layer.intensity), frame.y(layer.rate)
    return f'<g class="mark k-{kind}">{_mark(kind, x, y, 3 + 22 * layer.share**0.5 / 2)}</g>'


def _mark(kind: str, x: float, y: float, r: float) -> str:
    match MARKERS.get(kind, "pentagon"):
        case "circle":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>'
        case "square":
            return (
                f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r:.1f}" height="{2 * r:.1f}"/>'
            )
        case "triangle":
            corners = [(x, y - r), (x + r, y + r), (x - r, y + r)]
        case "diamond":
            corners = [(x, y - r), (x + r, y), (x, y + r), (x - r, y)]
        case _:
            corners = [(x - r, y), (x, y - r), (x + r, y), (x + r / 2, y + r), (x - r / 2, y + r)]
    return f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in corners)}"/>'


def _key(kinds: list[str]) -> list[str]:
    shapes, x = [], float(LEFT)
    for kind in kinds:
        shapes.append(f'<g class="mark k-{kind}">{_mark(kind, x + 5, HEIGHT - 6, 4)}</g>')
        shapes.append(words(x + 13, HEIGHT - 3, kind, LETTERS, "ink"))
        x += 13 + text_width(kind, LETTERS) + 10
    return shapes


def _axes(
    frame: Frame, across: tuple[float, float], up: tuple[float, float], x_name: str, y_name: str
) -> list[str]:
    """Return a grid with their numbers, and what the axes are."""
    left, right, floor_, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    lines, scale = [], []
    for tick in _ticks(*across):
        lines.append(wire((frame.x(tick), floor_), (frame.x(tick), top), style="grid"))
        scale.append(words(frame.x(tick), floor_ + 12, f"{tick:g}", LETTERS, "dim middle"))
    for tick in _ticks(*up):
        lines.append(wire((left, frame.y(tick)), (right, frame.y(tick)), style="grid"))
        scale.append(words(left - 5, frame.y(tick) + 3, f"{tick:g}", LETTERS, "dim end"))
    names = [
        words(right, floor_ + 23, x_name, LETTERS, "dim end"),
        words(4, top - 4, y_name, LETTERS, "dim"),
    ]
    return [*lines, _axis(scale), *names]


def _ticks(low: float, high: float) -> list[float]:
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def _decades(values: list[float]) -> tuple[float, float]:
    """Return a range around the values, with room for their marks."""
    return min(values) / 2, max(values) * 1.6


def _logarithmic(low: float, high: float, start: float, end: float) -> Map:
    return lambda value: start + (log10(value / low) / log10(high / low)) * (end - start)


def _linear(low: float, high: float, start: float, end: float) -> Map:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _axis(scale: list[str]) -> str:
    return f'<g class="axis">{"".join(scale)}</g>'


def _told(value: float, text: str) -> str:
    return f'<g data-value="{value!r}">{text}</g>'


def _svg(title: str, height: float, shapes: list[str]) -> str:
    body = "\n".join(shapes)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">\n{body}\n</svg>'
