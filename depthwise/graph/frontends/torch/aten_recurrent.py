"""The rules of PyTorch's recurrent layers: one operator a layer and direction."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import Rule, rule
from depthwise.graph.frontends.torch.aten_shape import cut, filled
from depthwise.graph.frontends.torch.refusal import Refusal

Values = Sequence[Value]


@rule("aten.lstm")
def _(b: Builder, x, states, params, *settings):
    return stack(b, "lstm", x, states, params, *settings)


def of_one_state(function: Any) -> Rule:
    """Return the rule of a layer whose only state is its output."""
    return lambda b, x, state, *settings: stack(b, function, x, [state], *settings)


def cell_of_one_state(function: Any) -> Rule:
    """Return the rule of one step of such a layer."""
    return lambda b, x, state, *weights: step(b, function, x, [state], weights)


for name in ("gru", "rnn_tanh", "rnn_relu"):
    rule(f"aten.{name}")(of_one_state(name))
    rule(f"aten.{name}_cell")(cell_of_one_state(name))


def stack(
    b: Builder, function: Any, x: Value, states: Values, params: Values, has_biases: bool,
    num_layers: int, dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> list[Value]:  # fmt: skip
    """Return the outputs of all layers, then the last states: h, and c of an lstm."""
    if train and dropout:
        raise Refusal("draws a dropout between its layers: call net.eval()")
    swap = partial(b.emit, ops.Permute((1, 0, 2)))
    x = swap(x) if batch_first else x
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    width = states[0].shape[2]
    ends: list[list[Value]] = [[] for _ in states]
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            start = [row(b, state, at) for state in states]
            weights = with_biases(b, params[at * each : (at + 1) * each], has_biases)
            y = run(b, ops.Recurrent(function, direction == 1), x, weights, start)
            last = 0 if direction else x.shape[0] - 1
            parts = [
                cut(b, y, 2, i * width, y.shape[2] if i else width) for i in range(len(states))
            ]
            for end, part in zip(ends, parts, strict=True):
                end.append(cut(b, part, 0, last, last + 1))
            outputs.append(parts[0])
        x = b.emit(ops.Concat(2), *outputs) if bidirectional else outputs[0]
    joined = [b.emit(ops.Concat(0), *end) if len(end) > 1 else end[0] for end in ends]
    return [swap(x) if batch_first else x, *joined]


def row(b: Builder, state: Value, index: int) -> Value:
    """Return the state of one layer and direction."""
    one = cut(b, state, 0, index, index + 1)
    return b.emit(ops.Reshape(state.shape[1:]), one)


def with_biases(b: Builder, weights: Values, has_biases: bool) -> list[Value]:
    """Return weight_ih, weight_hh, both biases, zeros where there are none, and the projection."""
    if has_biases:
        return [*weights]
    none = filled(b, weights[0].shape[:1], 0.0, weights[0].type.dtype)
    return [*weights[:2], none, none, *weights[2:]]


def run(b: Builder, op: ops.Recurrent, x: Value, weights: Values, states: Values) -> Value:
    """Return the states at each place of a sequence."""
    return b.emit(op, x, *weights[:4], *states, *weights[4:])


# ------------------------------------------------------------------------------------- one step


def step(
    b: Builder, function: Any, x: Value, states: Values, weights: Sequence[Value | None]
) -> Value:
    """Return the states after one step of (N, C): those of a sequence of one place."""
    given = [w for w in weights if w is not None]
    params = with_biases(b, given, has_biases=len(given) == 4)
    sequence = b.emit(ops.Reshape((1, *x.shape)), x)
    y = run(b, ops.Recurrent(function), sequence, params, states)
    return b.emit(ops.Reshape(y.shape[1:]), y)


@rule("aten.lstm_cell")
def _(b: Builder, x, states, w_ih, w_hh, b_ih=None, b_hh=None):
    y = step(b, "lstm", x, states, (w_ih, w_hh, b_ih, b_hh))
    width = states[0].shape[1]
    return [cut(b, y, 1, 0, width), cut(b, y, 1, width, y.shape[1])]
