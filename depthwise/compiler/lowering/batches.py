"""How many images of a batch a layer takes at once: they share its weights while these are near."""

from depthwise.compiler.constants import Constants
from depthwise.graph.dtypes import FLOAT32

MOST = 8  # images; what weights cost an image then is little
HALF = 2  # times as long as `fetch` counts takes a weight, none of it hidden
LEFT = 3  # times that a byte costs what one of weights does: written, fetched, and not in order


def images_at_once(
    images: int, given: int, found: int, constants: Constants, weights: int = 0, pixels: int = 0
) -> int:
    """Return how many of a number of images move the fewest bytes beyond the second cache.

    In that some bytes of images stay (`together`) while a layer passes over them. An image has
    `given` floats in the layer's input and `found` in its output. More images read the weights less
    often, but their inputs, which are read again for every block of weights, must stay near; where
    the outputs do not, the next layer has to fetch them.

    Where the third cache is slow, weights come line by line while a layer computes with those
    before them, each for `pixels` of an image. Only what they take longer counts, and images wait
    for each other no more than that needs.
    """
    near = constants.together

    def moved(count: int) -> tuple[float, int]:
        leaves = count * (given + found) * FLOAT32.bytes > near
        read = weights / count
        if constants.slow:
            read *= max(0.0, 1 - count * pixels / (HALF * constants.fetch))
        passed = LEFT * (given + found) if leaves else 0
        return read + passed, count if constants.slow else -count

    counts = [1]
    while 2 * counts[-1] <= min(images, MOST) and 2 * counts[-1] * given * FLOAT32.bytes <= near:
        counts.append(2 * counts[-1])
    return min(counts, key=moved)
