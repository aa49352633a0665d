"""What a draft costs by a budget's measure, of what would be compiled of it; what a change saves.

Hundreds of changes are priced in a round. Multiply-adds and parameters are counted anew for each.
Times are not: making a whole plan takes a second. So a change is priced by the layers around it,
planned before and after it, and each such window is kept by its shapes. How much less these layers
take in their place, where caches hold other things than in a window alone, is told by the plan of
the whole before the change.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod

from depthwise.analysis.count import count_all_macs
from depthwise.analysis.memory import alive_bytes
from depthwise.compiler.constants import Constants
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.graph import Graph
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware import find
from depthwise.hardware.record import Machine
from depthwise.latency.predict import known_kernels, predict
from depthwise.report.slimming_record import Measure
from depthwise.slimming.costs.windows import Surroundings, changed_windows, known_part

USUAL = CompileOptions()
# Measured on an Intel Xeon, of layers of MobileNetV2 and of a ResNet-56 before and after slimming:
# how many times as long a product of a convolution takes as at full speed, and what an output takes
# as a share of an element that is copied. Nine of ten are within 11 % below and 21 % above.
PRODUCT, OUTPUT = 1.3, 0.5
CALL = 2e-7  # seconds of a step, whatever it does: what whole runs take beyond all of their layers
STEEPEST = 2.0  # times as much as estimated for the original a saving counts, or half as much
SHARP = 8  # the power of the mean by which bytes that are alive are added up: near the largest


@dataclass(frozen=True)
class Costs:
    """What a network costs by each measure; milliseconds are estimated, or measured where said."""

    macs: int
    parameters: int
    weight_bytes: int
    arena_bytes: int
    milliseconds: float


class Prices:
    """Costs and savings by one measure, in its own unit; time and arena without unknown operators.

    Attributes:
        measure: What is counted.
        scale: What estimates of time are multiplied with, to be as was measured.
        offset: Milliseconds that are added to that.
    """

    def __init__(
        self, measure: Measure, options: CompileOptions = USUAL, machine: Machine | None = None
    ):
        """Price what these options would compile.

        Times are those of a machine whose kernels were timed, where one is given; else estimates
        by the rates of the core that is compiled for, with the lanes of vectors as they are filled.
        Raises ValueError for a machine whose kernels were not timed.
        """
        self.measure: Measure = measure
        self.scale, self.offset = 1.0, 0.0
        self._first: tuple[float, float] | None = None  # estimated and measured, of the original
        self._options, self._machine = options.here, machine
        self._table = known_kernels(machine) if machine else None
        self._windows: dict[str, float] = {}
        self._whole: tuple[Graph, dict[str, float]] | None = None

    @property
    def line(self) -> tuple[float, float]:
        """The scale of estimates of time, and what is added to them."""
        return self.scale, self.offset

    def cost(self, graph: Graph) -> float:
        """Return what a network costs."""
        if self.measure in ADDED:
            return ADDED[self.measure](graph)
        return float(getattr(self.all(graph), self.measure))

    def all(self, graph: Graph) -> Costs:
        """Return what a network costs by every measure. Raises Unsupported as compiling does."""
        plan = self._plan(graph)
        seconds = self._seconds(plan)
        self._whole = graph, _by_name(plan.steps, seconds)
        trainable = [known.type for known in graph.constants.values() if known.trainable]
        return Costs(
            count_all_macs(graph), sum(t.size for t in trainable), sum(t.bytes for t in trainable),
            plan.arena.bytes, self.offset + 1e3 * self.scale * sum(seconds),
        )  # fmt: skip

    def hold(self, graph: Graph, milliseconds: float) -> None:
        """Let estimates of time be as was measured of a network, from here on.

        The first one that is measured scales all. Of another one they follow the line through both:
        where changes have saved more than was estimated, those to come will, too.
        """
        raw = (self.all(graph).milliseconds - self.offset) / self.scale
        if self._first is None:
            self._first = raw, milliseconds
        estimated, measured = self._first
        self.scale = measured / estimated
        if estimated > raw:
            slope = (measured - milliseconds) / (estimated - raw)
            self.scale = min(max(slope, self.scale / STEEPEST), self.scale * STEEPEST)
        self.offset = milliseconds - self.scale * raw

    def by_path(self, graph: Graph) -> dict[str, float]:
        """Return the estimated milliseconds of each module of a network, by its path.

        To the scale of the network that was measured first.
        """
        scale = self._first[1] / self._first[0] if self._first else self.scale
        plan, found = self._plan(graph), defaultdict[str, float](float)
        for step, seconds in zip(plan.steps, self._seconds(plan), strict=True):
            found[step.path] += 1e3 * scale * seconds
        return found

    def saving(self, before: Graph, after: Graph) -> float:
        """Return how much less a network costs after a change, below 0 for more."""
        if self.measure == "milliseconds":
            return self._time_saved(before, after)
        if self.measure == "arena_bytes":
            return _arena(before) - _arena(after)
        return ADDED[self.measure](before) - ADDED[self.measure](after)

    def _time_saved(self, before: Graph, after: Graph) -> float:
        one, other = changed_windows(before, after)
        if self._whole is None or self._whole[0] is not before:
            self.cost(before)
        assert self._whole is not None
        alone, then = self._price(one), self._price(other)
        inside = sum(self._whole[1].get(node.name, 0.0) for node in one.graph)
        share = inside / alone if alone and inside else 1.0
        return 1e3 * self.scale * share * (alone - then)

    def _price(self, window: Surroundings) -> float:
        """Return the seconds of a window's steps, those that bring values in and out left out."""
        if not window.graph.nodes:
            return 0.0
        if window.key not in self._windows:
            plan = self._plan(window.graph)
            steps = zip(plan.steps, self._seconds(plan), strict=True)
            self._windows[window.key] = sum(seconds for step, seconds in steps if step.name)
        return self._windows[window.key]

    def _plan(self, graph: Graph) -> Plan:
        asked = self._options
        return make_plan(rewrite(known_part(graph)), asked.chosen, asked.optimize, core=asked.core)

    def _seconds(self, plan: Plan) -> list[float]:
        if self._machine and self._table:
            return predict(plan, self._machine, self._table)
        return [CALL + usual_seconds(step, plan.constants) for step in plan.steps]


