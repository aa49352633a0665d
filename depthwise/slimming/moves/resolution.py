"""The input's resolution lowered."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import log2

from depthwise.errors import Unsupported
from depthwise.graph import ops
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.moves.resizing import resize
from depthwise.slimming.statistics import Statistics

NAME = "resolution"
LEAST = 0.5  # of a side
FAR = 2.0  # nats an image, where a side is halved: it grows with the square of the octaves


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:  # noqa: ARG001
    """Yield smaller sizes of the images, by multiples of what the network divides them by.

    What statistics tell of a layer does not tell how it takes other images, so that the damage is a
    guess: what networks that were not trained again lose of their scores, as a rule. It is measured
    as soon as the change is made.
    """
    shape = next(iter(draft.graph.inputs.values())).shape
    if len(draft.graph.inputs) != 1 or len(shape) != 4:
        return
    height, width = shape[2:]
    step = _divisor(draft)
    for rows in range(height - step, int(height * LEAST) - 1, -step):
        columns = width - round(width * (height - rows) / height / step) * step
        try:
            resize(draft.graph, rows, columns)
        except Unsupported:
            continue
        damage = FAR * log2(height / rows) ** 2
        words = f"{height} x {width} to {rows} x {columns} pixels"
        yield Change(NAME, "input", words, damage, partial(_apply, rows=rows, columns=columns))


def _divisor(draft: Draft) -> int:
    """Return the power of 2 by which a network divides the rows of its images."""
    (image,) = draft.graph.inputs.values()
    heights = [
        node.type.shape[2] for node in draft.graph
        if isinstance(node.op, ops.Conv2d | ops.MaxPool2d) and node.type.shape[2] > 1
    ]  # fmt: skip
    return 2 ** max(0, round(log2(image.shape[2] / min(heights, default=image.shape[2]))))


def _apply(draft: Draft, rows: int, columns: int) -> Draft:
    try:
        return replace(draft, graph=resize(draft.graph, rows, columns))
    except Unsupported as error:
        raise ValueError(str(error)) from error
