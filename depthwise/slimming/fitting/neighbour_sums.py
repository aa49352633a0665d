"""The moments that Ghost modules are fitted by, from a few images at a time."""

from torch import Tensor

from depthwise.calibration.patches import patches_at, values_at
from depthwise.graph import Node, ops
from depthwise.slimming.statistics import NeighbourMoments


class NeighbourSums:
    """Sums over pixels of a convolution's outputs and of what is made of them around.

    The first means are taken off: float32 has no digits for them.
    """

    def __init__(self, node: Node, size: int):
        self.node, self.size = node, size
        self._about: tuple[Tensor, Tensor] | None = None
        self._sums: list[Tensor] = []
        self._count = 0

    def add(self, outputs: Tensor, made: Tensor, pixels: Tensor) -> None:
        """Take in a convolution's outputs and what is made of them, at some pixels.

        Args:
            outputs: (N, K, H, W).
            made: The same after the BatchNorm and the activation that alone read them.
            pixels: Numbers of pixels, row by row, (N, pixels).
        """
        channels, side = outputs.shape[1], self.size // 2
        around = ops.Conv2d((1, 1), ops.Padding(side, side, side, side), (1, 1), channels)
        reads = Node(self.node.name, around, (), self.node.type, self.node.path)
        near = patches_at(reads, (channels, 1, self.size, self.size), made, pixels)
        middle = values_at(self.node, outputs, pixels)
        if self._about is None:
            self._about = near.mean(0), middle.mean(0)
        near, middle = near - self._about[0], middle - self._about[1]
        by_channel = near.transpose(0, 1)
        found = [
            near.sum(0), middle.sum(0), by_channel.mT @ by_channel, near.flatten(1).T @ middle,
        ]  # fmt: skip
        self._sums = (
            [a.add_(b) for a, b in zip(self._sums, found, strict=True)] if self._sums else found
        )
        self._count += len(middle)

    def result(self) -> NeighbourMoments:
        """Return the moments of all that was taken in."""
        assert self._about is not None
        near, middle, squares, products = (found / self._count for found in self._sums)
        products = products.reshape(*near.shape, -1) - near[:, :, None] * middle
        covariance = squares - near[:, :, None] * near[:, None, :]
        mean = near + self._about[0]
        return NeighbourMoments(self.size, *(part.numpy() for part in (mean, covariance, products)))
