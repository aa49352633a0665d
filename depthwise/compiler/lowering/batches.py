"""How many images of a batch a layer takes at once: they share its weights while these are near."""

from depthwise.graph.dtypes import FLOAT32

MOST = 8  # images; what weights cost an image then is little
LEFT = 3  # times that a byte costs what one of weights does: written, fetched, and not in order


def images_at_once(images: int, given: int, found: int, weights: int, near: int) -> int:
    """Return how many of a number of images move the fewest bytes beyond the second cache.

    In that `near` bytes of images stay while a layer passes over them. An image has `given` floats
    in the layer's input and `found` in its output. More images read the weights less often, but
    their inputs, which are read again for every block of weights, must stay near; where the outputs
    do not, the next layer has to fetch them.
    """

    def moved(count: int) -> tuple[float, int]:
        leaves = count * (given + found) * FLOAT32.bytes > near
        return weights / count + (LEFT * (given + found) if leaves else 0), -count

    counts = [1]
    while 2 * counts[-1] <= min(images, MOST) and 2 * counts[-1] * given * FLOAT32.bytes <= near:
        counts.append(2 * counts[-1])
    return min(counts, key=moved)
