"""Every convolution of the documents, each as its own small constructor or module."""

from collections import OrderedDict
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.layers.act import Act
from depthwise.layers.norm import Norm

KernelSize = int | tuple[int, int]

# (in_channels, out_channels, kernel_size, stride) -> module: what a network may take as its
# convolution
ConvFactory = Callable[[int, int, int, int], nn.Module]


def same_padding(kernel_size: KernelSize, dilation: int = 1) -> tuple[int, int]:
    """Return (vertical, horizontal) zeros on each side that keep an odd kernel's output size."""
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    return dilation * (height - 1) // 2, dilation * (width - 1) // 2


def tensorflow_padding(
    size: int, kernel_size: int, stride: int, dilation: int = 1
) -> tuple[int, int]:
    """Return the (before, after) zeros that TensorFlow's SAME gives one axis of `size` pixels.

    The output has ceil(size / stride) pixels; an odd zero goes after. At stride 2 this differs
    from the symmetric padding of PyTorch: `tf_` checkpoints are off by half a pixel without it.
    """
    reach = dilation * (kernel_size - 1) + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


class Conv2dSame(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: (N, C, H, W) -> (N, K, ceil(H/s), ceil(W/s))."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1,
        dilation: int = 1, groups: int = 1, bias: bool = True,
    ):  # fmt: skip
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            0,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Pad by the input's own size, then convolve."""
        axes = zip(input.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        (top, bottom), (left, right) = (tensorflow_padding(*axis) for axis in axes)
        return super().forward(F.pad(input, (left, right, top, bottom)))


def conv2d(
    in_channels: int, out_channels: int, kernel_size: KernelSize = 3, stride: int = 1,
    dilation: int = 1, groups: int = 1, bias: bool = False,
) -> nn.Conv2d:  # fmt: skip
    """Return a convolution with symmetric 'same' padding: kernel² · C · K / groups weights."""
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if groups < 1 or channels < 1 or channels % groups:
            raise ValueError(
                f"{name}={channels} with groups={groups}: must be a positive multiple of groups"
            )
    padding = same_padding(kernel_size, dilation)
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=bias
    )


def depthwise_conv2d(
    channels: int, kernel_size: KernelSize = 3, stride: int = 1, dilation: int = 1,
    multiplier: int = 1, bias: bool = False,
) -> nn.Conv2d:  # fmt: skip
    """Return a convolution of one kernel (or `multiplier` kernels) a channel: groups = channels."""
    return conv2d(channels, channels * multiplier, kernel_size, stride, dilation, channels, bias)


def pointwise_conv2d(
    in_channels: int, out_channels: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """Return a 1x1 convolution: it mixes channels and sees one pixel."""
    return conv2d(in_channels, out_channels, 1, stride, groups=groups, bias=bias)


class ConvNormAct(nn.Sequential):
    """y = act(norm(conv(x))), with either of the last two left out; children conv, norm, act."""

    def __init__(
        self, conv: nn.Module, norm: nn.Module | None = None, act: nn.Module | None = None
    ):
        steps = (("conv", conv), ("norm", norm), ("act", act))
        super().__init__(OrderedDict((name, step) for name, step in steps if step is not None))


def conv_norm_act(
    in_channels: int, out_channels: int, kernel_size: KernelSize = 1, stride: int = 1,
    groups: int = 1, norm: Norm = nn.BatchNorm2d, act: Act | None = nn.ReLU,
) -> ConvNormAct:  # fmt: skip
    """Return the usual cell: 'same' convolution without bias, normalisation, activation."""
    conv = conv2d(in_channels, out_channels, kernel_size, stride, groups=groups)
    return ConvNormAct(conv, norm(out_channels), act() if act else None)


class SeparableConv(nn.Sequential):
    """Depthwise, then pointwise, each with normalisation and activation: MobileNetV1's order.

    arXiv:1704.04861, figure 3. Costs 1/K + 1/kernel² of the standard convolution's MACs.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1,
        norm: Norm = nn.BatchNorm2d, act: Act = nn.ReLU,
    ):  # fmt: skip
        super().__init__(
            OrderedDict(
                depthwise=conv_norm_act(
                    in_channels, in_channels, kernel_size, stride, in_channels, norm, act
                ),
                pointwise=conv_norm_act(in_channels, out_channels, 1, norm=norm, act=act),
            )
        )


class PlainSeparableConv(nn.Sequential):
    """Depthwise, then pointwise, nothing between: Xception's, arXiv:1610.02357, section 3.2."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1,
        dilation: int = 1, bias: bool = False,
    ):  # fmt: skip
        super().__init__(
            OrderedDict(
                depthwise=depthwise_conv2d(in_channels, kernel_size, stride, dilation, bias=bias),
                pointwise=pointwise_conv2d(in_channels, out_channels, bias=bias),
            )
        )


class ResizeConv(nn.Module):
    """Bilinear enlargement, then a 1x1 convolution: an upsampling without checkerboards.

    (N, C, H, W) -> (N, K, H * scale, W * scale). Odena, Dumoulin & Olah, Distill 2016.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: int = 2, bias: bool = True):
        super().__init__()
        self.scale = scale
        self.conv = pointwise_conv2d(in_channels, out_channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge, then mix channels."""
        size = (x.shape[2] * self.scale, x.shape[3] * self.scale)
        return self.conv(F.interpolate(x, size, mode="bilinear", align_corners=False))


def conv_transpose2d(
    in_channels: int, out_channels: int, kernel_size: int = 4, stride: int = 2, groups: int = 1,
    bias: bool = True,
) -> nn.ConvTranspose2d:  # fmt: skip
    """Return a transposed convolution whose output is exactly `stride` times its input.

    Kernels that the stride divides overlap evenly; others draw checkerboards (`depthwise lint`).
    """
    if kernel_size < stride:
        raise ValueError(
            f"kernel_size={kernel_size} is smaller than stride={stride}: outputs would be missed"
        )
    excess = kernel_size - stride
    if stride == 1 and excess % 2:
        raise ValueError(
            f"kernel_size={kernel_size} with stride=1: an even kernel cannot keep the size"
        )
    return nn.ConvTranspose2d(
        in_channels, out_channels, kernel_size, stride, (excess + 1) // 2, excess % 2, groups, bias
    )
