"""What each step of a plan wrote, looked at while the plan runs.

A second build of the same kernels, of which only net_run is compiled again, calls back after each
step. What is looked at is the plan itself, its bands and windows and what it does in place, in an
arena of its own size.
"""

import ctypes
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from depthwise.compiler.codegen.emit import emit_units
from depthwise.compiler.fused_ops import FlattenChannelsLast
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import TensorView, reshaped
from depthwise.compiler.plan import Plan
from depthwise.graph import Shape
from depthwise.graph.dtypes import DType
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import thread_flags
from depthwise.toolchain.build import compile_c

Index = tuple[slice, ...]

NOTE = """static void (*listener)(int steps);
void net_listen(void (*function)(int steps));
void net_listen(void (*function)(int steps)) { listener = function; }
void net_note(int steps);
void net_note(int steps) { listener(steps); }
"""


@dataclass(frozen=True)
class Elements:
    """Some elements of a value: those at `index` of it, seen as `shape`."""

    shape: Shape
    index: Index


@dataclass(frozen=True)
class Piece:
    """What a step has written of a value of the network: all of it, or some rows or channels.

    After the `last` one nothing of that value comes; then comes something of the value `next`.
    """

    value: str
    elements: Elements
    last: bool = True
    next: str = ""


Look = Callable[[Piece, np.ndarray], None]


class Trace:
    """A plan built so that what it writes can be looked at; `values` names what that is.

    Of values that are not among `known`, nothing is looked at.
    """

    def __init__(self, plan: Plan, known: Collection[str], units: int, cc: str | None):
        self._plan = plan
        self._pieces = {
            number: [(piece, view) for piece, view in pieces if piece.value in known]
            for number, pieces in find_pieces(plan).items()
        }
        self.values = frozenset(p.value for pieces in self._pieces.values() for p, _ in pieces)
        alone = replace(plan, threads=1)  # all parts in turn; the kernels stay the same
        sources = (*emit_units(alone, units, "net_note"), NOTE)
        path = compile_c(sources, plan.target, cc, thread_flags(plan.threads))
        self._code = Code(path)

    def __call__(self, inputs: Sequence[np.ndarray], look: Look) -> None:
        """Run the plan on inputs and call `look` with each piece as soon as it is written."""
        plan, failures = self._plan, list[BaseException]()
        arena, weights = aligned_bytes(self._code.arena_bytes), align_copy(plan.weights)
        given = [buffer for buffer in plan.buffers if buffer.space == "output"]

        @ctypes.CFUNCTYPE(None, ctypes.c_int)
        def listen(steps: int) -> None:
            try:
                for piece, view in self._pieces.get(steps - 1, ()) if not failures else ():
                    buffer, start = plan.buffers[view.buffer], plan.arena.offsets[view.buffer]
                    look(piece, read_view(arena[start:], view, buffer.element))
            except BaseException as failure:  # C cannot pass it on, an interrupt neither
                failures.append(failure)

        self._code.opened.net_listen(listen)
        outputs = [np.empty(buffer.elements, buffer.element.storage) for buffer in given]
        self._code.run(weights, [np.ascontiguousarray(x) for x in inputs], outputs, arena)
        if failures:
            raise failures[0]


def read_view(memory: np.ndarray, view: TensorView, element: DType) -> np.ndarray:
    """Return the numbers that lie in a buffer, whose bytes `memory` begins with."""
    stored = memory.view(element.storage)[view.offset :]
    strides = tuple(element.bytes * stride for stride in view.strides)
    seen = np.lib.stride_tricks.as_strided(stored, view.shape, strides, writeable=False)
    return element.decode(seen)


def find_pieces(plan: Plan) -> dict[int, list[tuple[Piece, TensorView]]]:
    """Return, for steps of a plan by number, what of which values each writes, and where.

    A value that is written bit by bit in another shape than it has is left out where it is
    streamed or divided, and one that is only another view of values before it always.
    """
    final = _final_steps(plan)
    found: list[tuple[int, Piece, TensorView]] = []
    for number, step in enumerate(plan.steps):
        elements = final.get(_place(step.whole))
        if elements is None:
            continue
        view = plan.views[step.name]
        pieces = list(_written(step, view))
        if not elements and not step.origin:
            pieces = [(Elements(view.shape, (slice(None),) * len(view.shape)), view)]
        found += [(number, Piece(step.name, part), at) for part, at in pieces]
    last = {piece.value: position for position, (_, piece, _) in enumerate(found)}
    by_step: dict[int, list[tuple[Piece, TensorView]]] = {}
    following = [piece.value for _, piece, _ in found[1:]] + [""]
    for position, (number, piece, at) in enumerate(found):
        ended = replace(piece, last=position == last[piece.value], next=following[position])
        by_step.setdefault(number, []).append((ended, at))
    return by_step


