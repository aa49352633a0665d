"""Inception v4: arXiv:1602.07261, sections 3.1 and 4.

Where 1x7 and 7x1 follow each other, their order is that of the released code.
"""

from typing import NamedTuple

from torch import nn

from depthwise.families.branches import Branches, chain
from depthwise.families.classifier import Classifier
from depthwise.families.inception_v3 import COLUMN, ROW, cell, unpadded
from depthwise.families.registry import network


class ReductionA(NamedTuple):
    """One row of table 1, arXiv:1602.07261: the filters k, l, m and n of figure 7."""

    reduce: int
    first: int
    second: int
    conv3x3: int


REDUCTION_A = {
    #                               k    l    m    n
    "inception_v4":        ReductionA(192, 224, 256, 384),
    "inception_resnet_v2": ReductionA(256, 256, 384, 384),
}  # fmt: skip


@network(resolution=299)
def inception_v4(num_classes: int = 1000, in_channels: int = 3) -> Classifier:
    """Inception v4, for 299x299 pixels and from 75x75 on."""
    blocks = chain(
        **{f"inception_a{i}": inception_a() for i in range(1, 5)},
        reduction_a=reduction_a(384, REDUCTION_A["inception_v4"]),
        **{f"inception_b{i}": inception_b() for i in range(1, 8)},
        reduction_b=reduction_b(),
        **{f"inception_c{i}": inception_c() for i in range(1, 4)},
    )
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(1536, num_classes))
    return Classifier(stem(in_channels), blocks, head)


def stem(in_channels: int) -> nn.Sequential:
    """Return figure 3: 299x299 -> 35x35, C -> 384, each halving by a convolution and a pooling."""
    return chain(
        conv1=unpadded(in_channels, 32, 3, stride=2),
        conv2=unpadded(32, 32, 3),
        conv3=cell(32, 64, 3),
        reduction1=Branches(pool=nn.MaxPool2d(3, 2), conv3x3=unpadded(64, 96, 3, stride=2)),
        mixed=Branches(
            conv3x3=chain(reduce=cell(160, 64), conv=unpadded(64, 96, 3)),
            conv7x7=chain(
                reduce=cell(160, 64),
                row=cell(64, 64, ROW),
                column=cell(64, 64, COLUMN),
                conv=unpadded(64, 96, 3),
            ),
        ),
        reduction2=Branches(conv3x3=unpadded(192, 192, 3, stride=2), pool=nn.MaxPool2d(3, 2)),
    )


def inception_a() -> Branches:
    """Return figure 4, 35x35x384 -> 35x35x384."""
    return Branches(
        conv1x1=cell(384, 96),
        conv3x3=chain(reduce=cell(384, 64), conv=cell(64, 96, 3)),
        double3x3=chain(reduce=cell(384, 64), first=cell(64, 96, 3), second=cell(96, 96, 3)),
        pool=average(384, 96),
    )


def reduction_a(in_channels: int, row: ReductionA) -> Branches:
    """Return figure 7, 35x35 -> 17x17, C -> conv3x3 + second + C."""
    return Branches(
        conv3x3=unpadded(in_channels, row.conv3x3, 3, stride=2),
        double3x3=chain(
            reduce=cell(in_channels, row.reduce),
            first=cell(row.reduce, row.first, 3),
            second=unpadded(row.first, row.second, 3, stride=2),
        ),
        pool=nn.MaxPool2d(3, 2),
    )


def inception_b() -> Branches:
    """Return figure 5, 17x17x1024 -> 17x17x1024."""
    return Branches(
        conv1x1=cell(1024, 384),
        conv7x7=chain(
            reduce=cell(1024, 192),
            row=cell(192, 224, ROW),
            column=cell(224, 256, COLUMN),
        ),
        double7x7=chain(
            reduce=cell(1024, 192),
            column1=cell(192, 192, COLUMN),
            row1=cell(192, 224, ROW),
            column2=cell(224, 224, COLUMN),
            row2=cell(224, 256, ROW),
        ),
        pool=average(1024, 128),
    )


def reduction_b() -> Branches:
    """Return figure 8, 17x17x1024 -> 8x8x1536."""
    return Branches(
        conv3x3=chain(reduce=cell(1024, 192), conv=unpadded(192, 192, 3, stride=2)),
        conv7x7=chain(
            reduce=cell(1024, 256),
            row=cell(256, 256, ROW),
            column=cell(256, 320, COLUMN),
            conv=unpadded(320, 320, 3, stride=2),
        ),
        pool=nn.MaxPool2d(3, 2),
    )


def inception_c() -> Branches:
    """Return figure 6, 8x8x1536 -> 8x8x1536, 1x3 and 3x1 side by side at the ends."""
    return Branches(
        conv1x1=cell(1536, 256),
        conv3x3=chain(reduce=cell(1536, 384), split=_split(384)),
        double3x3=chain(
            reduce=cell(1536, 384),
            column=cell(384, 448, (3, 1)),
            row=cell(448, 512, (1, 3)),
            split=_split(512),
        ),
        pool=average(1536, 256),
    )


def _split(in_channels: int) -> Branches:
    return Branches(row=cell(in_channels, 256, (1, 3)), column=cell(in_channels, 256, (3, 1)))


def average(in_channels: int, projected: int) -> nn.Sequential:
    """Return the pooling branch, a mean of the 3x3 pixels inside the image, then 1x1."""
    return chain(
        pool=nn.AvgPool2d(3, 1, 1, count_include_pad=False), project=cell(in_channels, projected)
    )
