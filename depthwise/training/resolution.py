"""How many pixels the images have that a network sees, from the first step to the last."""

import numpy as np

from depthwise.training.data.dataset import ImageSplit
from depthwise.training.data.decode import shorter_side
from depthwise.training.defaults import SMALL

SMALLEST = 8  # pixels of a side: gradients explode in networks whose maps all have one pixel
EVEN, COARSE = 4, 32  # what lower resolutions of small images, and of larger ones, are multiples of
LOOKED_AT = 64  # images whose size tells what resolution is usual
GROWN = 0.75  # the share of the training after which images have the last resolution


def side_at(done: float, last: int, first: float) -> int:
    """Return the pixels along an image's sides in progressive training (arXiv:2104.00298).

    Args:
        done: The share of the training that is done.
        last: The resolution that it ends with.
        first: The one that it begins with, as a share of `last`.
    """
    share = first + (1 - first) * min(1, done / GROWN)
    if share == 1:
        return last
    least, step = (SMALLEST, EVEN) if last <= SMALL else (COARSE, COARSE)
    return min(last, max(least, round(last * share / step) * step))


def usual_side(split: ImageSplit) -> int:
    """Return the pixels of the shorter side that images of a split usually have: the median.

    Raises ValueError where none of those that are looked at can be read.
    """
    sides, broken = [], ""
    places = np.linspace(0, len(split.images) - 1, LOOKED_AT).astype(int)
    for index in map(int, np.unique(places)):
        name = split.images.name(index)
        try:
            sides.append(shorter_side(split.images.read(index), name))
        except ValueError as error:  # it will be left out, and that said
            broken = str(error)
    if not sides:
        raise ValueError(f"none of {len(np.unique(places))} images can be read: {broken}")
    return int(np.median(sides))
