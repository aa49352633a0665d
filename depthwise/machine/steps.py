"""Plans timed step by step.

An instrumented build of the same calls notes the time after each, so that every step finds the
caches as the one before it left them.
"""

import ctypes
import time
from pathlib import Path

import numpy as np

from depthwise.compiler.build import compile_c
from depthwise.compiler.emit import emit_units
from depthwise.compiler.library import Code, align_copy, aligned_bytes
from depthwise.compiler.plan import Plan
from depthwise.graph import Shape

UNITS = 4  # as in a library, so that both share compiled units
LEAST_RUNS = 15


class Clocked:
    """A library whose net_run notes the time around each step of its plan."""

    def __init__(self, plan: Plan, cc: str | None = None):
        clock = Path(__file__).with_name("clock.c").read_text()
        units = emit_units(plan, UNITS, note="net_note")
        clock = f"#define STEPS {len(plan.steps)}\n{clock}"
        path = compile_c((*units, clock), plan.target, cc)
        self._code, library = Code(path), ctypes.CDLL(str(path))
        times = (ctypes.c_longlong * (len(plan.steps) + 1)).in_dll(library, "net_times")
        self._times = np.ctypeslib.as_array(times)
        self._note_all = library.net_note_all
        self._weights = align_copy(plan.weights)
        self._arena = aligned_bytes(self._code.arena_bytes)
        self._inputs = [_draw(type.shape, type.dtype) for type in plan.graph.inputs.values()]
        outputs = (plan.graph.type(output.value) for output in plan.graph.outputs)
        self._outputs = [np.empty(type.shape, np.float32) for type in outputs]

    def run(self) -> np.ndarray:
        """Run once on random inputs; return the seconds of each step, the clock's own included."""
        self._code.run(self._weights, self._inputs, self._outputs, self._arena)
        return np.diff(self._times) * 1e-9

    def cost(self) -> float:
        """Return the median seconds that one note of the time takes."""
        noted = []
        for _ in range(LEAST_RUNS):
            self._note_all()
            noted.append(np.diff(self._times) * 1e-9)
        return float(np.median(np.concatenate(noted)))


def time_steps(plan: Plan, cc: str | None = None, seconds: float = 1.0) -> np.ndarray:
    """Return the time of each step of a plan in each of many runs, in seconds: (runs, steps).

    It runs for about `seconds`, and at least 15 times. The clock's own cost is taken off.
    """
    clocked = Clocked(plan, cc)
    clocked.run()  # maps the pages, wakes the core
    cost = clocked.cost()
    runs: list[np.ndarray] = []
    end = time.perf_counter() + seconds
    while len(runs) < LEAST_RUNS or time.perf_counter() < end:
        runs.append(np.maximum(clocked.run() - cost, 0.0))
    return np.array(runs)


def _draw(shape: Shape, dtype: str) -> np.ndarray:
    random = np.random.default_rng(0)
    if dtype == "uint8":
        return random.integers(0, 256, shape, np.uint8)
    return random.standard_normal(shape, np.float32)
