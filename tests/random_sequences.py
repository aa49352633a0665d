"""Ways to continue a random graph: recurrent layers, resampled axes, images sampled at places."""

import numpy as np
from sketch import Sketch, Unfit

from depthwise.graph import ops
from depthwise.graph.builder import Value


def resample(d: Sketch, x: Value) -> Value:
    """Take windows of any axis, in any order."""
    if not x.rank:
        raise Unfit
    axis = d.whole(0, x.rank - 1)
    size = x.shape[axis]
    first = tuple(d.whole(0, size - 1) for _ in range(d.whole(1, 9)))
    counts = tuple(d.whole(1, min(4, size - start)) for start in first)
    weights = d.constant(d.normal(sum(counts)) / np.sqrt(max(counts)))
    return d.emit(ops.Resample(axis, first, counts), x, weights)


def grid_sample(d: Sketch, x: Value) -> Value:
    """Sample where a convolution says, or at fixed places; nearest pixels jump: not these."""
    if x.rank != 4:
        raise Unfit
    n, c, h, w = x.shape
    mode, outside = d.pick(("bilinear", "bicubic")), d.pick(("zeros", "border", "reflection"))
    if d.chance(0.5):
        grid = d.constant(d.random.uniform(-1.3, 1.3, (n, d.whole(1, 9), d.whole(1, 9), 2)))
    else:
        flow = d.emit(ops.Conv2d((1, 1), ops.Padding(0, 0, 0, 0), (1, 1), 1), x,
                      d.filters(2, c, min(2, h), min(2, w)))  # fmt: skip
        grid = d.emit(ops.Permute((0, 2, 3, 1)), d.tame(flow))
        grid = d.emit(ops.Activation("tanh"), grid) if d.chance(0.5) else grid
    return d.emit(ops.GridSample(mode, outside, d.chance(0.5)), x, grid)


def recurrent(d: Sketch, x: Value) -> Value:
    """Run over rows of an image, or over a sequence; read all states or the outputs alone."""
    if x.rank == 4:
        n, c, h, w = x.shape
        x = d.emit(ops.Reshape((w, n * h, c)), d.emit(ops.Permute((3, 0, 2, 1)), x))
    if x.rank != 3:
        raise Unfit
    _, batch, channels = x.shape
    op = ops.Recurrent(d.pick(("lstm", "lstm", "gru", "gru_reset_first", "rnn_tanh", "rnn_relu")),
                       d.chance(0.5))  # fmt: skip
    hidden, lstm = d.channels(), op.function == "lstm"
    projects = lstm and d.chance(0.3)
    outputs, rows = d.whole(1, hidden) if projects else hidden, op.gates * hidden
    scale = 0.5 if op.function == "rnn_relu" else 1.0
    weights = [d.filters(rows, channels), d.filters(rows, outputs)]
    weights[1] = d.constant(scale * d.numbers[weights[1].name])
    biases = [d.constant(d.normal(rows)) for _ in range(2)]
    states = [d.constant(d.normal(batch, width)) for width in (outputs, hidden)[: 1 + lstm]]
    project = [d.filters(outputs, hidden)] if projects else []
    y = d.emit(op, x, *weights, *biases, *states, *project)
    return d.emit(ops.Slice(2, 0, outputs, 1), y) if lstm and d.chance(0.7) else y