Place = tuple[str, str, tuple[TensorView, ...]]  # of a step: its value, kernel and views


def _place(step: KernelCall) -> Place:
    """Return what a step is known by, whatever it asks for ahead."""
    return step.name, step.kernel, step.views


def _final_steps(plan: Plan) -> Mapping[Place, tuple[Elements, ...]]:
    """Return the whole steps that leave elements of values as they stay, with these elements.

    A step has none after which the value is complete, though it was written in another shape.
    """
    reordered = {n.name for n in plan.graph if isinstance(n.op, FlattenChannelsLast)}
    by_value: dict[str, list[KernelCall]] = {}
    for step in plan.whole.steps:
        view = plan.views.get(step.name)
        if view and plan.buffers[view.buffer].space == "arena" and step.name not in reordered:
            by_value.setdefault(step.name, []).append(step)
    final: dict[Place, tuple[Elements, ...]] = {}
    for name, steps in by_value.items():
        kept: dict[KernelCall, tuple[Elements, ...]] = {}
        for step in steps:
            written = tuple(elements for elements, _ in _written(step, plan.views[name]))
            kept = {s: before for s, before in kept.items() if not _meet(before, written)}
            if written:
                kept[step] = written
        ends = kept or {steps[-1]: ()}
        final |= {_place(step): elements for step, elements in ends.items()}
    return final


def _written(step: KernelCall, view: TensorView) -> Iterator[tuple[Elements, TensorView]]:
    """Return the elements of the value at `view` that a step writes, and where it does."""
    homes = step.origin.written if step.origin else step.written
    for output, home, at in zip(step.whole.written, homes, step.written, strict=True):
        same = prod(output.shape) == prod(view.shape)
        seen = (same and reshaped(view, output.shape)) or view  # pixels in one row, say
        index = find_index(home, seen) if home.buffer == view.buffer else None
        if index is not None:
            yield Elements(seen.shape, index), at


def find_index(part: TensorView, whole: TensorView) -> Index | None:
    """Return which elements of a value lie in a part of its view; None where they are no grid."""
    if len(part.shape) != len(whole.shape) or part.offset < whole.offset:
        return None
    starts, left = [0] * len(whole.shape), part.offset - whole.offset
    for axis in sorted(range(len(starts)), key=lambda axis: -whole.strides[axis]):
        if whole.shape[axis] > 1 and whole.strides[axis]:
            starts[axis], left = divmod(left, whole.strides[axis])
    index = []
    for axis, start in enumerate(starts):
        count, own = part.shape[axis], whole.strides[axis]
        step, rest = divmod(part.strides[axis], own) if count > 1 and own else (1, 0)
        stop = start + (count - 1) * step + 1
        if rest or step < 1 or stop > whole.shape[axis]:
            return None
        index.append(slice(start, stop, step))
    return None if left else tuple(index)


def _meet(some: Sequence[Elements], others: Sequence[Elements]) -> bool:
    """Tell whether any element may be in both."""
    return any(
        one.shape != two.shape or all(map(_share, one.index, two.index))
        for one in some
        for two in others
    )


def _share(one: slice, two: slice) -> bool:
    if one.step == two.step and (one.start - two.start) % one.step:
        return False
    return one.start < two.stop and two.start < one.stop


def without_sources(plan: Plan) -> Plan:
    """Return a plan without what it was made of: constants, and ways to do steps in parts."""
    regions = tuple(tuple(tuple(map(_alone, part)) for part in region) for region in plan.regions)
    whole = replace(plan.whole, steps=tuple(map(_alone, plan.whole.steps)))
    return replace(plan, graph=plan.graph.without_data(), regions=regions, whole=whole)


def _alone(step: KernelCall) -> KernelCall:
    origin = step.origin and replace(step.origin, whole=_alone(step.origin.whole))
    return replace(step, splits=(), origin=origin)
