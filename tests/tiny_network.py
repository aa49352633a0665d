"""A network that learns in a few steps, built as users' own are: tests/tiny_network.py:make."""

import torch
from torch import Tensor, nn


def make(num_classes: int = 1000) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(8 * 4 * 4, num_classes),
    )  # fmt: skip


def make_wide(num_classes: int = 1000, width: float = 1.0) -> nn.Module:
    """Return a network of any resolution, whose channels are 8 times the width."""
    channels = round(8 * width)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes),
    )  # fmt: skip


def make_plain(num_classes: int = 1000) -> nn.Module:
    """Return a network for images of any size, each seen alone: no statistics, no dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, num_classes),
    )  # fmt: skip


class Greedy(nn.Module):
    """A network for which memory holds no more than `most` images."""

    def __init__(self, net: nn.Module, most: int):
        super().__init__()
        self.net, self.most = net, most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("of a test")
        return self.net(x)


def make_greedy(num_classes: int = 1000, most: int = 8) -> nn.Module:
    return Greedy(make_plain(num_classes), most)
