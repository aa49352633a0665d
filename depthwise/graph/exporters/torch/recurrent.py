"""Recurrent layers in PyTorch, step by step: all states of the cell are results, too."""

from collections.abc import Callable

import torch
from torch import Tensor

from depthwise.graph import ops
from depthwise.graph.exporters.torch.rules import function_of

StateStep = Callable[[Tensor, Tensor], Tensor]


@function_of.register
def _(op: ops.Recurrent, site):  # noqa: ARG001
    def compute(x, weight_ih, weight_hh, bias_ih, bias_hh, h, *rest):
        given = torch.nn.functional.linear(x, weight_ih, bias_ih)
        step = STEPS[op.function](weight_hh, bias_hh, *rest[1:])
        state = torch.cat([each.expand(x.shape[1], -1) for each in (h, *rest[:1])], 1)
        order = range(len(x))
        states = []
        for t in reversed(order) if op.reverse else order:
            state = step(given[t], state)
            states.append(state)
        return torch.stack(states[::-1] if op.reverse else states)

    return compute


def lstm(weight: Tensor, bias: Tensor, project: Tensor | None = None) -> StateStep:
    """Return the step of an lstm, of what the input gives and the states h and c."""
    outputs = weight.shape[1]

    def step(given: Tensor, state: Tensor) -> Tensor:
        h, c = state[:, :outputs], state[:, outputs:]
        i, f, g, o = (given + h @ weight.T + bias).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return torch.cat((h if project is None else h @ project.T, c), 1)

    return step


def gru(weight: Tensor, bias: Tensor, *, reset_first: bool = False) -> StateStep:
    """Return the step of a gru; r multiplies the state, or what the new state takes of it."""
    hidden = weight.shape[1]
    gates, new = weight.split([2 * hidden, hidden])
    first, last = bias.split([2 * hidden, hidden])

    def step(given: Tensor, h: Tensor) -> Tensor:
        both, own = given.split([2 * hidden, hidden], 1)
        r, z = torch.sigmoid(both + h @ gates.T + first).chunk(2, 1)
        taken = (r * h) @ new.T + last if reset_first else r * (h @ new.T + last)
        n = torch.tanh(own + taken)
        return n + z * (h - n)

    return step


def plain(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], StateStep]:
    """Return what makes the step of a network with one function of the sum."""
    return lambda weight, bias: lambda given, h: function(given + h @ weight.T + bias)


STEPS: dict[str, Callable[..., StateStep]] = {
    "lstm": lstm,
    "gru": gru,
    "gru_reset_first": lambda weight, bias: gru(weight, bias, reset_first=True),
    "rnn_tanh": plain(torch.tanh),
    "rnn_relu": plain(torch.relu),
}
