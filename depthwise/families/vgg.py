"""VGG-16: Simonyan & Zisserman, arXiv:1409.1556, and its form for CIFAR-10."""

from functools import partial
from typing import NamedTuple

from torch import nn

from depthwise.families.alexnet import hidden_layers
from depthwise.families.branches import chain
from depthwise.families.classifier import Classifier
from depthwise.families.registry import network
from depthwise.layers import ConvFactory, ConvNormAct, Norm, conv2d, conv_norm_act


class ConvGroup(NamedTuple):
    """The 3x3 convolutions between two pools of table 1, column D, arXiv:1409.1556."""

    out: int
    repeat: int


VGG16 = (
    #     out  repeat
    ConvGroup(64,  2),
    ConvGroup(128, 2),
    ConvGroup(256, 3),
    ConvGroup(512, 3),
    ConvGroup(512, 3),
)  # fmt: skip


def biased_conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, norm: Norm | None = None
) -> ConvNormAct:
    """Return VGG's cell: convolution with bias, normalisation if asked for, ReLU."""
    conv = conv2d(in_channels, out_channels, kernel_size, stride, bias=True)
    return ConvNormAct(conv, norm(out_channels) if norm else None, nn.ReLU())


CELLS: dict[str, ConvFactory] = {
    "vgg16": biased_conv,
    "vgg16_bn": partial(biased_conv, norm=nn.BatchNorm2d),
}


@network(*CELLS)
def vgg16(name: str, num_classes: int = 1000, in_channels: int = 3) -> Classifier:
    """VGG-16, without normalisation (the paper's) or with BatchNorm (torchvision's); 224x224."""
    blocks = _stages(in_channels, CELLS[name])
    head = hidden_layers(VGG16[-1].out * 7 * 7, num_classes)
    return Classifier(nn.Identity(), blocks, head, pool=nn.AdaptiveAvgPool2d(7))


@network(resolution=32)
def vgg16_cifar(
    num_classes: int = 10, in_channels: int = 3, conv: ConvFactory = conv_norm_act
) -> Classifier:
    """VGG-16 with BatchNorm and one hidden layer of 512, for 32x32 images; `conv` builds each 3x3.

    Li et al., arXiv:1608.08710, section 4.1; GhostNet's baseline (arXiv:1911.11907, section 4.1).
    """
    head = chain(
        hidden=nn.Linear(512, 512),
        norm=nn.BatchNorm1d(512),
        act=nn.ReLU(),
        linear=nn.Linear(512, num_classes),
    )
    return Classifier(nn.Identity(), _stages(in_channels, conv), head)


def _stages(channels: int, conv: ConvFactory) -> nn.Sequential:
    blocks = nn.Sequential()
    for row in VGG16:
        stage = nn.Sequential()
        for _ in range(row.repeat):
            stage.append(conv(channels, row.out, 3, 1))
            channels = row.out
        stage.add_module("pool", nn.MaxPool2d(2))
        blocks.append(stage)
    return blocks
