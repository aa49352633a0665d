"""Images sampled at computed places."""

from typing import Any

import numpy as np

from depthwise.graph import ops
from depthwise.graph.frontends.onnx.operands import Operands
from depthwise.graph.frontends.onnx.rules import refuse, rule
from depthwise.graph.resampling import affine_places

MODES: dict[str, Any] = {  # since opset 20, and before
    "linear": "bilinear", "cubic": "bicubic", "nearest": "nearest", "bilinear": "bilinear",
    "bicubic": "bicubic",
}  # fmt: skip


@rule("GridSample")
def _(n: Operands, *, mode="linear", padding_mode: Any = "zeros", align_corners=0):
    refuse(n[0].rank != 4, "it samples other than images (N, C, H, W)")
    op = ops.GridSample(MODES[mode], padding_mode, bool(align_corners))
    return n.emit(op, n[0], n[1])


@rule("AffineGrid")
def _(n: Operands, *, align_corners=0):
    sizes = n.ints(1)
    refuse(len(sizes) != 4, "it makes a grid of other than images (N, C, H, W)")
    places = n.constant(affine_places(sizes[2], sizes[3], bool(align_corners)).astype(np.float32))
    grid = n.emit(ops.MatMul(), places, n.permute(n[0], 0, 2, 1))
    return n.reshape(grid, sizes[0], *sizes[2:], 2)
