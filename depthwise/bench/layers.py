"""Where the time of a compiled network goes, layer by layer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from statistics import median

import numpy as np

from depthwise.analysis.count import count_macs
from depthwise.bench.least import Bound, bound, bytes_moved, own_operator, products
from depthwise.bench.peak import measure_peak
from depthwise.compiler.autotune.step_timer import LEAST_RUNS, build_clocked
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.plan import Plan
from depthwise.graph import Node, Shape
from depthwise.graph.dtypes import UINT8
from depthwise.hardware import Machine, calibrate
from depthwise.hardware.arithmetic import VECTORS, Arithmetic
from depthwise.hardware.load import Watch
from depthwise.hardware.record import TOLERANCE
from depthwise.runtime.target import Target, find_target

TURNS = 5  # of a profile: the peak is measured before each and after the last
ROUNDING = 3  # instructions that a vector of sums takes to become bytes: convert, scale, round
TICK = 5e-8  # seconds that the clock may be off at each call: no roof is wrong for so little


@dataclass(frozen=True)
class LayerTime:
    """The steps of one node that call one kernel, and the seconds that they take together.

    A node's multiply-adds, those of them that have to be done (`needed`: Winograd's are fewer), and
    the bytes that have to move, are those of the kernel that takes most of its time, 0 of the
    others. `filled` is the share of its vectors' lanes that hold a channel of the output,
    `arithmetic` what it multiplies with, `rounded` how many sums become bytes.
    """

    path: str
    name: str
    kernel: str
    shape: Shape
    comment: str
    calls: int
    seconds: float
    macs: int = 0
    needed: int = 0
    bytes: int = 0
    filled: float = 1.0
    arithmetic: Arithmetic = VECTORS
    rounded: int = 0

    @property
    def flops(self) -> float:
        """Floating-point operations done, 2 a multiply-add, in a second."""
        return 2 * self.needed / self.seconds if self.seconds else 0.0

    def least(self, machine: Machine, peak: float) -> Bound:
        """Return its roofline, with a core's arithmetic at `peak` FLOP/s."""
        return bound(self.needed, self.bytes, self.calls, self.filled, machine, peak)

    def contradicts(self, machine: Machine, peak: float) -> bool:
        """Tell whether it was faster than its roofline allows, so that this is wrong."""
        slack = self.calls * TICK
        least = self.least(machine, peak).seconds if self.bytes else 0.0
        return least > TOLERANCE * self.seconds + slack


@dataclass(frozen=True)
class Profile:
    """The layers of a network in order, from the same runs, so that they add up to the whole.

    `peak` is the FLOP/s that one core reached beside them in float32 with what `target` has, and
    `narrow` those of other arithmetic that the layers do. `library` is the median seconds of what
    was run interleaved with them, `disturbed` what else was at work, in words: empty for nothing.
    """

    layers: tuple[LayerTime, ...]
    runs: int
    peak: float
    library: float | None = None
    disturbed: str = ""
    narrow: Mapping[Arithmetic, float] = field(default_factory=dict)
    target: str = "native"

    def peak_of(self, arithmetic: Arithmetic) -> float:
        """Return the FLOP/s that one core reaches at best, 2 a multiply-add."""
        return self.narrow.get(arithmetic, self.peak)

    @property
    def seconds(self) -> float:
        """The whole: all layers one after the other."""
        return sum(layer.seconds for layer in self.layers)

    @property
    def flops(self) -> float:
        """Floating-point operations done, 2 a multiply-add, in a second."""
        return 2 * sum(layer.needed for layer in self.layers) / self.seconds

    @property
    def least_arithmetic(self) -> float:
        """The seconds that the multiply-adds of all layers take, each at its peak."""
        return sum(2 * layer.needed / self.peak_of(layer.arithmetic) for layer in self.layers)

    def least(self, layer: LayerTime, machine: Machine) -> Bound:
        """Return what a layer cannot be faster than, and why: its roofline, or "rounding".

        That is how long vectors of float32 take to bring its sums to bytes.
        """
        found = layer.least(machine, self.peak_of(layer.arithmetic))
        rounding = 2 * ROUNDING * layer.rounded / self.peak
        return Bound(rounding, "rounding") if rounding > found.seconds else found

    def contradicts(self, machine: Machine) -> bool:
        """Tell whether any layer was faster than the machine allows."""
        return any(
            layer.contradicts(machine, self.peak_of(layer.arithmetic)) for layer in self.layers
        )


