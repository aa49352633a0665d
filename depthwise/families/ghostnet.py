"""GhostNet: arXiv:1911.11907."""

from collections import OrderedDict
from functools import partial
from typing import NamedTuple

from torch import nn

from depthwise.families.classifier import Classifier, scale_channels
from depthwise.families.dense import OutputStride, dilate_blocks
from depthwise.families.registry import network
from depthwise.layers import GhostBottleneck, SqueezeExcite, conv_norm_act, hardsigmoid, relu


class GhostBneck(NamedTuple):
    """One row of table 1, arXiv:1911.11907; the table leaves the kernels to MobileNetV3-Large."""

    kernel_size: int
    expanded: int
    out: int
    gate: bool
    stride: int


GHOSTNET = (
    #          kernel expanded out  gate   stride
    GhostBneck(3,     16,      16,  False, 1),
    GhostBneck(3,     48,      24,  False, 2),
    GhostBneck(3,     72,      24,  False, 1),
    GhostBneck(5,     72,      40,  True,  2),
    GhostBneck(5,     120,     40,  True,  1),
    GhostBneck(3,     240,     80,  False, 2),
    GhostBneck(3,     200,     80,  False, 1),
    GhostBneck(3,     184,     80,  False, 1),
    GhostBneck(3,     184,     80,  False, 1),
    GhostBneck(3,     480,     112, True,  1),
    GhostBneck(3,     672,     112, True,  1),
    GhostBneck(5,     672,     160, True,  2),
    GhostBneck(5,     960,     160, False, 1),
    GhostBneck(5,     960,     160, True,  1),
    GhostBneck(5,     960,     160, False, 1),
    GhostBneck(5,     960,     160, True,  1),
)  # fmt: skip


@network()
def ghostnet(
    width: float = 1.0, num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2,
    output_stride: OutputStride = 32,
) -> Classifier:  # fmt: skip
    """GhostNet. Width rounds to multiples of 4 and leaves the hidden layer's 1280 units.

    The gates are hard sigmoids over a quarter of the channels, as in the released code.
    """
    scale = partial(scale_channels, width=width, divisor=4)
    channels = scale(16)
    stem = conv_norm_act(in_channels, channels, 3, stem_stride)
    blocks = nn.Sequential()
    for row in GHOSTNET:
        expanded, out = scale(row.expanded), scale(row.out)
        gate = None
        if row.gate:
            gate = SqueezeExcite(expanded, scale_channels(expanded, 1 / 4, 4), gate=hardsigmoid)
        blocks.append(GhostBottleneck(channels, expanded, out, row.kernel_size, row.stride, gate))
        channels = out
    dilate_blocks(blocks, stem_stride, output_stride)
    last, hidden = scale(GHOSTNET[-1].expanded), 1280
    head = nn.Sequential(
        OrderedDict(
            hidden=nn.Linear(last, hidden),
            act=relu(),
            dropout=nn.Dropout(0.2),
            linear=nn.Linear(hidden, num_classes),
        )
    )
    return Classifier(stem, blocks, head, conv_norm_act(channels, last))
