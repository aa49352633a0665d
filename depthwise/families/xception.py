"""Xception: arXiv:1610.02357."""

import math
from collections import OrderedDict
from functools import partial
from typing import NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.families.classifier import Classifier
from depthwise.families.dense import OutputStride, dilate_blocks
from depthwise.families.registry import network
from depthwise.layers import ConvNormAct, PlainSeparableConv, conv_norm_act


class ResidualRow(NamedTuple):
    """One residual module of figure 5: its separable convolutions, and its max pooling's stride."""

    out: tuple[int, ...]
    stride: int


ENTRY = (
    #        out            stride
    ResidualRow((128, 128),    2),
    ResidualRow((256, 256),    2),
    ResidualRow((728, 728),    2),
)  # fmt: skip
MIDDLE = (ResidualRow((728, 728, 728), 1),) * 8
EXIT = (ResidualRow((728, 1024), 2),)
LAST = (1536, 2048)  # the exit flow's separable convolutions outside a residual module


class SameMaxPool2d(nn.MaxPool2d):
    """Max pooling of an odd kernel, padded to keep the size at stride 1, dilated or not.

    PyTorch pads by half a kernel at most, and a dilated one needs more.
    """

    def __init__(self, kernel_size: int, stride: int):
        super().__init__(kernel_size, stride, (kernel_size - 1) // 2)

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        pool = partial(F.max_pool2d, kernel_size=self.kernel_size, stride=self.stride)
        if self.dilation in (1, (1, 1)):
            return pool(input, padding=self.padding)
        vertical, horizontal = cast(tuple[int, int], self.padding)  # dilate_blocks sets pairs
        padded = F.pad(input, (horizontal, horizontal, vertical, vertical), value=-math.inf)
        return pool(padded, dilation=self.dilation)


class XceptionModule(nn.Module):
    """shortcut(x) + pool(separable convolutions of x): (N, C, H, W) -> (N, out[-1], H/s, W/s).

    Each convolution is ReLU, separable 3x3, normalisation; where the stride is 2 the pooling is
    3x3 and the shortcut a 1x1 convolution. `x_is_activated` leaves out the first ReLU.
    """

    def __init__(
        self, in_channels: int, out: tuple[int, ...], stride: int, x_is_activated: bool = False
    ):
        super().__init__()
        self.body = nn.Sequential()
        channels = in_channels
        for i, k in enumerate(out):
            steps = OrderedDict[str, nn.Module]()
            if i > 0 or not x_is_activated:
                steps["act"] = nn.ReLU()
            steps["conv"], steps["norm"] = PlainSeparableConv(channels, k), nn.BatchNorm2d(k)
            self.body.append(nn.Sequential(steps))
            channels = k
        self.pool = SameMaxPool2d(3, stride) if stride > 1 else nn.Identity()
        self.shortcut = (
            conv_norm_act(in_channels, channels, 1, stride, act=None)
            if stride > 1 or in_channels != channels else nn.Identity()
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return shortcut(x) + pool(body(x))."""
        return self.shortcut(x) + self.pool(self.body(x))


def _unpadded(in_channels: int, out_channels: int, stride: int = 1) -> ConvNormAct:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, bias=False)
    return ConvNormAct(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


@network(resolution=299)
def xception(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2,
    output_stride: OutputStride = 32,
) -> Classifier:  # fmt: skip
    """Xception. The stem is not padded: 299x299 pixels become 147x147, and 10x10 at the end."""
    stem = nn.Sequential(_unpadded(in_channels, 32, stem_stride), _unpadded(32, 64))
    blocks, channels = nn.Sequential(), 64
    for row in (*ENTRY, *MIDDLE, *EXIT):
        blocks.append(XceptionModule(channels, *row, x_is_activated=len(blocks) == 0))
        channels = row.out[-1]
    for k in LAST:
        conv = PlainSeparableConv(channels, k)
        blocks.append(ConvNormAct(conv, nn.BatchNorm2d(k), nn.ReLU()))
        channels = k
    dilate_blocks(blocks, stem_stride, output_stride)
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(channels, num_classes))
    return Classifier(stem, blocks, head)
