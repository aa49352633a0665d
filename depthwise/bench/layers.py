"""Where the time of a compiled network goes, step by step.

An instrumented build of the same calls notes the time after each, so that every step finds the
caches as the one before it left them.
"""

import ctypes
import time
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from depthwise.accounting.count import count_macs
from depthwise.compiler.build import compile_c
from depthwise.compiler.emit import emit_units
from depthwise.compiler.fused import Fused
from depthwise.compiler.library import Code, align_copy, aligned_bytes
from depthwise.compiler.places import Step
from depthwise.compiler.plan import Plan
from depthwise.graph import Node, Shape

UNITS = 4  # as in a library, so that both share compiled units
LEAST_RUNS = 15


@dataclass(frozen=True)
class LayerTime:
    """The steps of one node that call one kernel: seconds are the median over many runs.

    A node's multiply-adds are told of the kernel that takes most of its time, 0 of the others.
    """

    path: str
    name: str
    kernel: str
    shape: Shape
    comment: str
    seconds: float
    macs: int

    @property
    def flops(self) -> float:
        """Floating-point operations, 2 a multiply-add, in a second."""
        return 2 * self.macs / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """The layers of a network in order; `seconds` is the median of its whole runs."""

    layers: tuple[LayerTime, ...]
    seconds: float
    runs: int

    @property
    def flops(self) -> float:
        """Floating-point operations, 2 a multiply-add, in a second."""
        return 2 * sum(layer.macs for layer in self.layers) / self.seconds


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


def profile(plan: Plan, cc: str | None = None, seconds: float = 1.0) -> Profile:
    """Return where the time of a plan goes, layer by layer, from runs of about `seconds`."""
    runs = time_steps(plan, cc, seconds)
    medians = np.median(runs, axis=0)
    timed = zip(plan.steps, medians.tolist(), strict=True)
    rows = [
        _row(plan, [(step, time) for step, time in group])
        for _, group in groupby(timed, lambda pair: (pair[0].name, pair[0].kernel))
    ]
    longest: dict[str, int] = {}  # node -> its row that takes the longest
    for i, row in enumerate(rows):
        if row.name not in longest or row.seconds > rows[longest[row.name]].seconds:
            longest[row.name] = i
    for name, macs in _macs_by_step(plan).items():
        rows[longest[name]] = replace(rows[longest[name]], macs=macs)
    return Profile(tuple(rows), float(np.median(runs.sum(axis=1))), len(runs))


def _row(plan: Plan, timed: list[tuple[Step, float]]) -> LayerTime:
    first = timed[0][0]
    comments = list(dict.fromkeys(step.comment for step, _ in timed if step.comment))
    shape = plan.graph.type(first.name).shape if first.name else ()
    comment = " ".join([*comments, *([f"x{len(timed)}"] if len(timed) > 1 else [])])
    seconds = sum(time for _, time in timed)
    return LayerTime(first.path, first.name, first.kernel, shape, comment, seconds, 0)


def _macs_by_step(plan: Plan) -> dict[str, int]:
    """Return node -> MACs; what a node computes that has no step is in the next one's kernel."""
    stepped = {step.name for step in plan.steps}
    macs: dict[str, int] = {}
    carried = 0
    for node in plan.graph:
        carried += _macs(plan, node)
        if node.name in stepped:
            macs[node.name], carried = carried, 0
    return macs


def _macs(plan: Plan, node: Node) -> int:
    op = node.op.op if isinstance(node.op, Fused) else node.op
    return count_macs(plan.graph, replace(node, op=op)) or 0


def _draw(shape: Shape, dtype: str) -> np.ndarray:
    random = np.random.default_rng(0)
    if dtype == "uint8":
        return random.integers(0, 256, shape, np.uint8)
    return random.standard_normal(shape, np.float32)
