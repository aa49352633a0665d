"""Weights in closed form: what a layer reads times a change, against what its output lacks."""

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)  # of the patches' mean variance
# More than the least that is left, which a stronger ridge may leave. What little more a weak one
# gains is had by large weights that cancel each other, and training starts badly from these.
SLACK = 0.01
CHUNK = 1 << 24  # numbers of patches at once


@dataclass(frozen=True)
class Moments:
    """Of patches x and of what a layer's output lacks there, e: both about their means."""

    count: int
    x: Tensor  # (groups, D)
    e: Tensor  # (groups, K / groups)
    xx: Tensor  # (groups, D, D)
    xe: Tensor  # (groups, D, K / groups)
    ee: Tensor  # (groups, K / groups)

    @classmethod
    def of(cls, patches: Tensor, lacking: Tensor) -> "Moments":
        """Return the moments of patches (M, groups, D) and what is lacking there (M, K)."""
        count, groups, width = patches.shape
        e = lacking.reshape(count, groups, -1)
        mean_x, mean_e = patches.mean(0), e.mean(0)
        e = (e - mean_e).transpose(0, 1)
        xx = torch.zeros(groups, width, width, dtype=torch.float64)
        xe = torch.zeros(groups, width, e.shape[2], dtype=torch.float64)
        step = max(1, CHUNK // (groups * width))
        for part, own in zip(patches.split(step), e.split(step, 1), strict=True):
            x = (part - mean_x).transpose(0, 1)
            xx += x.mT @ x
            xe += x.mT @ own
        ee = e.double().square().sum(1)
        return cls(count, mean_x.double(), mean_e.double(), xx, xe, ee)

    def __add__(self, other: "Moments") -> "Moments":
        """Return the moments of both together."""
        count = self.count + other.count
        share = self.count * other.count / count
        x, e = other.x - self.x, other.e - self.e
        return Moments(
            count,
            self.x + x * (other.count / count),
            self.e + e * (other.count / count),
            self.xx + other.xx + share * x[:, :, None] * x[:, None, :],
            self.xe + other.xe + share * x[:, :, None] * e[:, None, :],
            self.ee + other.ee + share * e.square(),
        )

    def solve(self, ridge: float) -> Tensor:
        """Return the change (groups, D, K / groups) of least squares, and little of it."""
        scale = self.xx.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
        eye = torch.eye(self.xx.shape[1], dtype=torch.float64)
        factor, failed = torch.linalg.cholesky_ex(self.xx + ridge * scale[:, None, None] * eye)
        if failed.any():
            return torch.zeros_like(self.xe)
        return torch.cholesky_solve(self.xe, factor)

    def left(self, change: Tensor) -> float:
        """Return the sum of squares that is still lacking after a change, but for a constant."""
        return float(self.ee.sum() + (change * (self.xx @ change - 2 * self.xe)).sum())


def fitted(learned: Moments, held_out: Moments) -> tuple[Tensor, Tensor]:
    """Return a change (groups, D, K / groups), and what is added to it, (groups, K / groups).

    How strong the ridge is, and whether anything is changed at all, is chosen on the held-out part:
    the strongest that leaves little more there than the best one. The change is then made from
    both.
    """
    left = {ridge: held_out.left(learned.solve(ridge)) for ridge in RIDGES}
    least = min(left.values())
    best = max(ridge for ridge in RIDGES if left[ridge] <= least + SLACK * abs(least))
    both = learned + held_out
    none = torch.zeros_like(both.xe)
    change = both.solve(best) if left[best] < held_out.left(none) else none
    return change, both.e - (both.x[:, None, :] @ change)[:, 0]
