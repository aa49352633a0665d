"""MobileNet V1, V2 and V3: arXiv:1704.04861, arXiv:1801.04381, arXiv:1905.02244."""

from collections import OrderedDict
from functools import partial
from typing import Literal, NamedTuple

from torch import nn

from depthwise.families.classifier import Classifier, scale_channels
from depthwise.families.dense import OutputStride, dilate_blocks
from depthwise.families.registry import network
from depthwise.layers import (
    Act,
    ConvFactory,
    InvertedResidual,
    SeparableConv,
    SqueezeExcite,
    conv_norm_act,
    hardsigmoid,
    hardswish,
    relu,
    relu6,
)

# ---------------------------------------------------------------------------------- V1


class Separable(NamedTuple):
    """One pair of rows (Conv dw, Conv) of table 1, arXiv:1704.04861."""

    out: int
    stride: int


V1 = (
    #         out   stride
    Separable(64,   1),
    Separable(128,  2),
    Separable(128,  1),
    Separable(256,  2),
    Separable(256,  1),
    Separable(512,  2),
    Separable(512,  1),
    Separable(512,  1),
    Separable(512,  1),
    Separable(512,  1),
    Separable(512,  1),
    Separable(1024, 2),
    Separable(1024, 1),  # the table prints s2 here, and 7x7 on both sides of it
)  # fmt: skip

separable_relu6: ConvFactory = partial(SeparableConv, act=relu6)


@network()
def mobilenet_v1(
    width: float = 1.0, num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2,
    output_stride: OutputStride = 32, shallow: bool = False, conv: ConvFactory = separable_relu6,
) -> Classifier:  # fmt: skip
    """MobileNetV1. `shallow` leaves out the five 14x14x512 rows (table 5), `conv` builds each row.

    ReLU6 as in the released code; the paper writes ReLU.
    """
    rows = V1[:6] + V1[11:] if shallow else V1
    scale = partial(scale_channels, width=width, divisor=1)
    channels = scale(32)
    stem = conv_norm_act(in_channels, channels, 3, stem_stride, act=relu6)
    blocks = nn.Sequential()
    for row in rows:
        blocks.append(conv(channels, scale(row.out), 3, row.stride))
        channels = scale(row.out)
    dilate_blocks(blocks, stem_stride, output_stride)
    return Classifier(stem, blocks, nn.Linear(channels, num_classes))


# ---------------------------------------------------------------------------------- V2


class Bottleneck(NamedTuple):
    """One row of table 2, arXiv:1801.04381: t, c, n, s."""

    expand: int
    out: int
    repeat: int
    stride: int


V2 = (
    #          expand out  repeat stride
    Bottleneck(1,     16,  1,     1),
    Bottleneck(6,     24,  2,     2),
    Bottleneck(6,     32,  3,     2),
    Bottleneck(6,     64,  4,     2),
    Bottleneck(6,     96,  3,     1),
    Bottleneck(6,     160, 3,     2),
    Bottleneck(6,     320, 1,     1),
)  # fmt: skip


@network()
def mobilenet_v2(
    width: float = 1.0, num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2,
    output_stride: OutputStride = 32,
) -> Classifier:  # fmt: skip
    """MobileNetV2. Widths below 1 keep the last convolution's 1280 channels, as in the paper."""
    scale = partial(scale_channels, width=width)
    cell = partial(conv_norm_act, act=relu6)
    channels, last = scale(32), scale_channels(1280, max(1.0, width))
    stem = cell(in_channels, channels, 3, stem_stride)
    blocks = nn.Sequential()
    for row in V2:
        for repeat in range(row.repeat):
            stride = row.stride if repeat == 0 else 1
            out = scale(row.out)
            blocks.append(
                InvertedResidual(channels, channels * row.expand, out, stride=stride, cell=cell)
            )
            channels = out
    dilate_blocks(blocks, stem_stride, output_stride)
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes))
    return Classifier(stem, blocks, head, cell(channels, last))


# ---------------------------------------------------------------------------------- V3


class Bneck(NamedTuple):
    """One row of tables 1 and 2, arXiv:1905.02244."""

    kernel_size: int
    expanded: int
    out: int
    gate: bool
    act: Act
    stride: int


