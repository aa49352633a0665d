"""AlexNet: Krizhevsky, Sutskever & Hinton, NIPS 2012; and its later form, arXiv:1404.5997."""

from itertools import pairwise
from typing import NamedTuple

from torch import nn

from depthwise.families.branches import chain
from depthwise.families.classifier import Classifier
from depthwise.families.registry import network
from depthwise.layers import conv2d


class Conv(NamedTuple):
    """One convolutional layer of section 3.5; `split` ones see the maps of their own GPU only."""

    kernel_size: int
    out: int
    split: bool
    normalised: bool
    pooled: bool


PAPER = (
    #    kernel out  split  normalised pooled
    Conv(11,    96,  False, True,      True),
    Conv(5,     256, True,  True,      True),
    Conv(3,     384, False, False,     False),
    Conv(3,     384, True,  False,     False),
    Conv(3,     256, True,  False,     True),
)  # fmt: skip

# the single column of arXiv:1404.5997; torchvision has 256 maps in the fourth layer, the text 384
TORCHVISION = (
    #    kernel out  split  normalised pooled
    Conv(11,    64,  False, False,     True),
    Conv(5,     192, False, False,     True),
    Conv(3,     384, False, False,     False),
    Conv(3,     256, False, False,     False),
    Conv(3,     256, False, False,     True),
)  # fmt: skip


@network(resolution=227)
def alexnet(num_classes: int = 1000, in_channels: int = 3, groups: int = 2) -> Classifier:
    """AlexNet as published, for 227x227 images: `groups` is the number of GPUs it is split over.

    The paper says 224, but only 227 gives its 55x55 maps. groups=1 joins the two halves.
    """
    first = PAPER[0]
    stem = _layer(nn.Conv2d(in_channels, first.out, first.kernel_size, 4), first)
    return _classifier(stem, PAPER, groups, num_classes)


@network()
def alexnet_torchvision(num_classes: int = 1000, in_channels: int = 3) -> Classifier:
    """AlexNet as torchvision lays it out: one column, no local normalisation, 224x224 images.

    Dropout follows the hidden layers as in the paper; torchvision puts it before them.
    """
    first = TORCHVISION[0]
    stem = _layer(nn.Conv2d(in_channels, first.out, first.kernel_size, 4, padding=2), first)
    return _classifier(stem, TORCHVISION, 1, num_classes)


def hidden_layers(in_features: int, num_classes: int) -> nn.Sequential:
    """Return two hidden layers of 4096 with dropout, then the scores: AlexNet's head, and VGG's."""
    return chain(
        fc6=nn.Linear(in_features, 4096),
        act6=nn.ReLU(),
        dropout6=nn.Dropout(0.5),
        fc7=nn.Linear(4096, 4096),
        act7=nn.ReLU(),
        dropout7=nn.Dropout(0.5),
        fc8=nn.Linear(4096, num_classes),
    )


def _classifier(
    stem: nn.Sequential, rows: tuple[Conv, ...], groups: int, num_classes: int
) -> Classifier:
    """Put the layers after the first, and the head, after `stem`; pooling is exact at 6x6 maps."""
    blocks = nn.Sequential()
    for before, row in pairwise(rows):
        split = groups if row.split else 1
        conv = conv2d(before.out, row.out, row.kernel_size, groups=split, bias=True)
        blocks.append(_layer(conv, row))
    head = hidden_layers(rows[-1].out * 6 * 6, num_classes)
    return Classifier(stem, blocks, head, pool=nn.AdaptiveAvgPool2d(6))


def _layer(conv: nn.Conv2d, row: Conv) -> nn.Sequential:
    layer = chain(conv=conv, act=nn.ReLU())
    if row.normalised:
        # alpha is 1e-4 in the paper; torch divides its own by the 5 maps of the sum
        layer.add_module("norm", nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
    if row.pooled:
        layer.add_module("pool", nn.MaxPool2d(3, 2))  # overlapping, section 3.4
    return layer
