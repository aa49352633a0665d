"""The roofs of a roofline chart, and where their names stand: never over each other."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from depthwise.report.svg import text_width

APART = 2  # pixels between a name and its neighbours
BESIDE = 5  # from a roof to its name


class Rectangle(NamedTuple):
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Rectangle") -> bool:
        """Tell whether the two overlap."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def within(self, room: "Rectangle") -> bool:
        """Tell whether it lies in `room` as a whole."""
        right, below = self.right <= room.right, self.bottom <= room.bottom
        return self.left >= room.left and self.top >= room.top and right and below


class Roof(NamedTuple):
    """A line from its left end to its right one, and its name."""

    start: tuple[float, float]
    end: tuple[float, float]
    name: str

    def at(self, share: float) -> tuple[float, float]:
        """Return the point after that share of its length."""
        (x, y), (x2, y2) = self.start, self.end
        return x + share * (x2 - x), y + share * (y2 - y)

    def crosses(self, box: Rectangle) -> bool:
        """Tell whether it passes through a box."""
        (x, y), (x2, y2) = self.start, self.end
        if not box.meets(Rectangle(min(x, x2), min(y, y2), max(x, x2), max(y, y2))):
            return False
        corners = [(a, b) for a in (box.left, box.right) for b in (box.top, box.bottom)]
        sides = [(x2 - x) * (b - y) - (y2 - y) * (a - x) for a, b in corners]
        return min(sides) < 0 < max(sides)


def text_box(x: float, y: float, text: str, size: float) -> Rectangle:
    """Return what a line of text covers that begins at `x` and stands on `y`."""
    return Rectangle(x, y - 0.8 * size, x + text_width(text, size), y + 0.25 * size)


def place_names(
    roofs: Sequence[Roof],
    room: Rectangle,
    taken: Iterable[Rectangle],
    marks: Sequence[Rectangle],
    size: float,
) -> list[tuple[float, float] | None]:
    """Return where the name of each roof begins and stands: beside it, inside of `room`.

    No name meets another or what is `taken`; where it can be, it keeps clear of `marks` and of the
    other roofs, too. None where a roof has no place for its name.
    """
    names = list(taken)
    found: list[tuple[float, float] | None] = []
    for roof in roofs:
        places = [
            place for place in _beside(roof, size) if _is_free(place, roof, room, names, size)
        ]
        others = [each for each in roofs if each is not roof]
        clear = (place for place in places if _is_clear(place, roof, others, marks, size))
        chosen = next(clear, places[0] if places else None)
        if chosen:
            box = text_box(*chosen, roof.name, size)
            names.append(
                Rectangle(box.left - APART, box.top - APART, box.right + APART, box.bottom + APART)
            )
        found.append(chosen)
    return found


def _beside(roof: Roof, size: float) -> list[tuple[float, float]]:
    """Return places below the roof on its right, from its foot upwards, then those on its left."""
    shares = [0.05 + 0.03 * i for i in range(31)]
    right = [(x + BESIDE, y + size) for x, y in map(roof.at, shares)]
    width = text_width(roof.name, size)
    left = [(x - BESIDE - width, y - 2) for x, y in map(roof.at, shares)]
    return right + left


def _is_free(
    place: tuple[float, float], roof: Roof, room: Rectangle, names: Sequence[Rectangle], size: float
) -> bool:
    box = text_box(*place, roof.name, size)
    return box.within(room) and not any(box.meets(name) for name in names)


def _is_clear(
    place: tuple[float, float],
    roof: Roof,
    others: Sequence[Roof],
    marks: Sequence[Rectangle],
    size: float,
) -> bool:
    box = text_box(*place, roof.name, size)
    return not (any(box.meets(mark) for mark in marks) or any(each.crosses(box) for each in others))
