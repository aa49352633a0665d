"""Squeeze-and-excitation: a weight for each channel, from the whole image."""

from torch import Tensor, nn

from depthwise.layers.act import Act
from depthwise.layers.conv import pointwise_conv2d


class SqueezeExcite(nn.Module):
    """x * gate(expand(act(reduce(mean(x))))), the mean over H and W; same shape as x.

    Hu et al., arXiv:1709.01507, section 3. The linear layers are 1x1 convolutions with bias.
    `gate` is nn.Sigmoid there, nn.Hardsigmoid in MobileNetV3, Clamp in GhostNet's first release.
    """

    def __init__(self, channels: int, squeezed: int, act: Act = nn.ReLU, gate: Act = nn.Sigmoid):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = pointwise_conv2d(channels, squeezed, bias=True)
        self.act = act()
        self.expand = pointwise_conv2d(squeezed, channels, bias=True)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """Squeeze (N, C, 1, 1), excite, scale."""
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
