"""The output shapes of recurrent layers, and of what resamples an axis or samples images."""

from collections.abc import Iterable

from depthwise.graph import ops
from depthwise.graph.infer import infer_shape


def expect(rules: Iterable[tuple[bool, str]]) -> None:
    """Raise ValueError with the message of the first rule that does not hold."""
    broken = next((message for fits, message in rules if not fits), None)
    if broken:
        raise ValueError(broken)


@infer_shape.register
def _(op: ops.Resample, x, weights):
    taps = sum(op.counts)
    last = max(map(sum, zip(op.first, op.counts, strict=True)))
    expect((
        (min(op.first) >= 0 and last <= x[op.axis], f"windows from {min(op.first)} to {last}: {x}"),
        (weights == (taps,), f"weights {weights}: the windows have {taps} elements"),
    ))  # fmt: skip
    return (*x[: op.axis], len(op.first), *x[op.axis + 1 :])


@infer_shape.register
def _(op: ops.GridSample, x, grid):  # noqa: ARG001
    fits = len(x) == len(grid) == 4 and x[0] == grid[0] and grid[3] == 2
    expect([(fits, f"grid {grid} of input {x}: need (N, H', W', 2) and (N, C, H, W)")])
    return (*x[:2], *grid[1:3])


@infer_shape.register
def _(op: ops.Recurrent, x, weight_ih, weight_hh, bias_ih, bias_hh, h, *rest):
    steps, batch, channels = x
    rows, state = weight_hh
    hidden = rows // op.gates
    cell = [(batch, hidden)] if op.function == "lstm" else []
    project = [(state, hidden)] if len(rest) > 1 else []
    expect((
        (rows == hidden * op.gates, f"weight {weight_hh}: {rows} rows are not {op.gates} gates"),
        (weight_ih == (rows, channels), f"weight {weight_ih} does not fit input {x}"),
        (bias_ih == bias_hh == (rows,), f"biases {bias_ih}, {bias_hh} do not fit {weight_hh}"),
        (h == (batch, state), f"initial state {h}: need {(batch, state)}"),
        ([*rest] == cell + project, f"cell and projection {rest}: need {cell + project}"),
        (bool(project) or state == hidden, f"weight {weight_hh}: a state of {hidden} is not"),
    ))  # fmt: skip
    return (steps, batch, state + (hidden if cell else 0))
