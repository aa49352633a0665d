"""The Ghost module: half of the maps by convolution, the other half cheaply from the first."""

import math

import torch
from torch import Tensor, nn

from depthwise.layers.act import Act
from depthwise.layers.conv import ConvNormAct, conv_norm_act, depthwise_conv2d
from depthwise.layers.squeeze_excite import SqueezeExcite


class GhostModule(nn.Module):
    """(N, C, H, W) -> (N, K, H/s, W/s): ceil(K / ratio) maps by convolution, the rest depthwise.

    Han et al., arXiv:1911.11907, section 3.1. `ratio` and `cheap_kernel_size` are the paper's s
    and d.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1,
        act: Act | None = nn.ReLU, ratio: int = 2, cheap_kernel_size: int = 3,
    ):  # fmt: skip
        super().__init__()
        if ratio < 2:
            raise ValueError(f"ratio={ratio}: a Ghost module needs at least 2 (1 is a convolution)")
        self.out_channels = out_channels
        intrinsic = math.ceil(out_channels / ratio)
        self.has_surplus = intrinsic * ratio > out_channels  # where the ratio does not divide them
        self.primary = conv_norm_act(in_channels, intrinsic, kernel_size, stride, act=act)
        self.cheap = ConvNormAct(
            depthwise_conv2d(intrinsic, cheap_kernel_size, multiplier=ratio - 1),
            nn.BatchNorm2d(intrinsic * (ratio - 1)),
            act() if act else None,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return intrinsic maps, then their ghosts, cut to out_channels."""
        intrinsic = self.primary(x)
        maps = torch.cat((intrinsic, self.cheap(intrinsic)), 1)
        return maps[:, : self.out_channels] if self.has_surplus else maps


class GhostBottleneck(nn.Module):
    """Ghost expansion, depthwise where the stride is 2, gate, linear Ghost projection, shortcut.

    arXiv:1911.11907, section 3.2 and figure 3. The shortcut of a block that changes shape is
    depthwise `kernel_size` then pointwise, both normalised, neither activated.
    """

    def __init__(
        self, in_channels: int, expanded: int, out_channels: int, kernel_size: int = 3,
        stride: int = 1, gate: SqueezeExcite | None = None,
    ):  # fmt: skip
        super().__init__()
        self.expand = GhostModule(in_channels, expanded)
        self.depthwise = (
            conv_norm_act(expanded, expanded, kernel_size, stride, expanded, act=None)
            if stride > 1 else nn.Identity()
        )  # fmt: skip
        self.gate = gate if gate is not None else nn.Identity()
        self.project = GhostModule(expanded, out_channels, act=None)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(
                conv_norm_act(in_channels, in_channels, kernel_size, stride, in_channels, act=None),
                conv_norm_act(in_channels, out_channels, act=None),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return project(gate(depthwise(expand(x)))) + shortcut(x)."""
        return self.project(self.gate(self.depthwise(self.expand(x)))) + self.shortcut(x)
