"""How many pixels the images have that a network sees, from the first step to the last."""

from depthwise.training.defaults import SMALL

SMALLEST = 8  # pixels of a side: gradients explode in networks whose maps all have one pixel
EVEN, COARSE = 4, 32  # what lower resolutions of small images, and of larger ones, are multiples of
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
