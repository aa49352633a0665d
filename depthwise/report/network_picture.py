"""A network as a picture: a card a block, from the image to the answer."""

import re
from dataclasses import dataclass
from itertools import pairwise

from depthwise.analysis.cost import Cost, cost_of_graph
from depthwise.analysis.tables import in_shape
from depthwise.analysis.units import in_units
from depthwise.graph import Graph
from depthwise.report.branches import find_chain, steps_of
from depthwise.report.cards import Card, find_cards
from depthwise.report.colours import COLOURS, colour_name
from depthwise.report.labels import channels_of, pixels_of
from depthwise.report.layout import Box, Lane, Scale, place_chain
from depthwise.report.steps import find_steps
from depthwise.report.svg import document, rectangle, shorten, text_width, wire, words

WIDTH = 440  # pixels: letters of 11 stay readable on a phone 360 pixels wide
MARGIN, INSIDE = 12, 12
HEAD = 46  # pixels of a card's heading
BETWEEN = 26  # pixels from a card to the next, where the shape stands
EDGE = 2  # pixels above a card that its edge may take
BEHIND = 4  # pixels by which the cards behind a card show


@dataclass(frozen=True)
class Picture:
    """An SVG file's text, and the boxes in it that nothing else covers."""

    svg: str
    boxes: tuple[Box, ...]


def network_picture(graph: Graph, network: str) -> str:
    """Return a graph as SVG text: blocks with shapes, multiply-adds and parameters.

    Neighbouring blocks that are alike are one card. Raises ValueError where there is nothing to
    draw.
    """
    return draw_network(graph, network).svg


def draw_network(graph: Graph, network: str) -> Picture:
    """Return the picture with its boxes. Raises ValueError where there is nothing to draw."""
    cost = cost_of_graph(graph, network)
    steps = find_steps(graph, cost.layers)
    if not steps:
        raise ValueError(f"{network or 'the network'} has no layers to draw")
    channels = [channels_of(step) for step in steps]
    scale = Scale(min(channels), max(channels), max(map(pixels_of, steps)))
    shapes, bottom = _draw_head(cost, sorted({colour_name(step.kind) for step in steps}))
    boxes: list[Box] = []
    for card in find_cards(graph, find_chain(graph, steps)):
        drawn, bottom = _draw_card(graph, scale, card, cost, bottom)
        shapes += drawn.shapes
        boxes += drawn.boxes
    title = f"{cost.network}: its blocks, multiply-adds and parameters"
    return Picture(document(WIDTH, bottom + MARGIN, title, shapes), tuple(boxes))


CARD = re.compile(rf'<rect x="{MARGIN:g}" y="([0-9.]+)" [^>]*class="card"/>')
SIZE = re.compile(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"')


def cut_into_cards(svg: str) -> list[str]:
    """Return the view boxes of a picture's cards, one below the other, that cover all of it.

    For paper, which would cut it anywhere: the head is with the first card, an arrow with the card
    that it leaves. None where it is no picture of ours.
    """
    size = SIZE.search(svg)
    if not size:
        return []
    width, height = map(float, size.groups())
    tops = [0.0, *(float(top) - EDGE for top in CARD.findall(svg)[1:]), height]
    return [f"0 {top:g} {width:g} {below - top:g}" for top, below in pairwise(tops)]


@dataclass(frozen=True)
class Drawn:
    """Shapes and the boxes among them."""

    shapes: list[str]
    boxes: tuple[Box, ...]


def _draw_head(cost: Cost, kinds: list[str]) -> tuple[list[str], float]:
    """Return the title, the totals and the key of colours, and where they end."""
    shapes_in = ", ".join("×".join(map(str, shape)) for shape in cost.input_shapes)
    room = WIDTH - 2 * MARGIN
    lines = [
        f"{in_units(cost.macs)} MACs (multiply-adds), {in_units(cost.params)} parameters",
        f"input {shapes_in}",
        "box: kernel/stride → channels, right its MACs;",
        "the wider, the more channels; the taller, the more pixels",
    ]
    if cost.unused_params:
        lines.append(f"{in_units(cost.unused_params)} parameters are not read in evaluation")
    if cost.not_counted:
        lines.append(f"NOT COUNTED: {', '.join(sorted({x.operator for x in cost.not_counted}))}")
    name = shorten(cost.network or "network", room, 16, bold=True)
    shapes = [words(MARGIN, 26, name, 16, "ink bold")]
    shapes += [
        words(MARGIN, 44 + 15 * i, shorten(line, room, 11), 11, "dim")
        for i, line in enumerate(lines)
    ]
    x, y = MARGIN, 44 + 15 * len(lines) + 4
    for kind in [name for name in COLOURS if name in kinds]:
        width = 14 + text_width(kind, 11) + 12
        if x + width > WIDTH - MARGIN:
            x, y = MARGIN, y + 17
        shapes += [rectangle(x, y - 9, 10, 10, kind), words(x + 14, y, kind, 11)]
        x += width
    return shapes, y + 12


def _draw_card(
    graph: Graph, scale: Scale, card: Card, cost: Cost, top: float
) -> tuple[Drawn, float]:
    """Return a card and the arrow with the shape that it hands on, and where they end."""
    left, width = MARGIN, WIDTH - 2 * MARGIN - BEHIND
    lane = Lane(left + INSIDE, width - 2 * INSIDE)
    placed = place_chain(graph, scale, card.items, lane, top + HEAD)
    bottom = placed.bottom + INSIDE
    shapes = [
        rectangle(left + shift, top + shift, width, bottom - top, "card", 6)
        for shift in ((BEHIND, BEHIND / 2, 0) if card.times > 1 else (0,))
    ]
    shapes += _draw_heading(card, cost, lane, top)
    shapes += placed.shapes
    last = steps_of(card.items)[-1].node.type.shape
    below = bottom + (BEHIND if card.times > 1 else 0)
    shapes += [
        wire((lane.middle, bottom), (lane.middle, below + BETWEEN)),
        words(lane.middle + 8, below + 17, in_shape(last).replace("x", "×"), 11, "dim"),
    ]
    return Drawn(shapes, placed.boxes), below + BETWEEN


def _draw_heading(card: Card, cost: Cost, lane: Lane, top: float) -> list[str]:
    times = f"× {card.times}" if card.times > 1 else ""
    room = lane.width - text_width(times, 12, bold=True) - 8
    name = shorten(card.name, room, 12, bold=True)
    half = lane.width / 2
    shapes = [words(lane.left, top + 17, name, 12, "ink bold")]
    if times:
        shapes.append(words(lane.left + lane.width, top + 17, times, 12, "ink bold end"))
    for i, (count, total, unit) in enumerate(
        ((card.macs, cost.macs, "MACs"), (card.params, cost.params, "parameters"))
    ):
        x = lane.left + i * half
        share = card.times * count / total if total else 0
        each = f"{card.times} × " if card.times > 1 and count else ""
        text = f"{each}{in_units(count)} {unit}" if count else f"no {unit}"
        shapes += [
            words(x, top + 33, text, 11),
            rectangle(x, top + 38, half - 10, 4, "track", 2),
            rectangle(x, top + 38, (half - 10) * share, 4, "bar", 2),
        ]
    return shapes
