"""The probes of probes.h, compiled for this machine and called."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import numpy as np

from depthwise.graph.dtypes import FLOAT32
from depthwise.kernels import source
from depthwise.runtime.library import aligned_bytes
from depthwise.runtime.opening import open_content
from depthwise.runtime.target import Target
from depthwise.toolchain.build import compile_c

READ_VECTORS = 8  # that probe_read loads in a step
GATE_BYTES = 128


class Probes:
    """Runs one probe at a time, with vectors of `lanes` floats, and returns the seconds it took.

    Raises BuildError where there is no C compiler.
    """

    def __init__(self, target: Target, lanes: int):
        # 8 chains fill two pipes of 4 cycles; more do no harm while they stay in registers
        self.chains = 24 if target.registers >= 32 else 12
        self.lanes = lanes
        text = "\n".join(
            (
                "#define _POSIX_C_SOURCE 200112L",
                "#include <string.h>",
                f"#define VL {lanes}",
                f"#define CHAINS {self.chains}",
                source("vector.h"),
                (files("depthwise.hardware") / "probes.h").read_text(encoding="utf-8"),
            )
        )
        self._library = open_content(compile_c(text, target).read_bytes())
        for name in ("probe_fma", "probe_read", "probe_barrier"):
            getattr(self._library, name).restype = ctypes.c_double

    def fma(self, steps: int, threads: int) -> float:
        """Do steps x chains x lanes multiply-adds in each thread."""
        function = self._library.probe_fma
        return _at_once(threads, lambda _, *gate: function(ctypes.c_long(steps), *gate))

    def read(self, spans: list[np.ndarray], passes: int) -> float:
        """Read each span of bytes a number of times, each in a thread of its own."""

        def call(thread: int, *gate: object) -> float:
            floats = ctypes.c_long(spans[thread].size // FLOAT32.bytes)
            start = ctypes.c_void_p(spans[thread].ctypes.data)
            return self._library.probe_read(start, floats, ctypes.c_long(passes), *gate)

        return _at_once(len(spans), call)

    def barrier(self, times: int, threads: int) -> float:
        """Let the threads meet a number of times."""
        function = self._library.probe_barrier
        return _at_once(threads, lambda _, *gate: function(ctypes.c_long(times), *gate))

    def span(self, size: int) -> np.ndarray:
        """Return memory of at least `size` bytes, of whole steps, written once."""
        step = READ_VECTORS * self.lanes * FLOAT32.bytes
        memory = aligned_bytes(-(-size // step) * step)
        memory[:] = 0  # else every page would be the system's one page of zeros
        return memory


def fma_rate(probes: Probes, steps: int, threads: int = 1) -> float:
    """Return the operations, 2 a multiply-add, that all threads together do in a second."""
    work = 2 * steps * probes.chains * probes.lanes * threads
    return work / probes.fma(steps, threads)


def _at_once(threads: int, call: Callable[..., float]) -> float:
    """Return the seconds until the last thread is done; `call` takes the thread and the gate."""
    gate = aligned_bytes(GATE_BYTES)
    gate[:] = 0
    shared = (ctypes.c_int(threads), ctypes.c_void_p(gate.ctypes.data))
    if threads == 1:
        return call(0, *shared)
    with ThreadPoolExecutor(threads) as pool:
        return max(pool.map(lambda thread: call(thread, *shared), range(threads)))
