"""Images set aside for validation, where a set has none of its own."""

import numpy as np

SHARE = 0.1  # of the images of a class


def split_off(
    labels: np.ndarray, *, share: float = SHARE, seed: int = 0, stay: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the same share of each class, at least one image where it has two to draw from.

    Args:
        labels: The class of each image, (N,).
        share: Of each class that is set aside, in (0, 1).
        seed: Of the draw: the same labels and seed give the same images.
        stay: Images that are not set aside, (N,) of bool; any may be where this is None.

    Returns:
        The indices of the images that are left and of those set aside, each in ascending order.
    """
    aside = np.zeros(len(labels), bool)
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        free = members if stay is None else members[~stay[members]]
        wanted = max(1, round(share * len(members)))
        count = min(wanted, len(free), len(members) - 1)
        aside[generator.permutation(free)[:count]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)
