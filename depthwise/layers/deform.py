"""Convolution whose taps move: where each one looks is predicted from the image."""

from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from depthwise.layers.conv import KernelSize, conv2d, same_padding
from depthwise.layers.init import ZeroConv2d


class DeformConv(nn.Module):
    """Convolution with predicted taps: (N, C, H, W) -> (N, K, ceil(H/s), ceil(W/s)), no bias.

    A convolution of the same kernel, stride and dilation predicts an offset (y, x) in pixels for
    each tap and output pixel: 2 · kernel² channels, 18 for 3x3. Pixels between are bilinear.
    Dai et al., arXiv:1703.06211, section 2.1. `modulated` is version 2, which also predicts a
    weight in (0, 1) for each tap, 27 channels for 3x3: Zhu et al., arXiv:1811.11168, section 3.2.

    The predictor starts at zero, so the layer starts as the standard convolution of its weights;
    modulated, at half of it, because sigmoid(0) = 1/2, as in the paper. Kernels must be odd.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: KernelSize = 3, stride: int = 1,
        dilation: int = 1, groups: int = 1, modulated: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, kernel_size, stride, dilation, groups)
        height, width = self.conv.kernel_size
        if height % 2 == 0 or width % 2 == 0:
            raise ValueError(
                f"kernel_size={kernel_size}: a deformable kernel must be odd, to have a centre"
            )
        self.modulated = modulated
        self.predict = ZeroConv2d(
            in_channels,
            (3 if modulated else 2) * height * width,
            kernel_size,
            stride,
            same_padding(kernel_size, dilation),
            dilation,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Predict the offsets, and the taps' weights where modulated, then convolve."""
        conv, offsets, mask = self.conv, self.predict(x), None
        if self.modulated:
            taps = conv.kernel_size[0] * conv.kernel_size[1]
            offsets, logits = offsets.split((2 * taps, taps), 1)
            mask = logits.sigmoid()
        stride, padding, dilation = conv.stride, conv.padding, conv.dilation
        # nn.Conv2d types its pairs more widely than they are
        return deform_conv2d(x, offsets, conv.weight, None, stride, padding, dilation, mask)  # type: ignore[arg-type]
