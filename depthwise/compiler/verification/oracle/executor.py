"""Runs the steps of a plan in Python, and holds each to what its node means.

A step gets what the plan says of it: its kernel's name, numbers and views. Nothing here asks how
the plan came about; the rows that a band computes are found by what is in them.

What a step wrote is compared at once with the interpreter's value of its node, and then replaced by
it: rounding of one layer is not handed to the next, so that what differs is the fault of this step,
or of what it read, in networks that amplify every rounding, too. Rows in a window are compared with
those that follow the ones before, else with any: a step that skips rows is right, unless another
reads them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.plan import Plan
from depthwise.compiler.verification.oracle import (  # noqa: F401  (they register meanings)
    arithmetic,
    convolution,
    movement,
    planes,
    selection,
    sequences,
)
from depthwise.compiler.verification.oracle.meanings import MEANINGS, CallArguments
from depthwise.compiler.verification.oracle.memory import Array, Memory, Pointer, Region
from depthwise.compiler.verification.oracle.values import Values, value_of
from depthwise.errors import PlanFault

TOLERANCE = 1e-4  # of a value's largest element
FAR_WITHIN = 100  # times: what is only rounded is much closer to its value than another row is
SENSITIVE = 100  # times what the last digit of its inputs changes a value


def call(step: KernelCall, memory: Memory, lanes: int) -> None:
    """Do what a step's kernel does."""
    values = {
        name: Pointer(memory, a.buffer, a.offset) if isinstance(a, TensorView) else a
        for name, a in step.arguments.items()
    }
    memory.reads.clear()
    with np.errstate(all="ignore"):
        MEANINGS[step.kernel](CallArguments(lanes, values))


@dataclass(frozen=True)
class ScheduledCall:
    """A step that a thread does in a region."""

    region: int
    thread: int
    step: KernelCall


