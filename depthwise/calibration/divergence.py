"""How far what a network returns is from what another one returned."""

from torch import Tensor

LEAST = 0.01
TINY = 1e-12  # of a variance: results that are all alike


def divergence(found: Tensor, original: Tensor, scores: bool) -> float:
    """Return the distance of results from an original's, in nats an image.

    Of scores of classes, the mean Kullback-Leibler divergence of their probabilities. Of others,
    half the mean square of the differences, as a share of each value's variance over the images:
    the same to second order. A value that hardly varies, as at a border that sees zeros, counts as
    if it varied by LEAST of what all do on average. Infinite where results are.

    Args:
        found: Of the first images of the original's.
        original: Of all images, (N, ...).
        scores: Whether they are scores of classes.
    """
    if not found.isfinite().all():
        return float("inf")
    known = original[: len(found)]
    if scores:
        ours, theirs = found.log_softmax(1), known.log_softmax(1)
        return max(0.0, float((theirs.exp() * (theirs - ours)).sum(1).mean()))
    variance = original.var(0, correction=0)
    variance = variance.clamp(min=max(LEAST * float(variance.mean()), TINY))
    return float((0.5 * (found - known).square() / variance).sum() / len(found))


def check_numbers(results: Tensor) -> None:
    """Raise ValueError where what a network returns for images is no numbers."""
    if not results.isfinite().all():
        raise ValueError(
            "the network returns numbers that are infinite or none for the images: look at its "
            "weights (--weights) and at how the images are prepared"
        )
