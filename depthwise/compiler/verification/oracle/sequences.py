"""Kernels that resample an axis, sample images at computed places, or run a recurrent layer."""

import numpy as np

from depthwise.compiler.lowering.recurrent import FUNCTIONS
from depthwise.compiler.lowering.sampling import MODES, OUTSIDE
from depthwise.compiler.verification.oracle.meanings import CallArguments, means
from depthwise.compiler.verification.oracle.memory import Array
from depthwise.graph import ops
from depthwise.graph.interpret import evaluate
from depthwise.graph.interpret_recurrent import STEPS


@means("f32_resample")
def resample(a: CallArguments) -> None:
    """Windows of neighbours along an axis, each times its weights."""
    weights = a.weights.read((sum(a.counts.values),), (1,))
    y = np.empty((*a.n, a.size, a.count), np.float32)
    start = 0
    for place, (first, count) in enumerate(zip(a.first.values, a.counts.values, strict=True)):
        window = a.x.read((*a.n, count, a.count), (*a.x_stride, a.x_step, 1), first * a.x_step)
        y[..., place, :] = np.einsum("...tc,t->...c", window, weights[start : start + count])
        start += count
    a.y.write(y.shape, (*a.y_stride, a.y_step, 1))[...] = y


@means("f32_grid_sample")
def grid_sample(a: CallArguments) -> None:
    """Pixels around each place of a grid; of an image that is read as a whole."""
    x = a.in_.read((a.images, a.in_rows, a.in_width, a.channels), a.strides("in"))
    grid = a.grid.read((a.images, a.out_height, a.out_width, 2),
                       (a.grid_image, a.grid_row, a.grid_pixel, a.grid_axis))  # fmt: skip
    op = ops.GridSample(MODES[a.mode], OUTSIDE[a.outside], bool(a.align_corners))
    shape = (a.images, a.out_height, a.out_width, a.channels)
    y = evaluate(op, x.transpose(0, 3, 1, 2), grid)
    a.out.write(shape, a.strides("out"))[...] = y.transpose(0, 2, 3, 1)


@means("f32_recurrent")
def recurrent(a: CallArguments) -> None:
    """Step by step, from what the input gives."""
    function, H, P = FUNCTIONS[a.function], a.hidden, a.state
    count = ops.Recurrent(function).gates
    gates = a.gates.read((a.steps, a.batch, count * H), (a.batch * count * H, count * H, 1))
    parts = [2 * H, H] if count == 3 else [count * H]
    panels, start = [], 0
    for outs in parts:
        panels.append(_panel(a, a.w, outs, P, start))
        start += -(-outs // a.lanes) * a.lanes * P
    bias = np.zeros(count * H, np.float32)
    if function == "gru":
        bias[2 * H :] = a.bias.read((H,), (1,))
    project = [_panel(a, a.project, P, H)] if a.projects else []
    step = STEPS[function](np.concatenate(panels), bias, *project)
    state = a.h.read((a.batch, P), (a.h_row, 1))
    if function == "lstm":
        state = np.concatenate((state, a.c.read((a.batch, H), (a.c_row, 1))), 1)
    a.work.write((a.batch * (count + 1) * H,), (1,))
    width = state.shape[1]
    y = a.y.write((a.steps, a.batch, width), (a.batch * width, width, 1))
    for t in reversed(range(a.steps)) if a.reverse else range(a.steps):
        y[t] = state = step(gates[t], state)


def _panel(a: CallArguments, weights, outs: int, inner: int, at: int = 0) -> Array:
    """Return (outs, inner) of a panel: blocks of up to four vectors of outputs."""
    padded = -(-outs // a.lanes) * a.lanes
    packed = weights.read((padded * inner,), (1,), at)
    blocks = []
    for first in range(0, padded, 4 * a.lanes):
        wide = min(4 * a.lanes, padded - first)
        blocks.append(packed[first * inner : (first + wide) * inner].reshape(inner, wide).T)
    return np.concatenate(blocks)[:outs]