class Execution:
    """One run of a plan; `backwards` lets the last thread of each region be the first."""

    def __init__(self, plan: Plan, inputs: Sequence[Array], backwards: bool = False):
        self.plan, self.backwards = plan, backwards
        buffers = plan.buffers
        self.memory = Memory.of(buffers, plan.arena, plan.weights, inputs, plan.threads)
        asked = Counter(step.name for step in plan.steps if step.name)
        asked.update(output.value for output in plan.graph.outputs)
        self.values = Values(plan.graph, inputs, asked)
        self._inputs = inputs
        self._outputs = {
            number: plan.graph.outputs[buffer.index].value
            for number, buffer in enumerate(buffers)
            if buffer.space == "output"
        }
        # the image, and its row, of a value that a band or a few images are to start with
        self._next: dict[tuple, tuple[int, int]] = {}

    def run(self) -> Iterator[int]:
        """Do every step; yields how many are done. Raises PlanFault, which says where."""
        lives = self._lives()
        done = 0
        for number, region in enumerate(self.plan.regions):
            for buffer, (first, _) in lives.items():
                if first == number:
                    self.memory.forget(buffer)
            threads = list(enumerate(region))
            for thread, part in reversed(threads) if self.backwards else threads:
                self.memory.thread = thread if len(region) > 1 else None
                for step in part:
                    try:
                        self._do(ScheduledCall(number, thread, step))
                    except PlanFault as fault:
                        where = f" of {step.path!r}" if step.path else ""
                        value = f" for {step.name}" if step.name else ""
                        raise PlanFault(f"{step.kernel}{where}{value} {fault}") from None
                    done += 1
                    yield done
            self.memory.meet()
            for buffer, (_, last) in lives.items():
                if last == number:
                    self.memory.forget(buffer)
        for buffer, value in self._outputs.items():
            missing = int((self.memory.cells[buffer].owner != buffer).sum())
            if missing:
                raise PlanFault(f"{missing} elements of the output {value} are never written")

    def _lives(self) -> dict[int, tuple[int, int]]:
        """Return the first and the last region to touch each buffer of the arena."""
        lives: dict[int, tuple[int, int]] = {}
        for number, region in enumerate(self.plan.regions):
            for view in (p for part in region for step in part for p in step.views):
                if self.plan.buffers[view.buffer].space == "arena":
                    lives[view.buffer] = (lives.get(view.buffer, (number,))[0], number)
        return lives

    def _do(self, turn: ScheduledCall) -> None:
        step = turn.step
        call(step, self.memory, self.plan.target.lanes)
        view = step.written[-1]
        if view.buffer in self._outputs:
            value = self._outputs[view.buffer]
            self._hold_all(view, TensorView(view.buffer, 0, *_packed(self._shape(value))), value)
        elif step.name:
            home = self.plan.views[step.name]
            if not step.row.fills and 0 not in view.shape:
                if home.buffer == view.buffer:
                    self._hold_all(view, home, step.name)
                elif self._is_window(step, home) and not self._hold_images(turn, view, home):
                    sliced = self.plan.buffers[view.buffer].frame is not None
                    (self._hold_channels if sliced else self._hold_rows)(turn, view, home)
            self.values.get(step.name)

    def _shape(self, value: str) -> tuple[int, ...]:
        return self.plan.graph.type(value).shape

    def _is_window(self, step: KernelCall, home: TensorView) -> bool:
        """Tell whether a step writes into a window what belongs into the buffer of its value."""
        return step.origin is not None and step.origin.written[-1].buffer == home.buffer

    def _found(self, view: TensorView) -> Array:
        """Return what a view holds."""
        cells, base = self.memory.cells[view.buffer], self.memory.bases[view.buffer]
        region = Region(view.buffer, view.offset, view.shape, view.strides)
        return region.of(cells.values, base)

    def _hold_all(self, view: TensorView, home: TensorView, name: str) -> None:
        """Compare what a step wrote with the same elements of a value that lies at `home`."""
        value, found = self.values.peek(name), self._found(view)
        if (view.offset, view.shape, view.strides) == (home.offset, home.shape, home.strides):
            expected = value
        else:
            number = _numbers(self.plan.buffers[home.buffer].elements, home)
            where = Region(view.buffer, view.offset, view.shape, view.strides).of(number)
            if (where < 0).any():
                raise PlanFault("writes beside its own value")
            expected = value.reshape(-1)[where]
        self._hold(name, found, expected, value)

    def _hold_images(self, turn: ScheduledCall, view: TensorView, home: TensorView) -> bool:
        """Compare what a step wrote with any images of its value; False where it is none of them.

        In a window they lie as in the buffer that has room for all.
        """
        name = turn.step.name
        value, found = self.values.peek(name), self._found(view)
        images = value.shape[0] if value.ndim else 1
        apart, rest = divmod(self.plan.buffers[home.buffer].elements, images)
        count, part = divmod(self.plan.buffers[view.buffer].elements, apart)
        if rest or part or images == 1:
            return False
        number = _numbers(self.plan.buffers[home.buffer].elements, home)
        key = (turn.region, turn.thread, name, view.offset, count)
        likely, _ = self._next.get(key, (0, 0))
        expected = {}
        for image in sorted(range(images), key=lambda image: image != likely):
            where = Region(home.buffer, view.offset + image * apart, view.shape, view.strides)
            if where.ends[1] < len(number) and (where.of(number) >= 0).all():
                expected[image, 0] = value.reshape(-1)[where.of(number)]
        for bound in self._bounds(name, value):
            nearest = _nearest(found, expected, bound)
            if nearest is not None:
                found[...] = expected[nearest]
                self._next[key] = nearest[0] + count, 0
                return True
        return False

    def _hold_rows(self, turn: ScheduledCall, view: TensorView, home: TensorView) -> None:
        """Compare what a step wrote into a window with rows of its value, wherever they lie."""
        step, value = turn.step, self.values.peek(turn.step.name)
        if len(view.shape) != 4 or value.ndim != 4:
            raise PlanFault("gives other numbers than the network has for any image")
        frame = self.plan.buffers[home.buffer].frame
        line = frame.row if frame else home.row
        column, channel = divmod((view.offset - home.offset) % line, home.pixel)
        every = max(1, view.pixel // home.pixel)
        if not view.row:  # rows that follow each other without a gap, as one
            width = -(-(value.shape[3] - column) // every)
            rows = view.shape[3] // width
            unfolded = (width * view.pixel, view.pixel)
            view = TensorView(view.buffer, view.offset, (*view.shape[:2], rows, width),
                          (*view.strides[:2], *unfolded))  # fmt: skip
        found = self._found(view)
        height, count, apart = value.shape[2], view.shape[2], max(1, view.row // home.row)
        columns = slice(column, column + (view.shape[3] - 1) * every + 1, every)
        part = value[:, channel : channel + view.shape[1], :, columns]
        given = self.plan.buffers
        weights = tuple(p.offset for p in step.views if given[p.buffer].space == "weights")
        key = (turn.region, turn.thread, step.name, weights, column, channel)
        likely = self._next.get(key, (0, 0))
        last = height - (count - 1) * apart - 1
        starts = product(range(len(value)), range(last + 1))
        parts = {
            (image, row): part[image : image + 1, :, row : row + (count - 1) * apart + 1 : apart]
            for image, row in sorted(starts, key=lambda start: start != likely)
        }
        for bound in self._bounds(step.name, value):
            nearest = _nearest(found, parts, bound)
            if nearest is not None:
                found[...] = parts[nearest]
                image, row = nearest[0], nearest[1] + count * apart
                self._next[key] = (image, row) if row < height else (image + 1, 0)
                return
        stop = min(likely[1] + count * apart, height)
        raise PlanFault(f"gives other numbers than the network in rows {likely[1]} to {stop - 1}")

    def _hold_channels(self, turn: ScheduledCall, view: TensorView, home: TensorView) -> None:
        """Compare what a step wrote into a window with channels of its value, wherever they are."""
        name, count = turn.step.name, view.shape[1]
        value, found = self.values.peek(name), self._found(view)
        wide = value.reshape(*value.shape[:2], *found.shape[2:]) if not view.row else value
        key = (turn.region, turn.thread, name, home.buffer)
        likely = self._next.get(key, (0, 0))
        starts = product(range(len(value)), range(value.shape[1] - count + 1))
        parts = {
            (image, channel): wide[image : image + 1, channel : channel + count]
            for image, channel in sorted(starts, key=lambda start: start != likely)
        }
        for bound in self._bounds(name, value):
            nearest = _nearest(found, parts, bound)
            if nearest is not None:
                found[...] = parts[nearest]
                self._next[key] = nearest[0], nearest[1] + count
                return
        last = likely[1] + count - 1
        raise PlanFault(f"gives other numbers than the network in channels {likely[1]} to {last}")

    def _hold(self, name: str, found: Array, expected: Array, value: Array) -> None:
        if not any(_agree(found, expected, bound) for bound in self._bounds(name, value)):
            with np.errstate(all="ignore"):
                error = np.abs(found - expected)
                wrong = np.argwhere(~(error <= TOLERANCE * _scale(value)))
            rows = ""
            if found.ndim == 4:
                rows = f" in rows {wrong[:, 2].min()} to {wrong[:, 2].max()} of what it writes"
            raise PlanFault(
                f"gives {len(wrong)} other numbers than the network{rows}, "
                f"off by up to {np.nanmax(error, initial=0):.2g}"
            )
        found[...] = expected

    def _bounds(self, name: str, value: Array) -> Iterator[float]:
        """Yield how far a number may be off; the second, looked at where the first is not held."""
        yield TOLERANCE * _scale(value)
        yield self._sensitivity(name)

    def _sensitivity(self, name: str) -> float:
        """Return how far a value may be off that is computed in another order."""
        graph = self.plan.graph
        node = next((n for n in graph if n.name == name), None)
        if node is None:  # an input that is an output, too
            return 0.0
        again = Values(graph, self._inputs, dict.fromkeys(node.inputs, 1))
        exact = [np.asarray(again.peek(x), np.float64) for x in node.inputs]
        random = np.random.default_rng(0)
        moved = [x * (1 + 2.0**-23 * random.choice((-1, 1), x.shape)) for x in exact]
        apart = np.abs(value_of(node, moved) - value_of(node, exact))
        return SENSITIVE * float(np.nanmax(apart, initial=0))


def _packed(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return shape, tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _scale(value: Array) -> float:
    """Return the largest finite element."""
    low, high = float(value.min(initial=0)), float(value.max(initial=0))
    largest = max(-low, high)
    if np.isfinite(largest):
        return float(largest)
    return float(np.abs(value[np.isfinite(value)]).max(initial=0))


def _numbers(elements: int, home: TensorView) -> Array:
    """Return which element of the value at `home` each element of its buffer is; -1 for none."""
    number = np.full(elements, -1, np.int32)
    count = np.arange(prod(home.shape), dtype=np.int32).reshape(home.shape)
    Region(home.buffer, home.offset, home.shape, home.strides).set(number, 0, count)
    return number


def _nearest(
    found: Array, parts: Mapping[tuple[int, int], Array], bound: float
) -> tuple[int, int] | None:
    """Return where the part starts that is nearest to what was found, within `bound`.

    Where rows are much alike several are within it. The first, the likely one, needs no comparison
    with the others if it is far within.
    """
    near: dict[tuple[int, int], float] = {}
    for row, expected in parts.items():
        if expected.shape != found.shape or not _agree(found, expected, bound):
            continue
        with np.errstate(all="ignore"):
            near[row] = float(np.nanmax(np.abs(found - expected), initial=0))
        if len(near) == 1 and near[row] <= bound / FAR_WITHIN:
            break
    return min(near, key=near.__getitem__, default=None)


def _agree(found: Array, expected: Array, bound: float) -> bool:
    """Tell whether numbers are at most `bound` apart, or both are NaN or infinite."""
    with np.errstate(all="ignore"):
        close = np.abs(found - expected) <= bound
    if close.all():
        return True
    return bool((close | (found == expected) | (np.isnan(found) & np.isnan(expected))).all())
