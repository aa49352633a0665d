"""The features of a step, which its time is linear in: calls, tiles, loads, bytes from each cache.

The time of a step is the sum of its features times their coefficients, which are in seconds and
fitted to measurements. What is specific to a kernel is in its row of the kernel table. `overlap` is
how long a step could read and compute at once, at the machine's rates, as in a roofline of the
step; it is negative, for that time is saved.
"""

from collections.abc import Mapping
from math import prod

from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.plan import Plan
from depthwise.compiler.work import Features
from depthwise.hardware.record import Level, Machine
from depthwise.latency.cache_model import Moved, sources

# Of what the features mean: raised where that changes, so that kernels are timed again.
VERSION = 3

FAR: tuple[Level, ...] = ("L3", "memory")  # levels whose speed is not the core's
READ = ("read", "weights", "streamed")  # what a step waits for


def features_of(
    plan: Plan, machine: Machine, cold: bool = False, clock: float = 1.0
) -> list[Features]:
    """Return the features of every step of a plan on a machine, in order.

    Args:
        plan: what runs.
        machine: where.
        cold: whether weights come from memory, though a cache could hold them.
        clock: the core's speed, relative to the machine's best. What the core does takes longer at
            a lower one, and counts as more; what comes from beyond its own caches does not.
    """
    lanes = plan.target.lanes
    moved = sources(plan, machine.caches, cold, machine.shared)
    pairs = zip(plan.steps, moved, strict=True)
    return [_features(step, own, lanes, machine, clock) for step, own in pairs]


def _features(
    step: KernelCall, moved: Moved, lanes: int, machine: Machine, clock: float
) -> Features:
    count = step.row.count
    own = count(step.arguments, lanes) if count else _plain(step)
    found = {"calls": 1.0, **own, **_moved(step, moved), **_again(step, lanes, machine)}
    found = {name: n if name.endswith(FAR) else n / clock for name, n in found.items()}
    computing = 2e-9 * lanes * found.get("steps", 0.0) / machine.gflops
    return {**found, "overlap": -min(_reading(found, machine), computing)}


def time_of(features: Features, coefficients: Mapping[str, float]) -> float:
    """Return the seconds of a step: the sum of its features times their coefficients."""
    return sum(value * coefficients.get(name, 0.0) for name, value in features.items())


def _moved(step: KernelCall, moved: Moved) -> Features:
    """Name the bytes that come from beyond the first cache.

    Weights that are read once, from the first to the last, have another name: they come faster than
    those that a second tile of pixels passes over, too.
    """
    streams = step.row.streams
    named = {"weights": "streamed"} if streams and streams(step.arguments) else {}
    return {
        f"{named.get(role, role)} {level}": float(size)
        for (role, level), size in moved.items()
        if level != "L1"
    }


def _again(step: KernelCall, lanes: int, machine: Machine) -> Features:
    """Count the bytes of weights that a convolution reads again for each tile after the first."""
    if step.row.again is None:
        return {}
    again, between = step.row.again(step.arguments, lanes)
    size = next(p.dtype.bytes for p in step.row.pointers if p.name == "w")
    level = machine.level(size * between)
    return {f"again {level}": float(size * again)} if again and level != "L1" else {}


def _reading(features: Features, machine: Machine) -> float:
    """Return the seconds in which what a step reads from beyond the core's caches comes at best."""
    return sum(
        1e-9 * size / machine.gigabytes(level)
        for name, size in features.items()
        for role, _, level in [name.partition(" ")]
        if role in READ and level in FAR
    )


def _plain(step: KernelCall) -> Features:
    """Count the elements written, and those under the windows that they look through."""
    written, arguments = prod(step.written[-1].shape), step.arguments
    window = arguments.get("kernel_y", 1) * arguments.get("kernel_x", 1)
    read = max(prod(view.shape) for view in step.views)
    return {"elements": float(written), "windows": float(max(written * window, read))}


def common_features(features: Features) -> Features:
    """Return the features that steps of any kernel have."""
    return {name: value for name, value in features.items() if name.split()[0] in COMMON}


COMMON = {"calls", "elements", "windows", "read", "written", "weights", "overlap"}
