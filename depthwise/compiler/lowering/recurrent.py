"""Recurrent layers: a linear layer of all steps' inputs at once, then the steps."""

import numpy as np

from depthwise.compiler.fused_ops import Epilogue
from depthwise.compiler.lowering.builder import LoweringBuilder
from depthwise.compiler.lowering.conv import lower_linear
from depthwise.compiler.lowering.lower import lower
from depthwise.compiler.lowering.movement import packed_rows
from depthwise.compiler.lowering.operands import ConvOperands
from depthwise.compiler.lowering.packing import round_up
from depthwise.graph import Node, ops

# numbered as in kernels/recurrent.h
FUNCTIONS = ("lstm", "gru", "gru_reset_first", "rnn_tanh", "rnn_relu")
PANEL_VECTORS = 4  # of outputs in a block of a panel


@lower.register
def _(op: ops.Recurrent, node: Node, b: LoweringBuilder) -> None:
    """A gru multiplies what it makes of h by r: the bias of that cannot join the others."""
    x = b.read(node.inputs[0])
    weight_ih, weight_hh, bias_ih, bias_hh = (b.constant(name) for name in node.inputs[1:5])
    h, *cell = (packed_rows(b.read(name), b) for name in node.inputs[5:7])
    project = b.constant(node.inputs[7]) if len(node.inputs) > 7 else None
    (steps, batch, _), (rows, state) = x.shape, weight_hh.shape
    hidden, lanes = rows // op.gates, b.target.lanes
    apart = rows - hidden if op.function == "gru" else rows
    bias = bias_ih + np.where(np.arange(rows) < apart, bias_hh, 0)
    gates = b.temporary((steps, batch, rows))
    lower_linear(ops.Linear(), ConvOperands(x, weight_ih, bias, gates, None, Epilogue()), b)
    panels = np.split(weight_hh, [2 * hidden]) if op.gates == 3 else [weight_hh]
    b.call(
        "f32_recurrent", function=FUNCTIONS.index(op.function), steps=steps, batch=batch,
        hidden=hidden, state=state, projects=int(project is not None), reverse=int(op.reverse),
        h_row=h.strides[0], c_row=cell[0].strides[0] if cell else 0, gates=gates,
        w=b.weights(np.concatenate([pack_panel(panel, lanes) for panel in panels])),
        bias=b.weights(bias_hh[apart:]) if apart < rows else None,
        project=None if project is None else b.weights(pack_panel(project, lanes)), h=h,
        c=cell[0] if cell else None, work=b.temporary((batch * (rows + hidden),)),
        y=b.write(node),
    )  # fmt: skip


def pack_panel(weight: np.ndarray, lanes: int) -> np.ndarray:
    """Return weights (outs, inner) in the blocks that kernels/recurrent.h describes."""
    outs, inner = weight.shape
    padded = np.zeros((round_up(outs, lanes), inner), np.float32)
    padded[:outs] = weight
    wide = PANEL_VECTORS * lanes
    blocks = (padded[k : k + wide].T for k in range(0, len(padded), wide))
    return np.concatenate([block.ravel() for block in blocks])
