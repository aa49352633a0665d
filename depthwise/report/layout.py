"""Where the boxes of a chain stand: branches side by side, what follows below."""

from dataclasses import dataclass
from math import log

from depthwise.graph import Graph, ops
from depthwise.report.branches import Fork, Item, Items, Tangle, steps_of
from depthwise.report.colours import colour_name
from depthwise.report.labels import NARROW, Wording, channels_of, labels, pixels_of
from depthwise.report.steps import Step
from depthwise.report.svg import rectangle, shorten, text_width, wire, words

GAP = 9  # pixels between a box and the next
LETTER, SMALL = 11.0, 9.0
LINE = 13  # pixels from one line of text to the next
SHORTCUT = 22  # pixels that a plain line beside branches takes
NARROWEST = 46  # pixels that a column of boxes needs
PAD = 4  # pixels between a box and its text
BAND = 5  # pixels of plain colour at a box's left


@dataclass(frozen=True)
class Scale:
    """The fewest and most channels of the network, and its most pixels: boxes compare by them."""

    fewest: int
    channels: int
    pixels: int

    def width(self, step: Step, room: float) -> float:
        """Return a box's width, by its channels: all of the room for the most of them."""
        most = log(max(2, self.channels / self.fewest))
        part = log(max(1, channels_of(step) / self.fewest)) / most
        least = 0.58 if room >= NARROW else 0.75
        return room * (least + (1 - least) * part)

    def height(self, step: Step, lines: int) -> float:
        """Return a box's height: by its pixels, above what the text takes."""
        return 4 + LINE * lines + 14 * log(max(1, pixels_of(step))) / log(max(2, self.pixels))


