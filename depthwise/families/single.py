"""Single convolutions as networks, to be counted and compared: `conv:KIND` on the command line.

Their weights have no bias; they are looked at with images of 5x5 pixels. `padding` are zeros on
each side; without it as many as keep the size.
"""

from torch import nn

from depthwise import layers
from depthwise.families.registry import Registry

CONVOLUTIONS = Registry("convolution", resolution=5)
convolution = CONVOLUTIONS.register


def _padded(conv: nn.Conv2d, padding: int | None) -> nn.Conv2d:
    """Return a convolution with `padding` zeros on each side, as it is where that is None."""
    if padding is None:
        return conv
    if padding < 0:
        raise ValueError(f"padding={padding}: expected zeros on each side, 0 or more")
    conv.padding = (padding, padding)
    return conv


def _nothing(channels: int) -> nn.Module:  # noqa: ARG001  (stands where a norm would)
    return nn.Identity()


@convolution()
def standard(
    in_channels: int = 3, out_channels: int = 4, kernel_size: int = 3, stride: int = 1,
    padding: int | None = None,
) -> nn.Module:  # fmt: skip
    """Every output channel sees every input channel."""
    return _padded(layers.conv2d(in_channels, out_channels, kernel_size, stride), padding)


@convolution()
def grouped(
    in_channels: int = 4, out_channels: int = 4, kernel_size: int = 3, stride: int = 1,
    groups: int = 2, padding: int | None = None,
) -> nn.Module:  # fmt: skip
    """Standard convolutions side by side, each on its own group of channels."""
    conv = layers.conv2d(in_channels, out_channels, kernel_size, stride, groups=groups)
    return _padded(conv, padding)


@convolution()
def depthwise(
    in_channels: int = 3, kernel_size: int = 3, stride: int = 1, multiplier: int = 1,
    padding: int | None = None,
) -> nn.Module:  # fmt: skip
    """One kernel, or `multiplier` kernels, for each channel."""
    return _padded(
        layers.depthwise_conv2d(in_channels, kernel_size, stride, multiplier=multiplier), padding
    )


@convolution()
def pointwise(in_channels: int = 3, out_channels: int = 4, stride: int = 1) -> nn.Module:
    """A 1x1 convolution: mixes channels."""
    return layers.pointwise_conv2d(in_channels, out_channels, stride)


@convolution()
def separable(
    in_channels: int = 3, out_channels: int = 4, kernel_size: int = 3, stride: int = 1
) -> nn.Module:
    """Depthwise, ReLU, pointwise, ReLU: MobileNetV1's order, here without normalisation."""
    return layers.SeparableConv(in_channels, out_channels, kernel_size, stride, norm=_nothing)


@convolution()
def plain_separable(
    in_channels: int = 3,
    out_channels: int = 4,
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
) -> nn.Module:
    """Depthwise, then pointwise, nothing between: Xception's."""
    return layers.PlainSeparableConv(in_channels, out_channels, kernel_size, stride, dilation)


@convolution()
def transposed(
    in_channels: int = 3,
    out_channels: int = 4,
    kernel_size: int = 4,
    stride: int = 2,
    groups: int = 1,
) -> nn.Module:
    """Enlarges by its stride; draws checkerboards where the stride does not divide the kernel."""
    return layers.conv_transpose2d(
        in_channels, out_channels, kernel_size, stride, groups, bias=False
    )


@convolution()
def resize(in_channels: int = 3, out_channels: int = 4, scale: int = 2) -> nn.Module:
    """Bilinear enlargement, then 1x1: no checkerboards."""
    return layers.ResizeConv(in_channels, out_channels, scale, bias=False)


@convolution()
def dilated(
    in_channels: int = 3, out_channels: int = 4, kernel_size: int = 3, stride: int = 1,
    dilation: int = 2, padding: int | None = None,
) -> nn.Module:  # fmt: skip
    """A kernel with gaps: a wider view for the same weights."""
    return _padded(layers.conv2d(in_channels, out_channels, kernel_size, stride, dilation), padding)


@convolution()
def ghost(
    in_channels: int = 3, out_channels: int = 4, kernel_size: int = 1, stride: int = 1,
    ratio: int = 2, cheap_kernel_size: int = 3,
) -> nn.Module:  # fmt: skip
    """Ghost module, with its normalisation: 1/ratio of the maps by convolution, the rest cheap."""
    return layers.GhostModule(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        ratio=ratio,
        cheap_kernel_size=cheap_kernel_size,
    )


@convolution()
def deformable(
    in_channels: int = 3, out_channels: int = 4, kernel_size: int = 3, stride: int = 1,
    dilation: int = 1, groups: int = 1, modulated: bool = False,
) -> nn.Module:  # fmt: skip
    """Taps that move by predicted offsets; modulated=true also predicts their weights."""
    return layers.DeformConv(
        in_channels, out_channels, kernel_size, stride, dilation, groups, modulated
    )
