"""Recurrent layers, resampling and grid sampling in ONNX."""

import numpy as np

from depthwise.errors import Unsupported
from depthwise.graph import ops
from depthwise.graph.exporters.onnx.rules import write
from depthwise.graph.exporters.onnx.writer import NodeWriter
from depthwise.graph.graph import Node

MODES = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}

# which of our gates each of ONNX's is: i, f, g, o for iofc; r, z, n for zrh
ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "gru_reset_first": (1, 0, 2)}


@write.register
def _(op: ops.GridSample, node, x, grid):
    return node.add(
        "GridSample", x, grid, mode=MODES[op.mode], padding_mode=op.outside,
        align_corners=int(op.align_corners),
    )  # fmt: skip


@write.register
def _(op: ops.Resample, node, x, weights):
    """Write the product with the matrix of weights, which ONNX has no windows for."""
    rank, length = len(node.shape(x)), node.shape(x)[op.axis]
    rows = np.repeat(np.arange(len(op.first)), op.counts)
    starts = np.cumsum((0, *op.counts[:-1]))
    columns = np.arange(sum(op.counts)) + np.repeat(np.array(op.first) - starts, op.counts)
    matrix = node.add(
        "ScatterND", node.constant(np.zeros((length, len(op.first))), "zeros"),
        node.constant(np.stack((columns, rows), 1), "places"), weights,
    )  # fmt: skip
    if op.axis == rank - 1:
        return node.add("MatMul", x, matrix)
    order = [axis for axis in range(rank) if axis != op.axis] + [op.axis]
    moved = node.add("MatMul", node.add("Transpose", x, perm=order), matrix)
    return node.add("Transpose", moved, perm=np.argsort(order).tolist())


@write.register
def _(op: ops.Recurrent, node, *inputs):
    """Write a layer of one direction; of an lstm's cell ONNX tells the last state alone."""
    x, weight_ih, weight_hh, bias_ih, bias_hh, h, *rest = inputs
    if len(rest) > 1:
        raise Unsupported("an LSTM with projections has no form in ONNX: build it without")
    steps, batch, _ = node.shape(x)
    hidden = node.shape(h)[1]
    lstm = op.function == "lstm"
    if lstm and not reads_last_cell(op, node, steps, hidden):
        raise Unsupported("ONNX gives the cell's last state alone, and earlier ones are read")
    order = np.array(ORDER.get(op.function, (0,)))
    rows = node.constant((order[:, None] * hidden + np.arange(hidden)).ravel(), "gates")

    def gates(value: str) -> str:
        return node.add("Gather", value, rows, axis=0) if len(order) > 1 else value

    def direction(value: str, *shape: int) -> str:
        return node.reshape(value, 1, *shape)

    biases = node.add("Concat", gates(bias_ih), gates(bias_hh), axis=0)
    size = len(order) * hidden
    operator = "LSTM" if lstm else op.function.partition("_")[0].upper()
    given = {"linear_before_reset": int(op.function == "gru")} if operator == "GRU" else {}
    given |= {"activations": ["Relu"]} if op.function == "rnn_relu" else {}
    y, *ends = node.add_several(
        operator, 3 if lstm else 1, x,
        direction(gates(weight_ih), size, node.shape(x)[2]),
        direction(gates(weight_hh), size, hidden), direction(biases, 2 * size), None,
        direction(h, batch, hidden), *(direction(c, batch, hidden) for c in rest),
        direction="reverse" if op.reverse else "forward", hidden_size=hidden, **given,
    )  # fmt: skip
    states = node.reshape(y, steps, batch, hidden)
    if not lstm:
        return states
    everywhere = node.constant(np.array((steps, batch, hidden)), "states")
    return node.add("Concat", states, node.add("Expand", ends[1], everywhere), axis=2)


def reads_last_cell(op: ops.Recurrent, node: NodeWriter, steps: int, hidden: int) -> bool:
    """Tell whether the outputs, and the cell's state after the last step, are all that is read."""
    last = 0 if op.reverse else steps - 1

    def takes_last(reader: Node) -> bool:
        taken = reader.op
        return isinstance(taken, ops.Slice) and (taken.axis, taken.start) == (0, last)

    def is_known(reader: Node) -> bool:
        if not isinstance(reader.op, ops.Slice) or reader.op.axis != 2:
            return False
        ends = node.readers(reader.name)
        return reader.op.stop <= hidden or (bool(ends) and all(map(takes_last, ends)))

    readers = node.readers()
    return steps == 1 or (bool(readers) and all(map(is_known, readers)))
