"""Plans timed step by step.

An instrumented build of the same calls notes the time after each, so that every step finds the
caches as the one before it left them.
"""

import ctypes
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from depthwise.compiler.codegen.emit import emit_together
from depthwise.compiler.plan import Plan
from depthwise.runtime.library import Code, aligned_bytes
from depthwise.toolchain.build import compile_c

UNITS = 4  # for each plan, as in a library, so that both share compiled units
LEAST_RUNS = 15


class Clocked:
    """A library whose net_run notes the time around each step of its plan."""

    def __init__(self, plan: Plan, path: Path):
        self.plan = plan
        self._code = Code(path)
        times = (ctypes.c_longlong * (len(plan.steps) + 1)).in_dll(self._code.opened, "net_times")
        self._times = np.ctypeslib.as_array(times)
        self._note_all = self._code.opened.net_note_all
        random = np.random.default_rng(0)
        self._inputs = [t.element.draw(random, t.shape) for t in plan.graph.inputs.values()]
        outputs = (plan.graph.type(output.value) for output in plan.graph.outputs)
        self._outputs = [np.empty(type.shape, type.element.storage) for type in outputs]

    def runs(self, seconds: float, least: int = LEAST_RUNS) -> np.ndarray:
        """Return the time of each step in each of many runs, in seconds: (runs, steps).

        It runs on random inputs, in memory of its own, for about `seconds` and at least `least`
        times. The clock's own cost is taken off.
        """
        run = self.runner()
        runs: list[np.ndarray] = []
        end = time.perf_counter() + seconds
        while len(runs) < least or time.perf_counter() < end:
            runs.append(run())
        return np.array(runs)

    def runner(self, copies: int = 1) -> Callable[[], np.ndarray]:
        """Return what runs once and returns the time of each step, in memory of its own.

        With several copies of the weights these take turns, so that no cache holds what a run
        reads of them.
        """
        weights = itertools.cycle([self._weights() for _ in range(copies)])
        arena = aligned_bytes(self._code.arena_bytes)

        def run() -> np.ndarray:
            self._code.run(next(weights), self._inputs, self._outputs, arena)
            return np.diff(self._times) * 1e-9

        for _ in range(copies):
            run()  # maps the pages, wakes the core
        cost = self._cost()
        return lambda: np.maximum(run() - cost, 0.0)

    def _weights(self) -> np.ndarray:
        """Return the weights at another address, which decides what stays in a shared cache."""
        copy = aligned_bytes(self.plan.weights.nbytes)
        copy[:] = self.plan.weights.view(np.uint8)
        return copy

    def _cost(self) -> float:
        """Return the median seconds that one note of the time takes."""
        noted = []
        for _ in range(LEAST_RUNS):
            self._note_all()
            noted.append(np.diff(self._times) * 1e-9)
        return float(np.median(np.concatenate(noted)))


def build_clocked(plans: Sequence[Plan], cc: str | None = None) -> list[Clocked]:
    """Return plans of one target ready to be timed; a kernel that several call is compiled once."""
    clock = Path(__file__).with_suffix(".c").read_text()
    built = []
    for plan, units in zip(
        plans, emit_together(plans, UNITS * len(plans), "net_note"), strict=True
    ):
        sized = f"#define STEPS {len(plan.steps)}\n{clock}"
        built.append(Clocked(plan, compile_c((*units, sized), plan.target, cc)))
    return built
