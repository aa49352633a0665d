"""What functions of a normal variable are on average (Gauss-Hermite quadrature)."""

from collections.abc import Callable, Sequence

import numpy as np

from depthwise.graph import ops
from depthwise.graph.interpret import evaluate

POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(64)


def expected(
    functions: Sequence[ops.Activation], mean: np.ndarray, deviation: np.ndarray,
    moments: Callable[..., Sequence[np.ndarray]],
) -> list[np.ndarray]:  # fmt: skip
    """Return the means of quantities of what functions give, for each normal variable.

    Args:
        functions: Activations, all of the same variable.
        mean: Of each variable.
        deviation: Of each variable, its standard deviation.
        moments: From what the functions give to the quantities.
    """
    x = mean[:, None] + deviation[:, None] * POINTS
    found = moments(*(evaluate(function, x) for function in functions))
    return [quantity @ WEIGHTS / WEIGHTS.sum() for quantity in found]