def profile(
    plan: Plan,
    cc: str | None = None,
    seconds: float = 1.0,
    library: Callable[[int], list[float]] | None = None,
) -> Profile:
    """Return where the time of a plan goes, layer by layer, from runs of about `seconds`.

    Interleaved with them, the peak is measured, and `library` timed over
    several runs.
    """
    (clocked,) = build_clocked((plan,), cc)
    done = arithmetic_of(plan)
    watch, peaks, turns, others = Watch(), [_peaks(plan.target, done)], [], []
    for _ in range(TURNS):
        turns.append(clocked.runs(seconds / TURNS, -(-LEAST_RUNS // TURNS)))
        others += library(len(turns[-1])) if library else []
        peaks.append(_peaks(plan.target, done))
    load, runs = watch.load(), np.concatenate(turns)
    rows = _rows(plan, usual(runs))
    best: dict[Arithmetic, float] = {name: max(each[name] for each in peaks) for name in done}
    peak = best.pop(VECTORS)
    return Profile(
        tuple(rows), len(runs), peak, median(others) if others else None, load.disturbed, best,
        plan.target.name,
    )  # fmt: skip


def arithmetic_of(plan: Plan) -> list[Arithmetic]:
    """Return what the steps of a plan multiply with, float32 first."""
    every: list[Arithmetic] = [VECTORS, *(_arithmetic(step, plan.target) for step in plan.steps)]
    return list(dict.fromkeys(every))


def _rounds(step: KernelCall) -> bool:
    """Tell whether sums become bytes."""
    layer = step.row.dtype == UINT8 and step.row.products is not None
    return layer and step.arguments["out"] is not None


def _arithmetic(step: KernelCall, target: Target) -> Arithmetic:
    find = step.row.arithmetic
    return find(step.arguments, target) if find else VECTORS


def _peaks(target: Target, wanted: Iterable[Arithmetic]) -> dict[Arithmetic, float]:
    return {name: measure_peak(1, target, name) for name in wanted}


def agreed(found: Profile, here: Machine) -> tuple[Profile, Machine]:
    """Return a profile and a machine that do not contradict each other, as far as can be.

    Where a layer was faster than the machine allows, the machine is calibrated again, once, and the
    peak is the best of all that was measured. What then is left over has no share of any roof.
    """
    if not found.contradicts(here):
        return found, here
    here, target = calibrate(), find_target(found.target)
    again = _peaks(target, (VECTORS, *found.narrow))
    calibrated = max((1e9 * each.gflops.best for each in here.peaks if each.lanes == target.lanes),
                     default=0.0)  # fmt: skip
    best = {name: max(again[name], peak) for name, peak in found.narrow.items()}
    return replace(found, peak=max(found.peak, again[VECTORS], calibrated), narrow=best), here


def usual(runs: np.ndarray) -> np.ndarray:
    """Return the seconds of each step, the mean of the runs whose whole is in the middle half.

    (runs, steps) -> (steps): medians of each step would not add up to the time of any whole.
    """
    order = np.argsort(runs.sum(axis=1), kind="stable")
    quarter = len(runs) // 4
    return runs[order[quarter : len(runs) - quarter]].mean(axis=0)


def _rows(plan: Plan, seconds: np.ndarray) -> list[LayerTime]:
    groups: dict[tuple[str, str], list[tuple[KernelCall, float]]] = {}
    for step, time in zip(plan.steps, seconds.tolist(), strict=True):
        # a streamed layer has a step a window, and other layers' between them
        groups.setdefault((step.name, step.kernel), []).append((step, time))
    rows = [_row(plan, group) for group in groups.values()]
    longest: dict[str, int] = {}  # node -> its row that takes the longest
    for i, row in enumerate(rows):
        if row.name not in longest or row.seconds > rows[longest[row.name]].seconds:
            longest[row.name] = i
    for node, macs in _macs_by_step(plan).items():
        row = rows[longest[node.name]]
        steps = [step for step, _ in groups[row.name, row.kernel]]
        rows[longest[node.name]] = replace(
            row,
            macs=macs,
            needed=_needed(macs, steps),
            bytes=bytes_moved(plan.graph, node, steps, plan.buffers),
            filled=_filled(plan, node),
            arithmetic=_arithmetic(steps[0], plan.target),
            rounded=prod(node.type.shape) if _rounds(steps[0]) else 0,
        )
    return rows


def _row(plan: Plan, timed: list[tuple[KernelCall, float]]) -> LayerTime:
    first = timed[0][0]
    comments = list(dict.fromkeys(step.comment for step, _ in timed if step.comment))
    shape = plan.graph.type(first.name).shape if first.name else ()
    comment = " ".join([*comments, *([f"x{len(timed)}"] if len(timed) > 1 else [])])
    seconds = sum(time for _, time in timed)
    return LayerTime(first.path, first.name, first.kernel, shape, comment, len(timed), seconds)


def _needed(macs: int, steps: list[KernelCall]) -> int:
    """Return the multiply-adds that steps do, none counted that only fills up tiles or borders."""
    done = [products(step) for step in steps]
    return macs if None in done else min(macs, sum(filter(None, done)))


def _macs_by_step(plan: Plan) -> dict[Node, int]:
    """Return node -> MACs; what a node computes that has no step is in the next one's kernel."""
    stepped = {step.name for step in plan.steps}
    macs: dict[Node, int] = {}
    carried = 0
    for node in plan.graph:
        carried += _macs(plan, node)
        if node.name in stepped:
            macs[node], carried = carried, 0
    return macs


def _filled(plan: Plan, node: Node) -> float:
    """Return the share of vector lanes that hold an output: channels, or features of a vector."""
    shape, lanes = node.type.shape, plan.target.lanes
    outs = shape[1] if len(shape) == 4 else shape[-1] if shape else 1
    return outs / (-(-outs // lanes) * lanes)


def _macs(plan: Plan, node: Node) -> int:
    return count_macs(plan.graph, replace(node, op=own_operator(node))) or 0
