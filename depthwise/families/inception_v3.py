"""Inception v3: arXiv:1512.00567.

Table 1 of the paper gives no widths inside the modules; they, and the 5x5 branch that figure 5
does not have, are those of the released network.
"""

from functools import partial

from torch import nn

from depthwise.families.branches import Branches, chain
from depthwise.families.classifier import Classifier
from depthwise.families.registry import network
from depthwise.layers import ConvNormAct, KernelSize, conv_norm_act

batchnorm = partial(nn.BatchNorm2d, eps=1e-3)
cell = partial(conv_norm_act, norm=batchnorm)

ROW: KernelSize = (1, 7)
COLUMN: KernelSize = (7, 1)


def unpadded(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> ConvNormAct:
    """Return the usual cell without padding: a size H becomes (H - kernel) // stride + 1."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, bias=False)
    return ConvNormAct(conv, batchnorm(out_channels), nn.ReLU())


@network(resolution=299)
def inception_v3(num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2) -> Classifier:
    """Inception v3 without its auxiliary classifier, for 299x299 pixels and from 75x75 on."""
    stem = chain(
        conv1=unpadded(in_channels, 32, 3, stem_stride),
        conv2=unpadded(32, 32, 3),
        conv3=cell(32, 64, 3),
        pool1=nn.MaxPool2d(3, 2),
        conv4=cell(64, 80),
        conv5=unpadded(80, 192, 3),
        pool2=nn.MaxPool2d(3, 2),
    )
    blocks = chain(
        mixed_5b=mixed_35(192, projected=32),
        mixed_5c=mixed_35(256, projected=64),
        mixed_5d=mixed_35(288, projected=64),
        mixed_6a=reduce_35(288),
        mixed_6b=mixed_17(768, inner=128),
        mixed_6c=mixed_17(768, inner=160),
        mixed_6d=mixed_17(768, inner=160),
        mixed_6e=mixed_17(768, inner=192),
        mixed_7a=reduce_17(768),
        mixed_7b=mixed_8(1280),
        mixed_7c=mixed_8(2048),
    )
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2048, num_classes))
    return Classifier(stem, blocks, head)


# Each module is named by the size of its input when the image has 299 pixels.


def mixed_35(in_channels: int, projected: int) -> Branches:
    """Return a module of figure 5, two 3x3 in a row seeing 5x5 pixels: C -> 224 + projected."""
    return Branches(
        conv1x1=cell(in_channels, 64),
        conv5x5=chain(
            reduce=cell(in_channels, 48),
            conv=cell(48, 64, 5),
        ),
        double3x3=chain(
            reduce=cell(in_channels, 64),
            first=cell(64, 96, 3),
            second=cell(96, 96, 3),
        ),
        pool=_average(in_channels, projected),
    )


def reduce_35(in_channels: int) -> Branches:
    """Return the first grid reduction (figure 10): 35x35 -> 17x17, C -> 480 + C."""
    return Branches(
        conv3x3=unpadded(in_channels, 384, 3, stride=2),
        double3x3=chain(
            reduce=cell(in_channels, 64),
            first=cell(64, 96, 3),
            second=unpadded(96, 96, 3, stride=2),
        ),
        pool=nn.MaxPool2d(3, 2),
    )


def mixed_17(in_channels: int, inner: int) -> Branches:
    """Return a module of figure 6, 7x7 as 1x7 and 7x1 of `inner` channels: C -> 768."""
    return Branches(
        conv1x1=cell(in_channels, 192),
        conv7x7=chain(
            reduce=cell(in_channels, inner),
            row=cell(inner, inner, ROW),
            column=cell(inner, 192, COLUMN),
        ),
        double7x7=chain(
            reduce=cell(in_channels, inner),
            column1=cell(inner, inner, COLUMN),
            row1=cell(inner, inner, ROW),
            column2=cell(inner, inner, COLUMN),
            row2=cell(inner, 192, ROW),
        ),
        pool=_average(in_channels, 192),
    )


def reduce_17(in_channels: int) -> Branches:
    """Return the second grid reduction: 17x17 -> 8x8, C -> 512 + C."""
    return Branches(
        conv3x3=chain(
            reduce=cell(in_channels, 192),
            conv=unpadded(192, 320, 3, stride=2),
        ),
        conv7x7=chain(
            reduce=cell(in_channels, 192),
            row=cell(192, 192, ROW),
            column=cell(192, 192, COLUMN),
            conv=unpadded(192, 192, 3, stride=2),
        ),
        pool=nn.MaxPool2d(3, 2),
    )


def mixed_8(in_channels: int) -> Branches:
    """Return a module of figure 7, 1x3 and 3x1 side by side instead of in a row: C -> 2048."""
    return Branches(
        conv1x1=cell(in_channels, 320),
        conv3x3=chain(
            reduce=cell(in_channels, 384),
            split=_split(384),
        ),
        double3x3=chain(
            reduce=cell(in_channels, 448),
            conv=cell(448, 384, 3),
            split=_split(384),
        ),
        pool=_average(in_channels, 192),
    )


def _split(channels: int) -> Branches:
    return Branches(row=cell(channels, channels, (1, 3)), column=cell(channels, channels, (3, 1)))


def _average(in_channels: int, projected: int) -> nn.Sequential:
    return chain(pool=nn.AvgPool2d(3, 1, 1), project=cell(in_channels, projected))
