"""BN-Inception, also called Inception v2: arXiv:1502.03167."""

from typing import Literal, NamedTuple

from torch import nn

from depthwise.families.branches import Branches, chain
from depthwise.families.classifier import Classifier
from depthwise.families.registry import network
from depthwise.layers import (
    ConvFactory,
    ConvNormAct,
    conv_norm_act,
    depthwise_conv2d,
    pointwise_conv2d,
)


class Inception(NamedTuple):
    """One row "inception" of figure 5, arXiv:1502.03167: output channels, and how it pools.

    Rows of stride 2 have no 1x1 branch and pass their pooled input through: 0 in the table.
    """

    name: str
    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce_double: int
    double3x3: int
    pool: Literal["avg", "max"]
    pool_proj: int
    stride: int


V2 = (
    #               #1x1 reduce #3x3 reduce double pool   proj stride
    Inception("3a", 64,  64,    64,  64,    96,    "avg", 32,  1),
    Inception("3b", 64,  64,    96,  64,    96,    "avg", 64,  1),
    Inception("3c", 0,   128,   160, 64,    96,    "max", 0,   2),
    Inception("4a", 224, 64,    96,  96,    128,   "avg", 128, 1),
    Inception("4b", 192, 96,    128, 96,    128,   "avg", 128, 1),
    Inception("4c", 160, 128,   160, 128,   160,   "avg", 128, 1),  # 608, where 576 is printed
    Inception("4d", 96,  128,   192, 160,   192,   "avg", 128, 1),  # 608, where 576 is printed
    Inception("4e", 0,   128,   192, 192,   256,   "max", 0,   2),  # 1056, where 1024 is printed
    Inception("5a", 352, 192,   320, 160,   224,   "avg", 128, 1),
    Inception("5b", 352, 192,   320, 192,   224,   "max", 128, 1),
)  # fmt: skip


def separable_by_8(
    in_channels: int, out_channels: int, kernel_size: int = 7, stride: int = 2
) -> nn.Sequential:
    """Return a separable convolution with 8 kernels a channel: the first layer, by the appendix."""
    return chain(
        depthwise=depthwise_conv2d(in_channels, kernel_size, stride, multiplier=8),
        pointwise=pointwise_conv2d(in_channels * 8, out_channels),
    )


@network()
def bn_inception(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2,
    stem_conv: ConvFactory = separable_by_8,
) -> Classifier:  # fmt: skip
    """BN-Inception (Inception v2). `stem_conv` is the 7x7 convolution that the network begins with.

    The ports to Caffe and PyTorch begin with a plain one: stem_conv=depthwise.layers.conv2d.
    No dropout (section 4.2.1).
    Poolings are padded as the convolutions beside them, so that odd sizes agree.
    """
    stem = chain(
        conv1=ConvNormAct(
            stem_conv(in_channels, 64, 7, stem_stride), nn.BatchNorm2d(64), nn.ReLU()
        ),
        pool1=nn.MaxPool2d(3, 2, 1),
        reduce2=conv_norm_act(64, 64),
        conv2=conv_norm_act(64, 192, 3),
        pool2=nn.MaxPool2d(3, 2, 1),
    )
    blocks, channels = nn.Sequential(), 192
    for row in V2:
        blocks.add_module(f"inception_{row.name}", inception(channels, row))
        channels = row.conv1x1 + row.conv3x3 + row.double3x3 + (row.pool_proj or channels)
    return Classifier(stem, blocks, nn.Linear(channels, num_classes))


def inception(in_channels: int, row: Inception) -> Branches:
    """Return one module: GoogLeNet's, its 5x5 replaced by two 3x3. The last layers bear the stride.

    (N, C, H, W) -> (N, K, H / stride, W / stride), rounded up.
    """
    branches: dict[str, nn.Module] = {}
    if row.conv1x1:
        branches["conv1x1"] = conv_norm_act(in_channels, row.conv1x1)
    branches["conv3x3"] = chain(
        reduce=conv_norm_act(in_channels, row.reduce3x3),
        conv=conv_norm_act(row.reduce3x3, row.conv3x3, 3, row.stride),
    )
    branches["double3x3"] = chain(
        reduce=conv_norm_act(in_channels, row.reduce_double),
        first=conv_norm_act(row.reduce_double, row.double3x3, 3),
        second=conv_norm_act(row.double3x3, row.double3x3, 3, row.stride),
    )
    pool = (nn.AvgPool2d if row.pool == "avg" else nn.MaxPool2d)(3, row.stride, 1)
    branches["pool"] = (
        chain(pool=pool, project=conv_norm_act(in_channels, row.pool_proj))
        if row.pool_proj
        else pool
    )
    return Branches(**branches)
