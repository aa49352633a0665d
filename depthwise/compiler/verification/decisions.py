"""What rounding alone decides: elements that a comparison, or a cast to integers, tips either way.

The sign of a sum that is nearly 0 is not the same in any two orders of summation. Whether an
element is of this kind is asked of the reference itself: its weights and inputs are moved in their
last digits several times, and what moves with them is decided by rounding.
"""

from collections.abc import Iterator

import numpy as np

from depthwise.compiler.verification.references import Arrays, Reference, shake
from depthwise.errors import CannotRun

SHAKEN = 8  # runs: an element in the balance stays as it was in one of two


def shake_inputs(inputs: Arrays, number: int) -> list[np.ndarray]:
    """Return inputs of which floating numbers are moved in their last digits, drawn by `number`."""
    random = np.random.default_rng(number)
    return [shake(x, random) if x.dtype.kind == "f" else x for x in inputs]


def shaken_outputs(reference: Reference, inputs: Arrays) -> Iterator[list[np.ndarray]]:
    """Yield what the reference returns, its weights and inputs moved each time; not what fails."""
    for number in range(1, SHAKEN + 1):
        try:
            yield reference.start(shake_inputs(inputs, number), shaken=number).outputs()
        except CannotRun:
            return


def find_undecided(
    reference: Reference, inputs: Arrays, expected: Arrays, tolerance: float
) -> list[np.ndarray]:
    """Return which elements of each output move by more than `tolerance` of the largest."""
    undecided = [np.zeros(y.shape, bool) for y in expected]
    for moved in shaken_outputs(reference, inputs):
        undecided = [
            mask | _differs(y.astype(np.float64), z.astype(np.float64), tolerance)
            for mask, y, z in zip(undecided, expected, moved, strict=True)
        ]
    return undecided


def _differs(y: np.ndarray, z: np.ndarray, tolerance: float) -> np.ndarray:
    largest = np.abs(y[np.isfinite(y)]).max(initial=0)
    with np.errstate(invalid="ignore"):
        near = np.abs(z - y) <= tolerance * largest
    return ~(near | (y == z) | (np.isnan(y) & np.isnan(z)))
