"""Booleans, integers and numbers of other widths."""

from torch import nn

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {}
