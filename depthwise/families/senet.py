"""SE-ResNet-50 and SENet-154: Hu et al., arXiv:1709.01507."""

from torch import nn

from depthwise.families.branches import chain
from depthwise.families.classifier import Classifier
from depthwise.families.dense import OutputStride, dilate_blocks
from depthwise.families.registry import network
from depthwise.families.resnet import (
    BOTTLENECK,
    Residual,
    StemStride,
    bottleneck_body,
    projection,
    stack,
)
from depthwise.layers import SqueezeExcite, conv_norm_act

CHANNELS = (256, 512, 1024, 2048)
REDUCTION = 16  # r of section 6.1
GROUPS = 64


def se_bottleneck(in_channels: int, out_channels: int, stride: int) -> Residual:
    """Return a bottleneck that strides on its first 1x1, gated before the sum: figure 3."""
    body = bottleneck_body(in_channels, out_channels, stride, "1x1")
    body.add_module("gate", SqueezeExcite(out_channels, out_channels // REDUCTION))
    return Residual(body, projection(in_channels, out_channels, stride))


def senet154_bottleneck(in_channels: int, out_channels: int, stride: int) -> Residual:
    """Return SENet-154's block: 1x1 to half, 3x3 in 64 groups to all, 1x1, gate (appendix).

    A shortcut that strides is a 3x3 convolution, so that it sees every pixel.
    """
    half = out_channels // 2
    body = chain(
        reduce=conv_norm_act(in_channels, half),
        spatial=conv_norm_act(half, out_channels, 3, stride, GROUPS),
        restore=conv_norm_act(out_channels, out_channels, act=None),
        gate=SqueezeExcite(out_channels, out_channels // REDUCTION),
    )
    kernel_size = 3 if stride > 1 else 1
    return Residual(body, projection(in_channels, out_channels, stride, kernel_size))


def _pool(stem_stride: StemStride) -> nn.Module:
    # Caffe's pooling: no padding, but a last window that may hang over the edge
    return nn.MaxPool2d(3, 2, ceil_mode=True) if stem_stride == 4 else nn.Identity()


@network()
def se_resnet50(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: StemStride = 4,
    output_stride: OutputStride = 32,
) -> Classifier:  # fmt: skip
    """ResNet-50 with squeeze-and-excitation, as its authors released it."""
    cell = conv_norm_act(in_channels, 64, 7, min(stem_stride, 2))
    stem = chain(cell=cell, pool=_pool(stem_stride))
    blocks = stack(se_bottleneck, 64, CHANNELS, BOTTLENECK["resnet50"])
    dilate_blocks(blocks, stem_stride, output_stride)
    return Classifier(stem, blocks, nn.Linear(CHANNELS[-1], num_classes))


@network()
def senet154(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: StemStride = 4,
    output_stride: OutputStride = 32,
) -> Classifier:  # fmt: skip
    """SENet-154, as its authors released it: ResNet-152's depth, grouped 3x3, deeper stem."""
    stem = chain(
        cell1=conv_norm_act(in_channels, 64, 3, min(stem_stride, 2)),
        cell2=conv_norm_act(64, 64, 3),
        cell3=conv_norm_act(64, 128, 3),
        pool=_pool(stem_stride),
    )
    blocks = stack(senet154_bottleneck, 128, CHANNELS, BOTTLENECK["resnet152"])
    dilate_blocks(blocks, stem_stride, output_stride)
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(CHANNELS[-1], num_classes))
    return Classifier(stem, blocks, head)
