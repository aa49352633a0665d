"""A batch that does not fit the device's memory: learned in parts, whose gradients add up."""

import torch

from depthwise.errors import DepthwiseError
from depthwise.training.state import Progress

FEWEST = 2  # images of a part: a BatchNorm needs more than one


class TooLarge(DepthwiseError):  # noqa: N818
    """The device's memory does not hold what a step needs: the message says what to do."""


def halve(progress: Progress, images: int, error: torch.OutOfMemoryError) -> None:
    """Let every batch of `images` be learned in twice as many parts from now on.

    Raises TooLarge where the parts would be too small.
    """
    parts = 2 * progress.parts
    if images // parts < FEWEST:
        raise TooLarge(
            f"the device's memory does not hold the network and {-(-images // progress.parts)} "
            "images: choose a lower resolution, a smaller network or --precision bf16"
        ) from error
    progress.parts = parts
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def refuse_several(processes: int, error: torch.OutOfMemoryError) -> None:
    """Raise TooLarge for one of several processes: the others wait for what it does not send."""
    if processes > 1:
        raise TooLarge(
            "the device's memory does not hold this process's part of a batch: choose a smaller "
            "--batch, a lower resolution, or more processes"
        ) from error


def say_parts(batch: int, parts: int) -> str:
    """Return in words that batches are learned in parts."""
    return (
        f"batches of {batch} images do not fit the device's memory: they are learned in {parts} "
        f"parts of {-(-batch // parts)} or fewer, whose gradients add up; BatchNorms see one part "
        "at a time"
    )
