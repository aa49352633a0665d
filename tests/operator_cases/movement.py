"""Elements that move: indices, flips, patches, writes into slices."""

from torch import nn

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {}
