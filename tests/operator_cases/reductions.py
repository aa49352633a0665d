"""One value over an axis, places of extremes, sorting, running sums."""

from torch import nn

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {}
