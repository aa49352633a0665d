"""ResNet for ImageNet and for CIFAR-10: He et al., arXiv:1512.03385."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.families.branches import chain
from depthwise.families.classifier import Classifier, scale_channels
from depthwise.families.dense import OutputStride, dilate_blocks
from depthwise.families.registry import network
from depthwise.layers import conv_norm_act

# the stem's stride: 4 is a 7x7/2 and a 3x3/2 pool, 2 leaves out the pool, 1 convolves every pixel
StemStride = Literal[1, 2, 4]
# which layer of a bottleneck strides: the first 1x1 in the paper, the 3x3 in torchvision (v1.5)
StrideOn = Literal["3x3", "1x1"]

# conv_norm_act or GhostModule: (in_channels, out_channels, kernel_size, stride), and act=None if
# linear
Conv3x3 = Callable[..., nn.Module]


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)): (N, C, H, W) -> (N, K, H/s, W/s); section 3.2, equation 1."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Module):
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Add, then activate."""
        return self.act(self.body(x) + self.shortcut(x))


# (in_channels, out_channels, stride) -> residual block
Block = Callable[[int, int, int], Residual]


def projection(in_channels: int, out_channels: int, stride: int, kernel_size: int = 1) -> nn.Module:
    """Return the shortcut: the identity, or a linear convolution where the shape changes (B)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return conv_norm_act(in_channels, out_channels, kernel_size, stride, act=None)


class PadChannels(nn.Module):
    """Every stride-th pixel, and zeros for new channels: (N, C, H, W) -> (N, K, H/s, W/s).

    The shortcut without parameters of sections 3.3 and 4.2, option A. The zeros come last.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.added = out_channels - in_channels
        self.subsample = nn.MaxPool2d(1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Subsample, then append the zeros."""
        return F.pad(self.subsample(x), (0, 0, 0, 0, 0, self.added))

    def extra_repr(self) -> str:
        """Show how many channels are added."""
        return f"added={self.added}"


def basic_body(
    in_channels: int, out_channels: int, stride: int, conv: Conv3x3 = conv_norm_act
) -> nn.Sequential:
    """Return two 3x3 cells, the second linear: figure 5, left."""
    return chain(
        first=conv(in_channels, out_channels, 3, stride),
        second=conv(out_channels, out_channels, 3, 1, act=None),
    )


def bottleneck_body(
    in_channels: int, out_channels: int, stride: int, stride_on: StrideOn
) -> nn.Sequential:
    """Return 1x1 to a quarter of out_channels, 3x3, 1x1 back and linear: figure 5, right."""
    inner = out_channels // 4
    first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
    return chain(
        reduce=conv_norm_act(in_channels, inner, 1, first),
        spatial=conv_norm_act(inner, inner, 3, second),
        restore=conv_norm_act(inner, out_channels, act=None),
    )


def basic(in_channels: int, out_channels: int, stride: int) -> Residual:
    """Return the block of ResNet-18 and 34."""
    body = basic_body(in_channels, out_channels, stride)
    return Residual(body, projection(in_channels, out_channels, stride))


def bottleneck(
    in_channels: int, out_channels: int, stride: int, stride_on: StrideOn = "3x3"
) -> Residual:
    """Return the block of ResNet-50, 101 and 152."""
    body = bottleneck_body(in_channels, out_channels, stride, stride_on)
    return Residual(body, projection(in_channels, out_channels, stride))


def cifar_block(in_channels: int, out_channels: int, stride: int, conv: Conv3x3) -> Residual:
    """Return the block of section 4.2: two 3x3, and a shortcut without parameters."""
    same = stride == 1 and in_channels == out_channels
    shortcut = nn.Identity() if same else PadChannels(in_channels, out_channels, stride)
    return Residual(basic_body(in_channels, out_channels, stride, conv), shortcut)


def stack(
    block: Block, in_channels: int, channels: tuple[int, ...], repeats: tuple[int, ...]
) -> nn.Sequential:
    """Return the blocks of all stages; each stage but the first begins with stride 2."""
    blocks = nn.Sequential()
    for stage, (out, repeat) in enumerate(zip(channels, repeats, strict=True)):
        for index in range(repeat):
            blocks.append(block(in_channels, out, 2 if stage > 0 and index == 0 else 1))
            in_channels = out
    return blocks


class Depth(NamedTuple):
    """One column of table 1: how many blocks each stage has."""

    conv2_x: int
    conv3_x: int
    conv4_x: int
    conv5_x: int


BASIC = {
    #                 conv2_x conv3_x conv4_x conv5_x
    "resnet18": Depth(2,      2,      2,      2),
    "resnet34": Depth(3,      4,      6,      3),
}  # fmt: skip

BOTTLENECK = {
    #                  conv2_x conv3_x conv4_x conv5_x
    "resnet50":  Depth(3,      4,      6,      3),
    "resnet101": Depth(3,      4,      23,     3),
    "resnet152": Depth(3,      8,      36,     3),
}  # fmt: skip


def _stem(in_channels: int, stem_stride: StemStride) -> nn.Sequential:
    pool = nn.MaxPool2d(3, 2, 1) if stem_stride == 4 else nn.Identity()
    return chain(cell=conv_norm_act(in_channels, 64, 7, min(stem_stride, 2)), pool=pool)


@network(*BASIC)
def resnet_basic(
    name: str, num_classes: int = 1000, in_channels: int = 3, stem_stride: StemStride = 4,
    output_stride: OutputStride = 32,
) -> Classifier:  # fmt: skip
    """ResNet of basic blocks (two 3x3)."""
    blocks = stack(basic, 64, (64, 128, 256, 512), BASIC[name])
    dilate_blocks(blocks, stem_stride, output_stride)
    return Classifier(_stem(in_channels, stem_stride), blocks, nn.Linear(512, num_classes))


@network(*BOTTLENECK)
def resnet_bottleneck(
    name: str, num_classes: int = 1000, in_channels: int = 3, stem_stride: StemStride = 4,
    output_stride: OutputStride = 32, stride_on: StrideOn = "3x3",
) -> Classifier:  # fmt: skip
    """ResNet of bottlenecks. `stride_on` is "1x1" in the paper, "3x3" in the usual checkpoints."""
    block = partial(bottleneck, stride_on=stride_on)
    blocks = stack(block, 64, (256, 512, 1024, 2048), BOTTLENECK[name])
    dilate_blocks(blocks, stem_stride, output_stride)
    return Classifier(_stem(in_channels, stem_stride), blocks, nn.Linear(2048, num_classes))


# 6n + 2 layers: how many blocks each of the three stages has; the paper's n are 3, 5, 7, 9 and 18
CIFAR = {"resnet14_cifar": 2, "resnet20_cifar": 3, "resnet56_cifar": 9}


@network(*CIFAR, resolution=32)
def resnet_cifar(
    name: str, width: float = 1.0, num_classes: int = 10, in_channels: int = 3,
    conv: Conv3x3 = conv_norm_act,
) -> Classifier:  # fmt: skip
    """ResNet for 32x32 images (section 4.2); `conv` builds each 3x3 of the blocks.

    It is called with act=None for a block's second: the sum is activated, not its parts. The stem
    stays a convolution, in Ghost-ResNet-56 too (conv=GhostModule; arXiv:1911.11907, section 4.1).
    """
    first, *others = (scale_channels(channels, width) for channels in (16, 32, 64))
    block = partial(cifar_block, conv=conv)
    blocks = stack(block, first, (first, *others), (CIFAR[name],) * 3)
    head = nn.Linear(others[-1], num_classes)
    return Classifier(conv_norm_act(in_channels, first, 3), blocks, head)
