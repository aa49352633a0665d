"""The names of a classifier's classes, held to the network that they are for."""

from collections.abc import Iterable, Sequence
from typing import Any

from depthwise.escaping import kind_of

Shapes = Sequence[tuple[int, ...]]


def as_labels(labels: Any) -> tuple[str, ...]:
    """Return the names that a caller gives, in order. Raises ValueError for what is no list."""
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise ValueError(f"labels is {kind_of(labels)}: give a list of names, one for each class")
    names = tuple(labels)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"labels holds {kind_of(name)}, {name!r}: give a list of names")
    return names


def find_scores(shapes: Shapes, classes: int | None = None) -> int | None:
    """Return which output of a network has the scores of classes, of as many if that is known.

    It is the only one of (N, CLASSES); None where there is none, or several that may be it.
    """
    found = [
        index for index, shape in enumerate(shapes)
        if len(shape) == 2 and classes in (None, shape[1])
    ]  # fmt: skip
    return found[0] if len(found) == 1 else None


def check_labels(labels: Sequence[str], shapes: Shapes, origin: str) -> None:
    """Raise ValueError where there is not one name for each class of outputs of `shapes`."""
    if find_scores(shapes, len(labels)) is not None:
        return
    classes = [shape[1] for shape in shapes if len(shape) == 2]
    if len(classes) == 1:
        raise ValueError(
            f"{origin}: {len(labels)} names for a network of {classes[0]} classes: there must be "
            "one for each, in the order of its outputs"
        )
    returned = f"the network returns {show_shapes(shapes)}"
    if len(labels) not in classes:
        raise ValueError(f"{origin}: {returned}: classes are named of (N, CLASSES)")
    raise ValueError(f"{origin}: {returned}: {len(labels)} names fit several of them; {ONE}")


ONE = "let it return its scores once, or end it with the module that gives them: until=NAME"


def show_shapes(shapes: Shapes) -> str:
    """Return shapes as a message names them."""
    return " and ".join("x".join(map(str, shape)) or "a number" for shape in shapes) or "nothing"
