"""Inception-ResNet v2: arXiv:1602.07261, section 3.2.

Stem, widths and repeats are the released network's, not figure 15's: the stem is Inception v3's,
one Inception module stands before the residual ones, and there are 10, 20 and 10 of those.
"""

from torch import Tensor, nn

from depthwise.families.branches import Branches, chain
from depthwise.families.classifier import Classifier
from depthwise.families.inception_v3 import COLUMN, ROW, cell, unpadded
from depthwise.families.inception_v4 import REDUCTION_A, average, reduction_a
from depthwise.families.registry import network
from depthwise.layers import pointwise_conv2d


class ScaledResidual(nn.Module):
    """act(x + scale * mix(branches(x))): (N, C, H, W) -> (N, C, H, W), `mix` linear with bias.

    arXiv:1602.07261, section 3.3 and figure 20: above 1000 channels the residuals must be scaled
    down to 0.1 to 0.3 of themselves, or the last layers die early in training.
    """

    def __init__(self, branches: Branches, mix: nn.Module, scale: float, act: nn.Module):
        super().__init__()
        self.branches, self.mix, self.scale, self.act = branches, mix, scale, act

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum, same shape."""
        return self.act(x + self.scale * self.mix(self.branches(x)))

    def extra_repr(self) -> str:
        """Show the scale."""
        return f"scale={self.scale}"


@network(resolution=299)
def inception_resnet_v2(num_classes: int = 1000, in_channels: int = 3) -> Classifier:
    """Inception-ResNet v2, for 299x299 pixels and from 75x75 on."""
    stem = chain(
        conv1=unpadded(in_channels, 32, 3, stride=2),
        conv2=unpadded(32, 32, 3),
        conv3=cell(32, 64, 3),
        pool1=nn.MaxPool2d(3, 2),
        conv4=cell(64, 80),
        conv5=unpadded(80, 192, 3),
        pool2=nn.MaxPool2d(3, 2),
    )
    blocks = chain(
        inception_a=inception_a(),
        **{f"residual_a{i}": residual_a() for i in range(1, 11)},
        reduction_a=reduction_a(320, REDUCTION_A["inception_resnet_v2"]),
        **{f"residual_b{i}": residual_b() for i in range(1, 21)},
        reduction_b=reduction_b(),
        **{f"residual_c{i}": residual_c(0.2, nn.ReLU()) for i in range(1, 10)},
        residual_c10=residual_c(1.0, nn.Identity()),
    )
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(1536, num_classes))
    return Classifier(stem, blocks, head, cell(2080, 1536))


def inception_a() -> Branches:
    """Return the one module without a shortcut, 35x35x192 -> 35x35x320."""
    return Branches(
        conv1x1=cell(192, 96),
        conv5x5=chain(reduce=cell(192, 48), conv=cell(48, 64, 5)),
        double3x3=chain(reduce=cell(192, 64), first=cell(64, 96, 3), second=cell(96, 96, 3)),
        pool=average(192, 64),
    )


def residual_a() -> ScaledResidual:
    """Return figure 16, on 35x35x320."""
    branches = Branches(
        conv1x1=cell(320, 32),
        conv3x3=chain(reduce=cell(320, 32), conv=cell(32, 32, 3)),
        double3x3=chain(reduce=cell(320, 32), first=cell(32, 48, 3), second=cell(48, 64, 3)),
    )
    return ScaledResidual(branches, pointwise_conv2d(128, 320, bias=True), 0.17, nn.ReLU())


def residual_b() -> ScaledResidual:
    """Return figure 17, on 17x17x1088."""
    branches = Branches(
        conv1x1=cell(1088, 192),
        conv7x7=chain(
            reduce=cell(1088, 128),
            row=cell(128, 160, ROW),
            column=cell(160, 192, COLUMN),
        ),
    )
    return ScaledResidual(branches, pointwise_conv2d(384, 1088, bias=True), 0.1, nn.ReLU())


def reduction_b() -> Branches:
    """Return figure 18, 17x17x1088 -> 8x8x2080."""
    return Branches(
        wide3x3=chain(reduce=cell(1088, 256), conv=unpadded(256, 384, 3, stride=2)),
        conv3x3=chain(reduce=cell(1088, 256), conv=unpadded(256, 288, 3, stride=2)),
        double3x3=chain(
            reduce=cell(1088, 256),
            first=cell(256, 288, 3),
            second=unpadded(288, 320, 3, stride=2),
        ),
        pool=nn.MaxPool2d(3, 2),
    )


def residual_c(scale: float, act: nn.Module) -> ScaledResidual:
    """Return figure 19, on 8x8x2080; the last one is neither scaled down nor activated."""
    branches = Branches(
        conv1x1=cell(2080, 192),
        conv3x3=chain(
            reduce=cell(2080, 192),
            row=cell(192, 224, (1, 3)),
            column=cell(224, 256, (3, 1)),
        ),
    )
    return ScaledResidual(branches, pointwise_conv2d(448, 2080, bias=True), scale, act)