LARGE = (
    #     kernel expanded out  gate   act      stride
    Bneck(3,     16,      16,  False, relu,    1),
    Bneck(3,     64,      24,  False, relu,    2),
    Bneck(3,     72,      24,  False, relu,    1),
    Bneck(5,     72,      40,  True,  relu,    2),
    Bneck(5,     120,     40,  True,  relu,    1),
    Bneck(5,     120,     40,  True,  relu,    1),
    Bneck(3,     240,     80,  False, hardswish, 2),
    Bneck(3,     200,     80,  False, hardswish, 1),
    Bneck(3,     184,     80,  False, hardswish, 1),
    Bneck(3,     184,     80,  False, hardswish, 1),
    Bneck(3,     480,     112, True,  hardswish, 1),
    Bneck(3,     672,     112, True,  hardswish, 1),
    Bneck(5,     672,     160, True,  hardswish, 2),
    Bneck(5,     960,     160, True,  hardswish, 1),
    Bneck(5,     960,     160, True,  hardswish, 1),
)  # fmt: skip

SMALL = (
    #     kernel expanded out  gate   act      stride
    Bneck(3,     16,      16,  True,  relu,    2),
    Bneck(3,     72,      24,  False, relu,    2),
    Bneck(3,     88,      24,  False, relu,    1),
    Bneck(5,     96,      40,  True,  hardswish, 2),
    Bneck(5,     240,     40,  True,  hardswish, 1),
    Bneck(5,     240,     40,  True,  hardswish, 1),
    Bneck(5,     120,     48,  True,  hardswish, 1),
    Bneck(5,     144,     48,  True,  hardswish, 1),
    Bneck(5,     288,     96,  True,  hardswish, 2),
    Bneck(5,     576,     96,  True,  hardswish, 1),
    Bneck(5,     576,     96,  True,  hardswish, 1),
)  # fmt: skip

# How width scales a row. "paper": the ratio expanded / in stays and the head keeps its width, as
# in the released code and table 5; "torchvision": the column `expanded` and the head scale.
Scaling = Literal["paper", "torchvision"]


class Variant(NamedTuple):
    """One of the two tables, and the channels of its hidden layer after the pooling."""

    rows: tuple[Bneck, ...]
    hidden: int


V3 = {"mobilenet_v3_large": Variant(LARGE, 1280), "mobilenet_v3_small": Variant(SMALL, 1024)}


@network(*V3)
def mobilenet_v3(
    name: str, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3,
    stem_stride: int = 2, output_stride: OutputStride = 32, scaling: Scaling = "paper",
) -> Classifier:  # fmt: skip
    """MobileNetV3. The hidden layer stands after the pooling (section 5.1, figure 5)."""
    rows, hidden = V3[name]
    scale = partial(scale_channels, width=width)
    cell = partial(conv_norm_act, norm=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01))
    channels = scale(16)
    stem = cell(in_channels, channels, 3, stem_stride, act=hardswish)
    blocks, table_channels = nn.Sequential(), 16
    for row in rows:
        by_ratio = scale_channels(channels, row.expanded / table_channels)
        expanded = by_ratio if scaling == "paper" else scale(row.expanded)
        gate = None
        if row.gate:
            gate = SqueezeExcite(expanded, scale_channels(expanded, 1 / 4), gate=hardsigmoid)
        out, act_cell = scale(row.out), partial(cell, act=row.act)
        blocks.append(
            InvertedResidual(channels, expanded, out, row.kernel_size, row.stride, gate, act_cell)
        )
        channels, table_channels = out, row.out
    dilate_blocks(blocks, stem_stride, output_stride)
    last = scale(rows[-1].expanded)
    hidden = hidden if scaling == "paper" else scale(hidden)
    head = nn.Sequential(
        OrderedDict(
            hidden=nn.Linear(last, hidden),
            act=hardswish(),
            dropout=nn.Dropout(0.2),
            linear=nn.Linear(hidden, num_classes),
        )
    )
    return Classifier(stem, blocks, head, cell(channels, last, act=hardswish))