@dataclass(frozen=True)
class Box:
    """A place on the page that nothing else may cover, with the lines of text inside."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...] = ()
    right: str = ""
    size: float = LETTER


@dataclass(frozen=True)
class Placed:
    """Shapes as SVG, where they end, at which x their open lines are, and the boxes among them."""

    shapes: tuple[str, ...]
    bottom: float
    ends: tuple[float, ...]
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Lane:
    """The room that a chain has: its left edge and its width."""

    left: float
    width: float

    @property
    def middle(self) -> float:
        """The x of its middle."""
        return self.left + self.width / 2


def place_chain(graph: Graph, scale: Scale, chain: Items, lane: Lane, top: float) -> Placed:
    """Return the items of a chain, one below the other, joined by lines from `top` on."""
    shapes: list[str] = []
    boxes: list[Box] = []
    bottom, ends = top, (lane.middle,)
    for item in chain:
        start = bottom + GAP
        shapes += _gather(ends, bottom, lane.middle, start)
        placed = _place(graph, scale, item, lane, start)
        shapes += placed.shapes
        boxes += placed.boxes
        bottom, ends = placed.bottom, placed.ends
    return Placed(tuple(shapes), bottom, ends, tuple(boxes))


def _gather(ends: tuple[float, ...], top: float, x: float, bottom: float) -> list[str]:
    """Return the lines from open ends down to one place."""
    if ends == (x,):
        return [wire((x, top), (x, bottom))]
    middle = top + (bottom - top) / 2
    return [wire((end, top), (end, middle), (x, middle), (x, bottom)) for end in ends]


def _place(graph: Graph, scale: Scale, item: Item, lane: Lane, top: float) -> Placed:
    match item:
        case Fork() if _room(item) > lane.width:
            return _place_list(graph, steps_of((item,)), lane, top)
        case Fork():
            return _place_fork(graph, scale, item, lane, top)
        case Tangle(steps):
            return _place_list(graph, list(steps), lane, top)
        case Step():
            return _place_step(graph, scale, item, lane, top)


def _room(item: Item) -> float:
    """Return the narrowest lane that an item can be drawn in."""
    if not isinstance(item, Fork):
        return NARROWEST
    return sum(_chain_room(branch) for branch in item.branches) + GAP * (len(item.branches) - 1)


def _chain_room(chain: Items) -> float:
    return max((_room(item) for item in chain), default=SHORTCUT)


def _place_fork(graph: Graph, scale: Scale, fork: Fork, lane: Lane, top: float) -> Placed:
    branches = sorted(fork.branches, key=lambda branch: not branch)  # plain lines to the right
    lanes = _divide([_chain_room(branch) for branch in branches], lane)
    shapes = [wire((lanes[0].middle, top), (lanes[-1].middle, top))]
    placed = [
        place_chain(graph, scale, branch, part, top)
        for branch, part in zip(branches, lanes, strict=True)
    ]
    bottom = max(top + 2 * GAP, *(part.bottom for part in placed))
    for part in placed:
        shapes += part.shapes
        shapes += [wire((x, part.bottom), (x, bottom)) for x in part.ends if part.bottom < bottom]
    ends = tuple(x for part in placed for x in part.ends)
    boxes = tuple(box for part in placed for box in part.boxes)
    if fork.join is None:
        return Placed(tuple(shapes), bottom, ends, boxes)
    shapes += _gather(ends, bottom, lane.middle, bottom + 1.5 * GAP)
    joined = _place_step(graph, scale, fork.join, lane, bottom + 1.5 * GAP)
    return Placed((*shapes, *joined.shapes), joined.bottom, joined.ends, (*boxes, *joined.boxes))


def _divide(rooms: list[float], lane: Lane) -> list[Lane]:
    """Return a lane for each branch; plain lines get no more than they need."""
    spare = lane.width - sum(rooms) - GAP * (len(rooms) - 1)
    wanting = sum(room for room in rooms if room > SHORTCUT) or 1
    lanes, left = [], lane.left
    for room in rooms:
        width = room + (spare * room / wanting if room > SHORTCUT else 0)
        lanes.append(Lane(left, width))
        left += width + GAP
    return lanes


def _place_step(graph: Graph, scale: Scale, step: Step, lane: Lane, top: float) -> Placed:
    if isinstance(step.node.op, ops.Binary):
        return _place_joint(graph, step, lane, top)
    width = scale.width(step, lane.width)
    wording, size = choose_wording(labels(graph, step, lane.width), width - BAND - 2 * PAD)
    height = scale.height(step, len(wording.lines))
    left = lane.middle - width / 2
    box = Box(left, top, width, height, wording.lines, wording.right, size)
    return Placed(_draw_box(box, colour_name(step.kind)), top + box.height, (lane.middle,), (box,))


def _place_joint(graph: Graph, step: Step, lane: Lane, top: float) -> Placed:
    symbol = labels(graph, step, 0)[0].lines[0]
    width = 18 if len(symbol) == 1 else 36
    box = Box(lane.middle - width / 2, top, width, 18, (symbol,), size=13.0)
    shape = rectangle(box.x, box.y, box.width, box.height, "joint", 9)
    text = words(lane.middle, top + 13.6, symbol, 13, "ink middle")
    return Placed((shape, text), top + 18, (lane.middle,), (box,))


def _place_list(graph: Graph, steps: list[Step], lane: Lane, top: float) -> Placed:
    """Return a box that lists what steps there are, where branches cannot be drawn."""
    counts: dict[str, int] = {}
    for step in steps:
        name = labels(graph, step, 0)[0].lines[0]
        counts[name] = counts.get(name, 0) + 1
    lines = [f"{len(steps)} steps, their lines cross:"]
    lines += [f"{count} × {name}" for name, count in sorted(counts.items(), key=lambda x: -x[1])]
    lines = [shorten(line, lane.width - 2 * GAP, LETTER) for line in lines]
    height = LINE * len(lines) + 10
    box = Box(lane.left, top, lane.width, height, tuple(lines))
    return Placed(_draw_box(box, "other dashed"), top + height, (lane.middle,), (box,))


def choose_wording(wordings: list[Wording], width: float) -> tuple[Wording, float]:
    """Return the longest wording that fits into a width, and its letters' size."""
    for size in (LETTER, SMALL):
        for wording in wordings:
            right = text_width(f"  {wording.right}", size) if wording.right else 0
            if all(text_width(line, size) + right <= width for line in wording.lines):
                return wording, size
    last = wordings[-1].lines
    return Wording(tuple(shorten(line, width, SMALL) for line in last)), SMALL


def _draw_box(box: Box, style: str) -> tuple[str, ...]:
    start, end = box.x + BAND + PAD, box.x + box.width - PAD
    first = box.y + box.height / 2 - LINE * (len(box.lines) - 1) / 2 + 0.36 * box.size
    x, anchor = (start, "ink") if box.right else ((start + end) / 2, "ink middle")
    rows = [words(x, first + LINE * i, line, box.size, anchor) for i, line in enumerate(box.lines)]
    if box.right:
        rows.append(words(end, first, box.right, box.size, "dim end"))
    return (
        rectangle(box.x, box.y, box.width, box.height, "page"),
        rectangle(box.x, box.y, box.width, box.height, f"{style} tint"),
        rectangle(box.x, box.y, BAND, box.height, style.split(maxsplit=1)[0]),
        *rows,
    )
