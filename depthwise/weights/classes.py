"""From a classifier's scores to the names of what it sees."""

import numpy as np

from depthwise.weights.bundled import WeightsRecord, read_labels

Guess = tuple[str, float]  # class, probability


def class_names(pretrained: WeightsRecord | None, classes: int) -> tuple[str, ...]:
    """Return the names that a network's weights record, else the usual ones."""
    return pretrained.class_names if pretrained else usual_names(classes)


def usual_names(classes: int) -> tuple[str, ...]:
    """Return the names of ImageNet's classes where there are as many, else numbers."""
    if classes == 1000:
        return read_labels("imagenet_labels.txt")
    return tuple(f"class {index}" for index in range(classes))


def best_classes(scores: np.ndarray, names: tuple[str, ...]) -> list[Guess]:
    """Return every class with the softmax of its score, (classes,), the best first."""
    powers = np.exp(scores.astype(np.float64) - scores.max())
    probabilities = powers / powers.sum()
    return [(names[i], float(probabilities[i])) for i in np.argsort(-probabilities, kind="stable")]
