"""Functions of each element, and arithmetic beyond the four operations."""

from torch import nn

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {}
