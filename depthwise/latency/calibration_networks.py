"""The networks whose layers are timed for the kernel table: none of ours, but of similar layers.

Each is a whole network, since a kernel's time depends on which cache the layers before it have left
its input and its weights in.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.families.branches import Branches
from depthwise.graph import Shape, capture
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.choice import choose_core
from depthwise.latency.precisions import rewritten_in
from depthwise.layers import (
    GhostBottleneck,
    InvertedResidual,
    PlainSeparableConv,
    SqueezeExcite,
    conv_norm_act,
)
from depthwise.runtime.target import Target


class CalibrationNetwork(NamedTuple):
    """A network and the shape of its input."""

    name: str
    build: Callable[[], nn.Module]
    shape: Shape


class Sum(nn.Module):
    """x + body(x), activated."""

    def __init__(self, *body: nn.Module):
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(x + body(x)): the shape of x."""
        return (x + self.body(x)).relu()


def _gate(channels: int) -> SqueezeExcite:
    return SqueezeExcite(channels, channels // 4, gate=nn.Hardsigmoid)


def _head(channels: int, *widths: int) -> list[nn.Module]:
    pairs = zip((channels, *widths), widths, strict=False)
    layers: list[nn.Module] = [nn.Linear(before, after) for before, after in pairs]
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers]


def inverted() -> nn.Module:
    """Return inverted residuals for 224 pixels: MobileNetV2's and V3's kind."""
    return nn.Sequential(
        conv_norm_act(3, 24, 3, 2, act=nn.Hardswish),
        InvertedResidual(24, 24, 16),
        InvertedResidual(16, 80, 32, 3, 2),
        InvertedResidual(32, 112, 32),
        InvertedResidual(32, 96, 40, 5, 2, _gate(96)),
        InvertedResidual(40, 160, 40, 5, 1, _gate(160)),
        InvertedResidual(40, 224, 56),
        InvertedResidual(56, 256, 88, 3, 2),
        InvertedResidual(88, 208, 88),
        InvertedResidual(88, 352, 88, 5, 1, _gate(352)),
        InvertedResidual(88, 528, 128),
        InvertedResidual(128, 704, 176, 5, 2, _gate(704)),
        InvertedResidual(176, 1056, 176, 5, 1, _gate(1056)),
        InvertedResidual(176, 880, 288),
        conv_norm_act(288, 1152),
        *_head(1152, 1024, 800),
    )


def ghosts() -> nn.Module:
    """Return Ghost bottlenecks for 224 pixels."""
    return nn.Sequential(
        conv_norm_act(3, 20, 3, 2),
        GhostBottleneck(20, 32, 20),
        GhostBottleneck(20, 56, 28, 3, 2),
        GhostBottleneck(28, 88, 28),
        GhostBottleneck(28, 80, 48, 5, 2, _gate(80)),
        GhostBottleneck(48, 144, 48, 5, 1, _gate(144)),
        GhostBottleneck(48, 288, 96, 3, 2),
        GhostBottleneck(96, 176, 96),
        GhostBottleneck(96, 560, 128, 3, 1, _gate(560)),
        GhostBottleneck(128, 768, 144, 5, 2, _gate(768)),
        GhostBottleneck(144, 864, 144, 5),
        conv_norm_act(144, 864),
        *_head(864, 1000),
    )


def separable() -> nn.Module:
    """Return separable convolutions as MobileNetV1 and Xception have them.

    Their planes reach from larger than L2 to 7 x 7, of odd widths, too: 149, 75, 38, 19, 10.
    """
    rows = (  # out channels, stride
        (48, 1), (96, 2), (112, 1), (192, 2), (224, 1), (384, 1), (448, 2), (576, 1), (672, 1),
        (1088, 2), (1088, 1),
    )  # fmt: skip
    layers: list[nn.Module] = [conv_norm_act(3, 32, 3, 2)]
    channels = 32
    for out, stride in rows:
        layers.append(conv_norm_act(channels, channels, 3, stride, channels))
        linear = out in (112, 672)
        layers.append(conv_norm_act(channels, out, act=None if linear else nn.ReLU))
        if linear:  # its ReLU has another reader before it: it runs on its own
            layers.append(Sum(nn.ReLU(), PlainSeparableConv(out, out), nn.BatchNorm2d(out)))
        channels = out
    return nn.Sequential(*layers, *_head(channels, 600))


def standard() -> nn.Module:
    """Return standard convolutions and bottlenecks for 224 pixels: the residual networks' kind."""
    return nn.Sequential(
        conv_norm_act(3, 64, 7, 2),
        nn.MaxPool2d(3, 2, 1),
        conv_norm_act(64, 64, 3),
        conv_norm_act(64, 224),
        Sum(conv_norm_act(224, 72), conv_norm_act(72, 72, 3), conv_norm_act(72, 224, act=None)),
        conv_norm_act(224, 128, 1, 2),
        conv_norm_act(128, 128, 3),
        conv_norm_act(128, 448),
        Sum(conv_norm_act(448, 144), conv_norm_act(144, 144, 3), _gate(144),
            conv_norm_act(144, 448, act=None)),
        conv_norm_act(448, 224, 3, 2),
        conv_norm_act(224, 288, 3),
        conv_norm_act(288, 896),
        Sum(conv_norm_act(896, 288), conv_norm_act(288, 288, 3), _gate(288),
            conv_norm_act(288, 896, act=None)),
        conv_norm_act(896, 512, 1, 2),
        conv_norm_act(512, 448, 3),
        conv_norm_act(448, 1792),
        conv_norm_act(1792, 576),
        conv_norm_act(576, 448, 3),
        conv_norm_act(448, 1792, act=None),
        *_head(1792, 1000),
    )  # fmt: skip


