"""Least squares with bounds: no price is negative, or beyond what the machine can explain."""

import numpy as np

SWEEPS = 3000
STILL = 1e-9  # of the largest change a sweep makes: no more to be gained


def bounded_least_squares(a: np.ndarray, y: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Return x with 0 <= x <= most that makes |a x - y| least; a is (rows, columns).

    Coordinate descent: one x at a time to where it is best, the others held, until none moves.
    """
    scale = np.sqrt((a * a).sum(0))
    scale[scale == 0] = 1
    products = (a / scale).T @ (a / scale)
    target = (a / scale).T @ y
    high = most * scale
    x = np.zeros(a.shape[1])
    for _ in range(SWEEPS):
        before = x.copy()
        for i in range(len(x)):
            rest = target[i] - products[i] @ x + products[i, i] * x[i]
            x[i] = min(max(rest / max(products[i, i], 1e-30), 0.0), high[i])
        if np.abs(x - before).max(initial=0) <= STILL * np.abs(x).max(initial=0):
            break
    return x / scale
