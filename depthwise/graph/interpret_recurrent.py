"""The meaning of recurrent layers: a step a place of the sequence, each from the state before."""

from collections.abc import Callable

import numpy as np

from depthwise.graph import ops
from depthwise.graph.interpret import Array, evaluate, sigmoid

Step = Callable[[Array, Array], Array]


@evaluate.register
def _(op: ops.Recurrent, x, weight_ih, weight_hh, bias_ih, bias_hh, h, *rest):
    given = x @ weight_ih.T + bias_ih
    step = STEPS[op.function](weight_hh, bias_hh, *rest[1:])
    states = np.empty((*x.shape[:2], h.shape[1] + (rest[0].shape[1] if rest else 0)), x.dtype)
    state = np.concatenate((h, *rest[:1]), 1)
    for t in reversed(range(len(x))) if op.reverse else range(len(x)):
        states[t] = state = step(given[t], state)
    return states


def lstm(weight: Array, bias: Array, project: Array | None = None) -> Step:
    """Return the step of an lstm, of what the input gives and the states h and c."""
    hidden, outputs = weight.shape[0] // 4, weight.shape[1]

    def step(given: Array, state: Array) -> Array:
        h, c = state[:, :outputs], state[:, outputs:]
        gates = given + h @ weight.T + bias
        i, f, g, o = (gates[:, k * hidden : (k + 1) * hidden] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return np.concatenate((h if project is None else h @ project.T, c), 1)

    return step


def gru(weight: Array, bias: Array, *, reset_first: bool = False) -> Step:
    """Return the step of a gru; r multiplies the state, or what the new state takes of it."""
    hidden = weight.shape[1]
    gates, new = np.split(weight, [2 * hidden])

    def step(given: Array, h: Array) -> Array:
        r, z = np.split(sigmoid(given[:, : 2 * hidden] + h @ gates.T + bias[: 2 * hidden]), 2, 1)
        last = bias[2 * hidden :]
        taken = (r * h) @ new.T + last if reset_first else r * (h @ new.T + last)
        n = np.tanh(given[:, 2 * hidden :] + taken)
        return n + z * (h - n)

    return step


def plain(function: Callable[[Array], Array]) -> Callable[[Array, Array], Step]:
    """Return what makes the step of a network with one function of the sum."""
    return lambda weight, bias: lambda given, h: function(given + h @ weight.T + bias)


STEPS: dict[str, Callable[..., Step]] = {
    "lstm": lstm,
    "gru": gru,
    "gru_reset_first": lambda weight, bias: gru(weight, bias, reset_first=True),
    "rnn_tanh": plain(np.tanh),
    "rnn_relu": plain(lambda x: np.maximum(x, 0)),
}
