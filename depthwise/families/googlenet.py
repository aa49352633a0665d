"""GoogLeNet, the first Inception network: arXiv:1409.4842."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from torch import nn

from depthwise.families.branches import Branches, chain
from depthwise.families.classifier import Classifier
from depthwise.families.registry import network
from depthwise.layers import Act, Cell, ConvNormAct, conv2d, conv_norm_act


class Inception(NamedTuple):
    """One row "inception" of table 1, arXiv:1409.4842: the output channels of its convolutions."""

    name: str
    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    pool_proj: int

    @property
    def out(self) -> int:
        """The output channels: the four branches side by side."""
        return self.conv1x1 + self.conv3x3 + self.conv5x5 + self.pool_proj


V1 = (
    #               #1x1 reduce #3x3 reduce #5x5 pool proj
    Inception("3a", 64,  96,    128, 16,    32,  32),
    Inception("3b", 128, 128,   192, 32,    96,  64),
    Inception("4a", 192, 96,    208, 16,    48,  64),
    Inception("4b", 160, 112,   224, 24,    64,  64),
    Inception("4c", 128, 128,   256, 24,    64,  64),
    Inception("4d", 112, 144,   288, 32,    64,  64),
    Inception("4e", 256, 160,   320, 32,    128, 128),
    Inception("5a", 256, 160,   320, 32,    128, 128),
    Inception("5b", 384, 192,   384, 48,    128, 128),
)  # fmt: skip


def conv_relu(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1
) -> ConvNormAct:
    """Return a 'same' convolution with bias and its ReLU: the cell of 2014, nothing normalised."""
    return ConvNormAct(
        conv2d(in_channels, out_channels, kernel_size, stride, bias=True), act=nn.ReLU()
    )


class Release(NamedTuple):
    """What the paper and torchvision do differently with the one table.

    `cell` is every convolution, `kernel5x5` what the column #5x5 really has, `pool_after` the
    kernel of the max pooling after a row, `response_norm` what stands around the second
    convolution, `dropout` the share of the last features that training drops.
    """

    cell: Cell
    kernel5x5: int
    pool_after: Mapping[str, int]
    response_norm: Act
    dropout: float


RELEASES = {
    # size 5, alpha 1e-4, beta 0.75 and k 1 are torch's and Caffe's; the paper gives none
    "googlenet": Release(
        conv_relu, 5, {"3b": 3, "4e": 3}, partial(nn.LocalResponseNorm, 5), dropout=0.4
    ),
    # 3x3 for 5x5 came from the TensorFlow checkpoint that the weights were ported from
    "googlenet_torchvision": Release(
        partial(conv_norm_act, norm=partial(nn.BatchNorm2d, eps=1e-3)), 3, {"3b": 3, "4e": 2},
        nn.Identity, dropout=0.2,
    ),
}  # fmt: skip


@network(*RELEASES)
def googlenet(
    name: str, num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2
) -> Classifier:
    """GoogLeNet without its two auxiliary classifiers, as the paper or as torchvision has it.

    Poolings round up, so that 224 pixels become 56, 28, 14 and 7; the paper's needs 31 pixels,
    torchvision's 15.
    """
    release = RELEASES[name]
    cell, pool = release.cell, partial(nn.MaxPool2d, stride=2, ceil_mode=True)
    stem = chain(
        conv1=cell(in_channels, 64, 7, stem_stride),
        pool1=pool(3),
        norm1=release.response_norm(),
        reduce2=cell(64, 64),
        conv2=cell(64, 192, 3),
        norm2=release.response_norm(),
        pool2=pool(3),
    )
    blocks, channels = nn.Sequential(), 192
    for row in V1:
        blocks.add_module(
            f"inception_{row.name}", inception(channels, row, cell, release.kernel5x5)
        )
        if row.name in release.pool_after:
            blocks.add_module(f"pool_{row.name[0]}", pool(release.pool_after[row.name]))
        channels = row.out
    head = nn.Sequential(nn.Dropout(release.dropout), nn.Linear(channels, num_classes))
    net = Classifier(stem, blocks, head)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            # The paper normalises nothing, and by fan out each convolution that cuts channels
            # amplifies: last features of deviation 122, and NaN within 7 steps of SGD at 0.01.
            # By fan in the deviation is 3 and the loss falls.
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return net


def inception(in_channels: int, row: Inception, cell: Cell, kernel5x5: int = 5) -> Branches:
    """Return an inception module with dimension reductions: figure 2(b), (N, C, H, W) -> row.out.

    1x1 convolutions cut the channels in front of the large kernels and after the pooling.
    """
    return Branches(
        conv1x1=cell(in_channels, row.conv1x1),
        conv3x3=chain(
            reduce=cell(in_channels, row.reduce3x3),
            conv=cell(row.reduce3x3, row.conv3x3, 3),
        ),
        conv5x5=chain(
            reduce=cell(in_channels, row.reduce5x5),
            conv=cell(row.reduce5x5, row.conv5x5, kernel5x5),
        ),
        pool=chain(
            pool=nn.MaxPool2d(3, 1, 1),
            project=cell(in_channels, row.pool_proj),
        ),
    )
