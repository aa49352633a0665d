"""The arithmetic peak of a core, measured beside whatever is compared with it."""

import ctypes
import time
from functools import cache
from pathlib import Path

import numpy as np

from depthwise.compiler.build import compile_c
from depthwise.compiler.target import Target
from depthwise.kernels import source

ROUNDS = 100_000


def measure_peak(target: Target, seconds: float = 0.05) -> float:
    """Return the floating-point operations, 2 a multiply-add, that this core does in a second.

    It is the best of several loops in about `seconds`: what disturbs a loop only slows it.
    """
    library, chains = _loop(target)
    factors, out = np.array([0.5, 1.0], np.float32), np.empty(target.lanes, np.float32)
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        library.peak_run(ROUNDS, factors.ctypes.data, out.ctypes.data)
        taken = time.perf_counter() - start
        best = max(best, 2 * ROUNDS * chains * target.lanes / taken)
    return best


@cache
def _loop(target: Target) -> tuple[ctypes.CDLL, int]:
    chains = 24 if target.registers >= 32 else 12
    loop = Path(__file__).with_name("peak.c").read_text()
    sizes = f"#define VL {target.lanes}\n#define CHAINS {chains}"
    text = "\n".join(["#include <string.h>", sizes, source("vector.h"), loop])
    library = ctypes.CDLL(str(compile_c(text, target)))
    library.peak_run.argtypes = (ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    library.peak_run.restype = None
    return library, chains
