"""What ours is worth at a rival's own time: its test accuracy along a curve of measured times.

Between two of our rows, and between the first and the original, accuracy is taken to be linear in
the logarithm of the time. Such curves bend downward, so that a chord lies below them: it is no
favour to ours. Nothing is said of a rival that is faster than our fastest row.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def say_equal_time(rows: Sequence[dict[str, Any]], original: float | None) -> Iterator[str]:
    """Yield a line for each rival that was trained and timed: its accuracy, and ours at its time.

    Args:
        rows: Of all ways, seeds and shares.
        original: The test accuracy of the network as it was.
    """
    done = [row for row in rows if "test" in row and "faster" in row]
    means = defaultdict(list)
    for row in done:
        means[row["way"], row["share"]].append((row["faster"], row["test"]))
    points = {case: tuple(np.mean(found, 0)) for case, found in means.items()}
    curve = sorted(point for (way, _), point in points.items() if way == "ours")
    if original is not None:
        curve = [(1.0, original), *curve]
    for (way, share), (faster, test) in points.items():
        if way == "ours" or not curve:
            continue
        known = curve[0][0] <= faster <= curve[-1][0]
        ours = f"ours {_along(curve, faster):.2%} there" if known else "no row of ours is so fast"
        yield f"at {faster:.2f} times as fast: {way} at {share:g} {test:.2%}, {ours}"


def _along(curve: Sequence[tuple[float, float]], faster: float) -> float:
    speeds, accuracies = zip(*curve, strict=True)
    return float(np.interp(np.log(faster), np.log(speeds), accuracies))
