"""Random numbers that follow from what they are for, not from what was drawn before.

What one image looks like in one epoch is a function of (seed, epoch, index) alone. So a run that
was killed and goes on, other numbers of workers and other numbers of processes see the same images.
"""

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)


def uniform(
    seed: int, epochs: np.ndarray, indices: np.ndarray, purpose: str, count: int
) -> np.ndarray:
    """Return numbers of [0, 1), (N, count): a row for each image in its epoch.

    Args:
        seed: The run's.
        epochs: The epoch that each image is seen in, (N,).
        indices: The place of each image in its split, (N,).
        purpose: What the numbers are for: those of another purpose are independent.
        count: Numbers an image.
    """
    key = np.frombuffer(purpose.encode()[-8:].rjust(8, b"\0"), np.uint64)
    state = _mix(np.full(len(indices), seed, np.int64).view(np.uint64) ^ _mix(key))
    for part in (epochs, indices):
        state = _mix(state ^ _mix(np.asarray(part, np.int64).view(np.uint64) + _STEP))
    steps = np.arange(1, count + 1, dtype=np.uint64) * _STEP
    return (_mix(state[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """Return the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), element by element.

    A bijection of 64 bits of which each depends on every bit of its argument.
    """
    x = x + _STEP
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
