"""Networks of the comparison that `depthwise networks` does not list.

depthwise bench bench/networks.py:generator --shape 1,100,1,1
depthwise bench bench/networks.py:deformable
"""

from itertools import pairwise
from math import sqrt

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

import depthwise as dw
from depthwise.layers import initialize

OFFSETS = 1.0  # pixels, the standard deviation of a tap's mean offset: zeros would fall on the grid
FOLLOWING = 0.1  # pixels, that of its offset over the image; at 1, 13 layers amplify any rounding


def generator(width: int = 64) -> nn.Module:
    """Return the generator of DCGAN: (N, 100, 1, 1) -> (N, 3, 64, 64), all convolutions transposed.

    Radford et al., arXiv:1511.06434, figure 1, whose width is 128; 64 is that of common code.
    """
    widths = (100, 8 * width, 4 * width, 2 * width, width)
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(widths)):
        stride, padding = (2, 1) if i else (1, 0)
        layers.append(nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh())
    initialize(net)
    return net


class Deformable(nn.Module):
    """A modulated deformable 3x3 in torchvision's module, by which converters know it.

    Offsets and masks are drawn as if trained: offsets of zero would fall on the grid.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.predict = nn.Conv2d(in_channels, 27, 3, stride, 1)
        self.deform = DeformConv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        initialize(self)
        mean_square = 0.5  # of the inputs: normal values after a ReLU
        nn.init.normal_(self.predict.weight, std=FOLLOWING / sqrt(9 * in_channels * mean_square))
        assert self.predict.bias is not None
        nn.init.normal_(self.predict.bias, std=OFFSETS)
        nn.init.kaiming_normal_(self.deform.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Predict offsets and masks, then convolve."""
        offsets, logits = self.predict(x).split((18, 9), 1)
        return self.deform(x, offsets, logits.sigmoid())


def deformable() -> nn.Module:
    """Return ResNet-50 whose 3x3 of stages conv3 to conv5 are deformable, modulated: 13 layers.

    (N, 3, H, W) -> (N, 1000); Zhu et al., arXiv:1811.11168, section 3.1.
    """
    net = dw.create_model("resnet50")
    for block in list(net.get_submodule("blocks").children())[3:]:
        spatial = block.get_submodule("body.spatial")
        conv = spatial.get_submodule("conv")
        assert isinstance(conv, nn.Conv2d)
        deform = Deformable(conv.in_channels, conv.out_channels, conv.stride[0])
        spatial.register_module("conv", deform)
    return net
