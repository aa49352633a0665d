"""Inverted residual and linear bottleneck: wide inside, narrow and linear outside."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from depthwise.layers.conv import ConvNormAct, conv_norm_act
from depthwise.layers.squeeze_excite import SqueezeExcite

Cell = Callable[..., ConvNormAct]  # conv_norm_act, with a network's own norm and act bound to it

relu6_cell = partial(conv_norm_act, act=nn.ReLU6)


class LinearBottleneck(nn.Sequential):
    """Expand 1x1, depthwise, gate, project 1x1 and linear: (N, C, H, W) -> (N, K, H/s, W/s).

    Sandler et al., arXiv:1801.04381, section 3.2 (table 1). The projection is linear since ReLU
    loses information in few channels. The expansion is left out where it would not expand.
    """

    def __init__(
        self, in_channels: int, expanded: int, out_channels: int, kernel_size: int = 3,
        stride: int = 1, gate: SqueezeExcite | None = None, cell: Cell = relu6_cell,
    ):  # fmt: skip
        super().__init__()
        self.keeps_shape = stride == 1 and in_channels == out_channels
        if expanded != in_channels:
            self.expand = cell(in_channels, expanded)
        self.depthwise = cell(expanded, expanded, kernel_size, stride, expanded)
        if gate is not None:
            self.gate = gate
        self.project = cell(expanded, out_channels, act=None)


class InvertedResidual(LinearBottleneck):
    """A linear bottleneck with a shortcut where the shape stays: stride 1 and equal channels.

    arXiv:1801.04381, section 3.3; with a gate after the depthwise convolution it is the bneck of
    MobileNetV3 (arXiv:1905.02244, figure 4).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return bottleneck(x), plus x where the shape stays."""
        y = super().forward(input)
        return input + y if self.keeps_shape else y
