"""Parallel branches over one input: what every Inception module is made of."""

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """Run named branches on one input and concatenate their outputs over the channels.

    (N, C, H, W) -> (N, sum of the branches' channels, H', W'): all must agree on H' and W'. The
    order of the keywords is the order of the channels, and a branch's name is its attribute.
    """

    def __init__(self, **branches: nn.Module):
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' outputs side by side."""
        return torch.cat([branch(x) for branch in self.children()], 1)


def chain(**steps: nn.Module) -> nn.Sequential:
    """Return the steps one after another, each an attribute under its own name."""
    return nn.Sequential(OrderedDict(steps))
