"""Signals (N, C, T), volumes with kernels (1, k, k), recurrent layers, attention."""

from torch import nn

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {}
