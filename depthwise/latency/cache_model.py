"""Where the bytes of each step come from: the nearest cache that still holds them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.plan import Plan
from depthwise.hardware.caches import sizes_held
from depthwise.hardware.record import LEVELS, CacheShare, Level

BLOCK = 1024  # bytes that are followed together
KEPT = ("weights", "fetched")  # roles of what a network keeps from run to run


Moved = dict[tuple[str, Level], int]  # bytes, by their role and the level that they come from


@dataclass(frozen=True)
class ByteSpan:
    """Bytes that a step touches: `size` of them, in the `span` bytes from `start` of a buffer.

    `role` is "weights" for what a network keeps, "fetched" for weights that are asked for before
    their turn, "written" for a step's output, else "read".
    """

    role: str
    buffer: int
    start: int
    span: int
    size: int


def touches(step: KernelCall, plan: Plan) -> list[ByteSpan]:
    """Return the bytes that each argument of a step touches, its outputs after its inputs.

    What it asks for before its turn comes first. A border is few of the bytes that it lies around.
    """
    if step.row.around:
        return []
    found = []
    for name, view in step.arguments.items():
        if not isinstance(view, TensorView) or name in step.row.ahead:
            continue
        role = "weights" if plan.buffers[view.buffer].space == "weights" else "read"
        role = "written" if name in step.row.written else role
        reach = step.row.reach if name == "in" else None
        first, span = reach(step.arguments) if reach else (0, _extent(view))
        start = max(view.offset + first, 0)
        span = min(span, plan.buffers[view.buffer].elements - start)
        share, size = _share(view), plan.buffers[view.buffer].element.bytes
        found.append(
            ByteSpan(role, view.buffer, size * start, size * span, round(size * span * share))
        )
    return _fetched(step, plan) + found


def _fetched(step: KernelCall, plan: Plan) -> list[ByteSpan]:
    """Return the weights that a step asks for before their turn: none beyond the last."""
    if step.row.fetches is None:
        return []
    (start, count), kept = step.row.fetches(step.arguments, plan.target.lanes), plan.buffers[0]
    size, count = kept.element.bytes, min(count, kept.elements - start)
    return [ByteSpan("fetched", 0, size * start, size * count, size * count)] if count > 0 else []


def _extent(view: TensorView) -> int:
    """Return the elements from a view's first element to its last."""
    pairs = zip(view.shape, view.strides, strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)


def _share(view: TensorView) -> float:
    """Return the share of a view's span that its channels take: others' may lie between them."""
    if len(view.shape) != 4 or not view.pixel:
        return 1.0
    return min(1.0, view.shape[1] / view.pixel)


def sources(
    plan: Plan, caches: Sequence[int], cold: bool = False, shared: Sequence[CacheShare] = ()
) -> list[Moved]:
    """Return for each step the bytes of each role that come from each level: {(role, level): n}.

    A cache holds what was touched last. A block that is touched again after n bytes of others comes
    from the nearest cache of at least n bytes (its stack distance; Mattson et al., "Evaluation
    techniques for storage hierarchies", IBM Systems Journal 9(2), 1970), or partly from the last
    one, of which others leave a core as much as `shared` says. Of weights, and of all else, no more
    bytes count than there are. The network runs over and over: what its first step
    reads was last touched in the run before. Where weights are `cold`, they were not: they come
    from memory, but for what a step before has fetched.
    """
    starts, total = _addresses(plan)
    kept = plan.buffers[0].bytes
    most = np.array([[np.inf if cold else kept], [total - kept]], float)
    clocks = np.zeros((2, 1))  # bytes touched so far, of weights and of all else
    last = np.full((2, total // BLOCK + 1), -np.inf)
    names: list[Level] = [*LEVELS[: len(caches)], "memory"]
    found: list[Moved] = []
    steps = [touches(step, plan) for step in plan.steps]
    for index, touched in enumerate((*steps, *steps)):
        if cold and index == len(steps):
            last[:, : -(-kept // BLOCK)] = -np.inf
        here: Moved = {}
        for touch in touched:
            first = (starts[touch.buffer] + touch.start) // BLOCK
            stop = (starts[touch.buffer] + touch.start + max(touch.span, 1) - 1) // BLOCK + 1
            since = np.minimum(clocks - last[:, first:stop], most).sum(0)
            for level, blocks in zip(names, _blocks(since, caches, shared), strict=True):
                if size := round(touch.size * blocks / (stop - first)):
                    here[touch.role, level] = here.get((touch.role, level), 0) + size
            last[:, first:stop] = clocks
            clocks[int(touch.role not in KEPT)] += touch.size
        found.append(here)
    return found[len(steps) :]


def _blocks(
    distances: np.ndarray, caches: Sequence[int], shared: Sequence[CacheShare]
) -> list[float]:
    """Return how many blocks come from each cache, and from memory."""
    own = caches[:-1] if shared else caches
    found = np.bincount(np.searchsorted(own, distances), minlength=len(own) + 1).tolist()
    if not shared:
        return found
    far = distances[distances > own[-1]]
    held = float(share_held(far, caches[-1], shared).sum())
    return [*found[:-1], held, len(far) - held]


def share_held(distances: np.ndarray, size: int, shared: Sequence[CacheShare]) -> np.ndarray:
    """Return the share of blocks at stack distances that a cache holds which counts as `size`.

    That is how much of it is held to a half; more and less are held as was measured in `shared`,
    at the same ratios to that.
    """
    half = max(sizes_held(shared))
    sizes, held = ([getattr(each, name) for each in shared] for name in ("size", "held"))
    return np.interp(distances * (half / size), sizes, held, right=0.0)


def _addresses(plan: Plan) -> tuple[dict[int, int], int]:
    """Return where each buffer starts, in bytes, and the bytes of all; arena buffers overlap."""
    starts = {0: 0}
    arena = plan.buffers[0].bytes
    end = arena + plan.arena.bytes
    for index, buffer in enumerate(plan.buffers[1:], 1):
        if buffer.space == "arena":
            starts[index] = arena + plan.arena.offsets.get(index, 0)
        else:
            starts[index] = end
            end += buffer.bytes
    return starts, end
