"""This machine: what it can do at best, measured once and kept, and what follows from it.

probes (C that measures) - caches (their sizes) - calibration (the rounds, the file) - record (what
was found, rooflines) - tables (for a person to read).
samples (networks to time) - quantities, reuse (what steps are made of) - kernels, least_squares
(what that costs) - prediction (the latency of a network).
"""

import importlib
from typing import TYPE_CHECKING, Any

from depthwise.hardware.calibration import calibrate, find
from depthwise.hardware.record import Level, Machine, Spread, roofline

if TYPE_CHECKING:
    from depthwise.latency.fit import time_kernels

__all__ = ["Level", "Machine", "Spread", "calibrate", "find", "roofline", "time_kernels"]


def __getattr__(name: str) -> Any:
    if name != "time_kernels":  # imported at first use: it needs PyTorch, the rest does not
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("depthwise.latency.fit").time_kernels
