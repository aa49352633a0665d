"""The charts of a report as SVG elements of its page, whose style sheet colours them.

What stands in a group of class axis is a scale; every other number has its value beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from depthwise.hardware.record import Machine
from depthwise.report.colours import COLOURS, colour_name
from depthwise.report.record import CostSummary, LayerProfile, LayerTimeRecord
from depthwise.report.roofs import Rectangle, Roof, place_names, text_box
from depthwise.report.svg import text_width, wire, words

WIDTH, HEIGHT = 440, 330  # pixels: letters of 10 stay readable on a phone 360 pixels wide
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 20, 40
LETTERS, SMALL = 10, 9
MOST_DECADES = 5  # with ticks at 2 and 5, too
MOST_TICKS = 8  # up a chart of this height
LINE = 14  # pixels, of one more line of text

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


def roofline_chart(profile: LayerProfile) -> str:
    """Return every layer with multiply-adds at its FLOPs a byte and GFLOP/s, below the roofs."""
    layers = [layer for layer in profile.layers if layer.rate > 0 and layer.of_ideal is not None]
    if not layers or profile.machine is None or profile.contradicted:  # no roof that could be drawn
        return ""
    low, high = _decades([layer.intensity for layer in layers])
    bottom, top = _decades([layer.rate for layer in layers] + [profile.peak * 1.3])
    frame = Frame(
        _logarithmic(low, high, LEFT, WIDTH - RIGHT),
        _logarithmic(bottom, top, HEIGHT - BOTTOM, TOP),
    )
    roofs, left_over = _roofs(frame, profile.machine, profile.peak, (low, high, bottom), layers)
    shapes = [
        *_axes(frame, (low, high), (bottom, top), "FLOPs for each byte", "GFLOP/s"),
        *roofs,
        *(_point(frame, layer) for layer in sorted(layers, key=lambda each: -each.share)),
    ]
    kinds = sorted({colour_name(layer.kind) for layer in layers}, key=list(COLOURS).index)
    key, lines = _foot(kinds, left_over)
    height = HEIGHT + LINE * (lines - 1)
    return _svg("Each layer below the roofs of this machine", height, [*shapes, *key])


def field_chart(costs: CostSummary, side: int) -> str:
    """Return how many pixels of the image each layer sees, from the first to the last."""
    fields = [layer.receptive_field[0] for layer in costs.layers if layer.receptive_field]
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
    power = 10 ** floor(log10(most))
    step = next(power * part for part in (0.1, 0.2, 0.5, 1, 2) if most <= MOST_TICKS * power * part)
    ticks = [i * step for i in range(1, ceil(most / step))]
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
    frame: Frame,
    machine: Machine,
    peak: float,
    edges: tuple[float, float, float],
    layers: list[LayerTimeRecord],
) -> tuple[list[str], dict[str, float]]:
    """Return the line of the arithmetic and one a level of memory, each with its number.

    The second are the names for which there is no place beside their lines, with their numbers.
    """
    low, high, bottom = edges
    title, right = f"peak {peak:.0f} GFLOP/s", WIDTH - RIGHT - 2
    above = frame.y(peak) - 5
    shapes = [
        wire((frame.x(low), frame.y(peak)), (frame.x(high), frame.y(peak)), style="roof"),
        _told(peak, words(right, above, title, LETTERS, "ink end")),
    ]  # fmt: skip
    rates: dict[Roof, float] = {}
    for reading in machine.readings:
        rate = reading.gigabytes.best
        first, last = max(low, bottom / rate), min(high, peak / rate)
        if first < last:
            ends = [(frame.x(x), frame.y(x * rate)) for x in (first, last)]
            rates[Roof(ends[0], ends[1], f"{reading.level} {rate:.0f} GB/s")] = rate
    names = place_names(
        tuple(rates), Rectangle(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        [
            text_box(right - text_width(title, LETTERS), above, title, LETTERS),
            Rectangle(LEFT, frame.y(peak) - 1, WIDTH - RIGHT, frame.y(peak) + 1),
        ],
        [_around(frame, layer) for layer in layers], SMALL,
    )  # fmt: skip
    left_over = {}
    for (roof, rate), place in zip(rates.items(), names, strict=True):
        shapes.append(wire(roof.start, roof.end, style="roof dashed"))
        if place:
            shapes.append(_told(rate, words(*place, roof.name, SMALL, "dim")))
        else:
            left_over[roof.name] = rate
    return shapes, left_over


def _around(frame: Frame, layer: LayerTimeRecord) -> Rectangle:
    """Return what a layer's mark covers."""
    x, y, r = frame.x(layer.intensity), frame.y(layer.rate), _radius(layer)
    return Rectangle(x - r, y - r, x + r, y + r)


def _radius(layer: LayerTimeRecord) -> float:
    return 3 + 22 * layer.share**0.5 / 2


def _point(frame: Frame, layer: LayerTimeRecord) -> str:
    """Return a layer's mark: its shape and colour tell the kind, its size the share of time."""
    kind = colour_name(layer.kind)
    x, y = frame.x(layer.intensity), frame.y(layer.rate)
    return f'<g class="mark k-{kind}">{_mark(kind, x, y, _radius(layer))}</g>'


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


def _foot(kinds: list[str], left_over: dict[str, float]) -> tuple[list[str], int]:
    """Return the key of the marks, then the roofs without a place for their names, in lines."""
    shapes: list[str] = []
    x, line = float(LEFT), 0
    entries = [(kind, 13, LETTERS) for kind in kinds] + [(name, 0, SMALL) for name in left_over]
    for text, room, size in entries:
        width = room + text_width(text, size)
        if x > LEFT and x + width > WIDTH:
            x, line = float(LEFT), line + 1
        y = HEIGHT - 3 + LINE * line
        label = words(x + room, y, text, size, "dim" if text in left_over else "ink")
        if text in left_over:
            shapes.append(_told(left_over[text], label))
        else:
            shapes += [f'<g class="mark k-{text}">{_mark(text, x + 5, y - 3, 4)}</g>', label]
        x += width + 10
    return shapes, line + 1


def _axes(
    frame: Frame, across: tuple[float, float], up: tuple[float, float], x_name: str, y_name: str
) -> list[str]:
    """Return a grid with their numbers, and what the axes are."""
    left, right, floor_, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    lines, scale = [], []
    for tick in _ticks(*across):
        lines.append(wire((frame.x(tick), floor_), (frame.x(tick), top), style="grid"))
        scale.append(words(frame.x(tick), floor_ + 14, f"{tick:g}", LETTERS, "dim middle"))
    for tick in _ticks(*up):
        lines.append(wire((left, frame.y(tick)), (right, frame.y(tick)), style="grid"))
        scale.append(words(left - 5, frame.y(tick) + 3, f"{tick:g}", LETTERS, "dim end"))
    names = [
        words(right, floor_ + 25, x_name, LETTERS, "dim end"),
        words(4, LETTERS - 1, y_name, LETTERS, "dim"),  # above all ticks,
    ]
    return [*lines, _axis(scale), *names]


def _ticks(low: float, high: float) -> list[float]:
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    many = len(powers) > MOST_DECADES
    ticks = [digit * 10.0**power for power in powers for digit in ((1,) if many else (1, 2, 5))]
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
