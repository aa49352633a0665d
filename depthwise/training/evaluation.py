"""How right a classifier is: accuracy with its interval, by class, and what it takes for what."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SURE = 1.96  # standard deviations: 95 % of a normal distribution lie within


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a set of images beside their true classes.

    Attributes:
        classes: The classes' names.
        labels: The true class of each image, (N,).
        scores: What the network said, (N, classes) logits.
        names: What each image is called.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    names: Sequence[str] = ()

    @cached_property
    def predictions(self) -> np.ndarray:
        """The class with the highest score, (N,)."""
        return self.scores.argmax(1)

    @cached_property
    def right(self) -> np.ndarray:
        """Whether each prediction is right, (N,)."""
        return self.predictions == self.labels

    @cached_property
    def without_numbers(self) -> np.ndarray:
        """The places of the images with a score that is infinite or no number."""
        return np.flatnonzero(~np.isfinite(self.scores).all(1))

    def check_numbers(self, who: str, therefore: str) -> None:
        """Raise ValueError where there are such images: who gave the scores, and what follows."""
        if len(bad := self.without_numbers):
            raise ValueError(
                f"{who} gives {len(bad)} of {len(self.labels)} images scores that are infinite or "
                f"no numbers, the first of them {self.names[bad[0]]}: {therefore}"
            )

    @property
    def accuracy(self) -> float:
        """The share of images that are named rightly."""
        return float(self.right.mean())

    @cached_property
    def loss(self) -> float:
        """The mean cross entropy, in nats."""
        return float(-self.log_probabilities[np.arange(len(self.labels)), self.labels].mean())

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """The logarithm of each class's probability, (N, classes)."""
        shifted = self.scores.astype(np.float64) - self.scores.max(1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))

    def worst_pairs(self, most: int) -> list[tuple[str, str, int]]:
        """Return the pairs that are confused most: true class, said class, how many images."""
        table = self.confusion.copy()
        np.fill_diagonal(table, 0)
        order = np.argsort(-table, axis=None, kind="stable")[:most]
        pairs = zip(*np.unravel_index(order, table.shape), strict=True)
        return [
            (self.classes[true], self.classes[said], int(table[true, said]))
            for true, said in pairs
            if table[true, said]
        ]

    @cached_property
    def confusion(self) -> np.ndarray:
        """How many images of each true class (row) were taken for which (column)."""
        table = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(table, (self.labels, self.predictions), 1)
        return table


def interval(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, by Wilson's score (JASA 22, 1927).

    It holds for few images and for shares near 0 and 1, where right/total ± 2 deviations does not.
    """
    if total == 0:
        return 0.0, 1.0
    share, square = right / total, SURE**2 / total
    middle = (share + square / 2) / (1 + square)
    half = SURE * math.sqrt(share * (1 - share) / total + square / total / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