def mixed() -> nn.Module:
    """Return branches for 299 pixels with kernels of 1, 3, 5, 1 x 7 and 7 x 1 and poolings."""

    def branches(channels: int, narrow: int, wide: int, kernel: int) -> Branches:
        return Branches(
            one=conv_norm_act(channels, wide),
            square=nn.Sequential(
                conv_norm_act(channels, narrow), conv_norm_act(narrow, wide, kernel)
            ),
            long=nn.Sequential(
                conv_norm_act(channels, narrow), conv_norm_act(narrow, narrow, (1, 7)),
                conv_norm_act(narrow, wide, (7, 1)),
            ),
            pool=nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_norm_act(channels, narrow)),
            most=nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_norm_act(channels, narrow)),
        )  # fmt: skip

    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2), nn.Conv2d(32, 32, 3), nn.ReLU(), conv_norm_act(32, 56, 3),
        nn.MaxPool2d(3, 2), conv_norm_act(56, 88), nn.Conv2d(88, 176, 3), nn.ReLU(),
        nn.MaxPool2d(3, 2), branches(176, 48, 88, 5), nn.Conv2d(360, 288, 3, 2),
        branches(288, 112, 176, 3), branches(752, 144, 208, 3), nn.MaxPool2d(3, 2),
        branches(912, 160, 304, 3), conv_norm_act(1232, 1440), *_head(1440, 1000),
    )  # fmt: skip


def small() -> nn.Module:
    """Return residual blocks for images of 32 pixels."""
    return nn.Sequential(
        conv_norm_act(3, 16, 3),
        *(Sum(conv_norm_act(16, 16, 3), conv_norm_act(16, 16, 3, act=None)) for _ in range(2)),
        conv_norm_act(16, 80, 3),
        conv_norm_act(80, 32, 3, 2),
        *(Sum(conv_norm_act(32, 32, 3), conv_norm_act(32, 32, 3, act=None)) for _ in range(2)),
        conv_norm_act(32, 160, 3),
        conv_norm_act(160, 64, 3, 2),
        *(Sum(conv_norm_act(64, 64, 3), conv_norm_act(64, 64, 3, act=None)) for _ in range(2)),
        conv_norm_act(64, 320, 3),
        nn.MaxPool2d(2),
        conv_norm_act(320, 448, 3),
        nn.MaxPool2d(2),
        conv_norm_act(448, 448, 3),
        *_head(448, 448, 10),
    )


def large() -> nn.Module:
    """Return few layers of many weights and large planes: AlexNet's and VGG's kind."""
    return nn.Sequential(
        conv_norm_act(3, 56, 3),
        conv_norm_act(56, 56, 3),
        nn.MaxPool2d(2),
        conv_norm_act(56, 112, 3),
        nn.MaxPool2d(2),
        conv_norm_act(112, 224, 3),
        nn.LocalResponseNorm(5),
        nn.MaxPool2d(3, 2),
        conv_norm_act(224, 448, 5, groups=2),
        nn.MaxPool2d(3, 2),
        conv_norm_act(448, 512, 3),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(512 * 36, 3584),
        nn.ReLU(),
        nn.Linear(3584, 3584),
        nn.Linear(3584, 1000),
    )


def grouped() -> nn.Module:
    """Return groups of few channels: ResNeXt's and SENet-154's kind."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4),
        nn.MaxPool2d(3, 2, 1),
        conv_norm_act(96, 192),
        conv_norm_act(192, 192, 3, groups=48),
        conv_norm_act(192, 320),
        conv_norm_act(320, 320, 3, groups=32),
        conv_norm_act(320, 320, 3, 2, groups=32),
        conv_norm_act(320, 768),
        conv_norm_act(768, 768, 3, groups=48),
        conv_norm_act(768, 768, 3, 2, groups=32),
        conv_norm_act(768, 1024, groups=4),
        conv_norm_act(1024, 1024, 3, groups=32),
        *_head(1024, 1000),
    )


CALIBRATION_NETWORKS = (
    CalibrationNetwork("inverted", inverted, (1, 3, 224, 224)),
    CalibrationNetwork("ghosts", ghosts, (1, 3, 224, 224)),
    CalibrationNetwork("separable", separable, (1, 3, 299, 299)),
    CalibrationNetwork("standard", standard, (1, 3, 224, 224)),
    CalibrationNetwork("mixed", mixed, (1, 3, 299, 299)),
    CalibrationNetwork("small", small, (1, 3, 32, 32)),
    CalibrationNetwork("large", large, (1, 3, 224, 224)),
    CalibrationNetwork("grouped", grouped, (1, 3, 224, 224)),
)


NARROW_NETWORKS = ("inverted", "ghosts", "separable", "standard")  # in which narrow types are timed


def networks_in(precision: str) -> Sequence[CalibrationNetwork]:
    """Return the networks in which the kernels of a precision are timed."""
    if precision == FLOAT32.name:
        return CALIBRATION_NETWORKS
    return [each for each in CALIBRATION_NETWORKS if each.name in NARROW_NETWORKS]


def calibration_plan(
    network: CalibrationNetwork, target: Target, precision: str = FLOAT32.name
) -> Plan:
    """Return the plan of a calibration network with random weights, always the same.

    It is made for the core that a network would be compiled for here.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = network.build().eval()
    core = choose_core(None, target, native=True)
    return make_plan(rewritten_in(capture(net, network.shape), precision), target, core=core)
