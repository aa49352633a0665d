"""Rounding that a network learns through: forwards as in eight bits, backwards as if it were not.

The gradient of a rounded number passes as it is (Bengio et al., arXiv:1308.3432), of an activation
where it is inside its range. The ends of a range learn: what is cut off pulls at the end where it
is (Choi et al., arXiv:1805.06085), what is rounded at the step between two numbers (Esser et al.,
arXiv:1902.08153, whose factor the gradients have), and an end is moved by a factor, so that ranges
of any size learn alike (Jain et al., arXiv:1903.08066).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from depthwise.quantization.running import rounded
from depthwise.quantization.scheme import LEVELS, SMALLEST, WEIGHT_LIMIT, Affine


class ActivationRanges(nn.Module):
    """The ranges that a network's values are held in, a row each.

    An end is `drawn` times e to the power of what it learned, which begins as 0.
    """

    drawn: Tensor

    def __init__(self, count: int):
        super().__init__()
        self.lows = nn.Parameter(torch.zeros(count))
        self.highs = nn.Parameter(torch.zeros(count))
        self.register_buffer("drawn", torch.zeros(count, 2))

    def draw(self, ranges: Sequence[Affine]) -> None:
        """Let these be the ranges that learning begins with."""
        self.drawn.copy_(torch.tensor([[each.low, each.high] for each in ranges]))

    def ends(self, row: int) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest number of a row."""
        low, high = self.drawn[row]
        return low * self.lows[row].exp(), high * self.highs[row].exp()

    def affine(self, row: int) -> Affine:
        """Return how numbers of a row are held."""
        low, high = self.ends(row)
        return Affine.of_range(low.item(), high.item())

    def forward(self, x: Tensor, row: int) -> Tensor:
        """Return numbers as they are after having been held in uint8, in float32."""
        return _RoundedValue.apply(x.float(), *self.ends(row))  # type: ignore[no-any-return]


class _RoundedValue(torch.autograd.Function):
    """A value rounded to uint8, by the ends of its range."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        affine = Affine.of_range(low.item(), high.item())
        ctx.save_for_backward(x)
        ctx.affine = affine
        return rounded(x, affine)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (gradient,), (x,), affine = gradients, ctx.saved_tensors, ctx.affine
        steps = x / affine.scale
        whole = steps.round()
        below, above = whole < -affine.zero, whole > LEVELS - affine.zero
        inside = gradient.masked_fill(below | above, 0)
        error = (inside * whole.sub_(steps)).sum() / LEVELS  # of a step, which both ends make
        low, high = (gradient * below).sum() - error, (gradient * above).sum() + error
        factor = (x[0].numel() * LEVELS) ** -0.5
        return inside, factor * low, factor * high


class _RoundedWeight(torch.autograd.Function):
    """A weight rounded to int8, to one scale for each output channel."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor) -> Tensor:  # noqa: ARG004
        flat = weight.flatten(1)
        scales = (flat.abs().amax(1, keepdim=True) / WEIGHT_LIMIT).clamp_(min=SMALLEST)
        whole = (flat / scales).round_().clamp_(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        return whole.mul_(scales).view_as(weight)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0]


def round_weight(weight: Tensor) -> Tensor:
    """Return weights (K, ...) as they are in int8, each channel's largest being the last number.

    Where a BatchNorm follows, these are the integers of the weights that it is folded into: a
    factor for a channel goes into the channel's scale.
    """
    return _RoundedWeight.apply(weight.float())  # type: ignore[no-any-return]