def machine_here(build: CompileOptions) -> Machine | None:
    """Return this machine where its kernels were timed and the library is for it, else None."""
    here = find() if build.chosen.runs_here else None
    if here is None:
        return None
    try:
        known_kernels(here)
    except ValueError:
        return None
    return here


def usual_seconds(step: KernelCall, constants: Constants) -> float:
    """Return about how long a step takes, on a machine whose kernels were not timed.

    Of multiply-adds and of outputs each vector counts whole, however many of its lanes hold a
    channel. Weights come from beyond the second cache, while others are computed with.
    """
    lanes, row = constants.lanes, step.row
    counted = row.count(step.arguments, lanes) if row.count else {}
    if row.around:
        return 1e-9 * constants.element * counted["elements"]
    if not row.multiply_add or not counted:
        elements = sum(prod(view.shape) for view in step.views)
        return 1e-9 * constants.element * elements
    products = lanes * constants.multiply_add * counted.get("steps", 0.0)
    weights = sum(prod(view.shape) for view in step.views if view.buffer == 0)
    reading = weights * FLOAT32.bytes * constants.weight
    if "transforms" in counted:  # Winograd's: more weights than any other reads, by few pixels
        return 1e-9 * (products + lanes * constants.multiply_add * counted["transforms"] + reading)
    images, channels, *plane = step.written[-1].shape
    outputs = images * ceil(channels / lanes) * lanes * prod(plane)
    return 1e-9 * max(PRODUCT * products + OUTPUT * outputs * constants.element, reading)


def _parameters(graph: Graph) -> float:
    return sum(known.type.size for known in graph.constants.values() if known.trainable)


def _weight_bytes(graph: Graph) -> float:
    return sum(known.type.bytes for known in graph.constants.values() if known.trainable)


def _arena(graph: Graph) -> float:
    """Return the bytes of activations as a mean that the largest decide.

    What lowers one of several equal peaks lowers it too, as the peak itself would not.
    """
    alive = alive_bytes(graph)
    return float(sum((bytes / 1e6) ** SHARP for bytes, _ in alive) ** (1 / SHARP) * 1e6)


# The measures of a whole that are sums over its parts.
ADDED: dict[Measure, Callable[[Graph], float]] = {
    "macs": count_all_macs, "parameters": _parameters, "weight_bytes": _weight_bytes,
}  # fmt: skip


def _by_name(steps: Sequence[KernelCall], seconds: Sequence[float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for step, time in zip(steps, seconds, strict=True):
        found[step.name] = found.get(step.name, 0.0) + time
    return found
