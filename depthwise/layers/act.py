"""Activations, by the names that the papers' tables use."""

from collections.abc import Callable

from torch import nn

Act = Callable[[], nn.Module]

relu = nn.ReLU
relu6 = nn.ReLU6  # min(max(x, 0), 6), MobileNetV1: keeps low-precision range, arXiv:1704.04861
hardswish = nn.Hardswish  # x * relu6(x + 3) / 6, arXiv:1905.02244 section 5.2
hardsigmoid = nn.Hardsigmoid  # relu6(x + 3) / 6, arXiv:1905.02244 section 5.2


class Clamp(nn.Module):
    """Clamp to [low, high]: the gate of GhostNet's own squeeze-and-excitation."""

    def __init__(self, low: float = 0.0, high: float = 1.0):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x):
        """Return x clamped, same shape."""
        return x.clamp(self.low, self.high)

    def extra_repr(self) -> str:
        """Show the bounds."""
        return f"{self.low}, {self.high}"
