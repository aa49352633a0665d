"""Layers with weights and normalisations as functions, where no module of PyTorch's has them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from depthwise.graph import ops
from depthwise.graph.exporters.torch.rules import function_of
from depthwise.graph.ops import Padding


def pad_plane(x: Tensor, padding: Padding, value: float = 0.0) -> Tensor:
    """Return (N, C, H, W) with pixels around each plane; negative ones are cut off."""
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), value=value)


@function_of.register
def _(op: ops.Conv2d, site):  # noqa: ARG001
    def convolve(x, weight, bias=None):
        sides = (op.padding.top, op.padding.left)
        if not op.padding.symmetric:
            x, sides = pad_plane(x, op.padding), (0, 0)
        return F.conv2d(x, weight, bias, op.stride, sides, op.dilation, op.groups)

    return convolve


@function_of.register
def _(op: ops.ConvTranspose2d, site):  # noqa: ARG001
    """Make all that the stamps reach, cut it, and add the bias to what lies beyond them, too."""
    pad = op.padding

    def convolve(x, weight, bias=None):
        y = F.conv_transpose2d(x, weight, stride=op.stride, groups=op.groups, dilation=op.dilation)
        y = pad_plane(y, Padding(*(-side for side in pad)))
        return y if bias is None else y + bias.view(-1, 1, 1)

    return convolve


@function_of.register
def _(op: ops.DeformConv2d, site):  # noqa: ARG001
    from torchvision.ops import deform_conv2d  # noqa: PLC0415  (not all need torchvision)

    def convolve(x, weight, bias, offsets, mask=None):
        sides = (op.padding.top, op.padding.left)
        return deform_conv2d(
            x, offsets.expand(len(x), -1, -1, -1), weight, bias, op.stride, sides, op.dilation,
            None if mask is None else mask.expand(len(x), -1, -1, -1),
        )  # fmt: skip

    return convolve


@function_of.register
def _(op: ops.DeformRoIPool, site):  # noqa: ARG001
    from depthwise.layers.roi import deform_roi_pool  # noqa: PLC0415

    def pool(x, boxes, offsets):
        how = op.output_size, op.spatial_scale, op.samples, op.gamma
        return deform_roi_pool(x, boxes, offsets, *how)

    return pool


@function_of.register
def _(op: ops.Linear, site):  # noqa: ARG001
    return F.linear


@function_of.register
def _(op: ops.MatMul, site):  # noqa: ARG001
    return torch.matmul


@function_of.register
def _(op: ops.BatchNorm, site):  # noqa: ARG001
    return lambda x, weight, bias, mean, variance: F.batch_norm(
        x, mean, variance, weight, bias, eps=op.eps
    )


@function_of.register
def _(op: ops.GroupNorm, site):  # noqa: ARG001
    return lambda x, weight=None, bias=None: F.group_norm(x, op.groups, weight, bias, op.eps)


@function_of.register
def _(op: ops.LayerNorm, site):
    shape = site.shapes[0][-op.axes :]
    return lambda x, weight=None, bias=None: F.layer_norm(x, shape, weight, bias, op.eps)


@function_of.register
def _(op: ops.LocalResponseNorm, site):  # noqa: ARG001
    return lambda x: F.local_response_norm(x, op.size, op.alpha, op.power, op.bias)


@function_of.register
def _(op: ops.PRelu, site):  # noqa: ARG001
    return F.prelu
