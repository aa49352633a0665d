"""The shape that all our networks share, and how their channels and strides are varied."""

from torch import Tensor, nn

from depthwise.layers import initialize


class Classifier(nn.Module):
    """stem -> blocks -> neck -> pool -> head: (N, C, H, W) -> (N, num_classes) scores (logits).

    `blocks` is the table of the paper, row by row.
    """

    def __init__(
        self, stem: nn.Module, blocks: nn.Sequential, head: nn.Module,
        neck: nn.Module | None = None, pool: nn.Module | None = None,
    ):  # fmt: skip
        super().__init__()
        self.stem, self.blocks = stem, blocks
        self.neck = neck if neck is not None else nn.Identity()
        self.pool = pool if pool is not None else nn.AdaptiveAvgPool2d(1)
        self.head = head
        initialize(self)

    def features(self, x: Tensor) -> Tensor:
        """Return the last feature map, (N, K, H / output_stride, W / output_stride)."""
        return self.neck(self.blocks(self.stem(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of (N, C, H, W) images."""
        return self.head(self.pool(self.features(x)).flatten(1))


def scale_channels(channels: int, width: float, divisor: int = 8) -> int:
    """Return channels * width rounded to a multiple of divisor, never below 90 % of it.

    MobileNetV2's and V3's published rounding. Raises ValueError where no channel is left.
    """
    scaled = channels * width
    rounded = int(scaled + divisor / 2) // divisor * divisor if divisor > 1 else int(scaled)
    if width > 0 and divisor > 1:
        rounded = max(divisor, rounded)
        if rounded < 0.9 * scaled:
            rounded += divisor
    if rounded < 1:
        raise ValueError(
            f"width={width} leaves {rounded} of {channels} channels: take at least {1 / channels:g}"
        )
    return rounded
