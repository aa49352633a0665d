"""Recurrent layers of ONNX: one operator of ours for each direction."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from depthwise.graph import ops
from depthwise.graph.builder import Value
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import refuse, rule

# which of ONNX's gates each of ours is: iofc of an LSTM, zrh of a GRU
ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}

WEIGHT, RECURRENCE, BIASES, SEQUENCE_LENS, INITIAL_H, INITIAL_C, PEEPHOLES = range(1, 8)


@rule("LSTM", "GRU", "RNN")
def _(
    n: Operands, *, hidden_size=None, direction="forward", layout=0, activations=None, clip=None,
    input_forget=0, linear_before_reset=0, activation_alpha=None, activation_beta=None,
):  # fmt: skip
    del hidden_size, activation_alpha, activation_beta  # the weights have it; of other functions
    x = n.permute(n[0], 1, 0, 2) if layout else n[0]
    steps, batch, _ = x.shape
    refuse(clip is not None, "it holds its sums inside bounds (clip)")
    refuse(input_forget, "its input and forget gates are one (input_forget)")
    refuse(n.has(PEEPHOLES), "its gates see the cell's state (P)")
    if n.has(SEQUENCE_LENS):
        lengths = n.ints(SEQUENCE_LENS)
        refuse(set(lengths) != {steps}, f"its sequences have {lengths} of {steps} steps")
    function = function_of(n, activations, linear_before_reset)
    width = n.shape(RECURRENCE)[2]
    states = 2 if n.node.op_type == "LSTM" else 1
    outputs: list[list[Value]] = [[] for _ in range(1 + states)]
    for index, reverse in enumerate(DIRECTIONS[direction]):
        start = [initial(n, i, index, layout, (batch, width)) for i in (INITIAL_H, INITIAL_C)]
        op = ops.Recurrent(function, reverse)
        y = n.emit(op, x, *parameters(n, index), *start[:states])
        last = 0 if reverse else steps - 1
        sequences = [part(n, y, 2, i * width, width) for i in range(states)]
        outputs[0].append(n.reshape(sequences[0], steps, 1, batch, width))
        for output, sequence in zip(outputs[1:], sequences, strict=True):
            output.append(part(n, sequence, 0, last, 1))
    y, *ends = (beside(n, values, axis) for axis, values in zip((1, 0, 0), outputs, strict=False))
    if layout:
        y, ends = n.permute(y, 2, 0, 1, 3), [n.permute(end, 1, 0, 2) for end in ends]
    return [y, *ends]


def function_of(n: Operands, activations: Sequence[Any] | None, linear_before_reset: int) -> Any:
    """Return our name of the function; others than ONNX's usual activations are refused."""
    kind = n.node.op_type
    given = [a.decode() if isinstance(a, bytes) else a for a in activations or USUAL[kind]]
    each = given[: len(USUAL[kind])]
    refuse(given != each * (len(given) // len(each)), f"its directions differ: {given}")
    if kind == "RNN" and each == ["Relu"]:
        return "rnn_relu"
    refuse(each != USUAL[kind], f"its activations are {each}, where {USUAL[kind]} are computed")
    if kind == "GRU":
        return "gru" if linear_before_reset else "gru_reset_first"
    return {"LSTM": "lstm", "RNN": "rnn_tanh"}[kind]


def parameters(n: Operands, index: int) -> list[Value]:
    """Return one direction's weights and biases, their gates in our order."""
    order = ORDER[n.node.op_type]
    hidden = n.shape(RECURRENCE)[2]

    def ours(data: np.ndarray) -> np.ndarray:
        gates = data.reshape(len(order), hidden, *data.shape[1:])
        return gates[list(order)].reshape(data.shape)

    weights = [n.derived(i, lambda data: ours(data[index])) for i in (WEIGHT, RECURRENCE)]
    rows = len(order) * hidden
    if not n.has(BIASES):
        return [*weights, *[n.constant(np.zeros(rows, np.float32))] * 2]
    ends = (slice(0, rows), slice(rows, None))
    return [*weights, *(n.derived(BIASES, lambda data, end=end: ours(data[index][end]))
                        for end in ends)]  # fmt: skip


def initial(n: Operands, operand: int, index: int, layout: int, shape: tuple[int, int]) -> Value:
    """Return one direction's state before the first step: zeros where none is given."""
    if not n.has(operand):
        return n.constant(np.zeros(shape, np.float32))
    return n.reshape(part(n, n[operand], 1 if layout else 0, index, 1), *shape)


def part(n: Operands, x: Value, axis: int, start: int, length: int) -> Value:
    """Return a part of an axis, x itself where that is all of it."""
    whole = length == x.shape[axis]
    return x if whole else n.emit(ops.Slice(axis, start, start + length, 1), x)


def beside(n: Operands, values: list[Value], axis: int) -> Value:
    """Return the values of all directions along an axis."""
    return n.emit(ops.Concat(axis), *values) if len(values) > 1 else values[0]
