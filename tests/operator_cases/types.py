"""Booleans, integers and numbers of other widths."""

import torch
from torch import nn

from operator_cases.building import Function, X

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "comparisons": (
        Function(lambda x, y: (x > y, x >= 0.5, x < 1, x <= y, x == x.relu(), x != x.relu(),
                               ~(x > 0) & (x < 1) | (y > 0), (x > 0) ^ (y > 0),
                               torch.logical_not(x.relu()), x.isnan() | x.isfinite())),
        [X, (2, 6, 1, 1)],
    ),
    "choices": (
        Function(lambda x, y: (torch.where(x > y, x, y - 1), x.masked_fill(x < 0, 2.5),
                               torch.where(x > 0, 1.0, x), x * (x > 0), x.tril(1), x.triu(),
                               x.clamp(max=y), x.clamp(y - 1, y), torch.full_like(x, 2) + x)),
        [X, (2, 6, 1, 1)],
    ),
    "conversions": (
        Function(lambda x: ((x * 10).long(), (x * 400).byte(), (x * 400).to(torch.int8), x.bool(),
                            (x * 10).int().float() * 0.5, (x * 10).int() + x, (x * 9).int() * 0.5,
                            (x > 0).sum(1), (x * 10).int() / 4, (x * 200).byte() + 100,
                            (x * 10).short(), (x * 10).int().clamp(-3, 4), (x * 10).int().amax(1),
                            ((x * 10).int() > 3) * 2)),
        [X],
    ),
}  # fmt: skip
