"""The features of a step, which its time is linear in: calls, tiles, loads, bytes from each cache.

The time of a step is the sum of its features times their coefficients, which are in seconds and
fitted to measurements. What is specific to a kernel is in its row of the kernel table.
"""

from math import prod

from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.plan import Plan
from depthwise.compiler.work import Features
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.record import LEVELS, Level, Machine
from depthwise.latency.cache_model import sources

# Of what the features mean: raised where that changes, so that kernels are timed again.
VERSION = 1


def features_of(plan: Plan, machine: Machine) -> list[Features]:
    """Return the features of every step of a plan on a machine, in order."""
    found = []
    for step, moved in zip(plan.steps, sources(plan, machine.caches), strict=True):
        count = step.row.count
        own = count(step.arguments, plan.target.lanes) if count else _plain(step)
        bytes_ = _again(step, plan.target.lanes, machine) | _moved(moved)
        waiting = _waiting(own, bytes_, plan.target.lanes, machine)
        found.append({"calls": 1.0, **own, **bytes_, "waiting": waiting})
    return found


def _moved(moved: dict[tuple[str, Level], int]) -> Features:
    """Name the bytes that come from beyond the first cache."""
    return {
        f"{role} {level}": float(size) for (role, level), size in moved.items() if level != "L1"
    }


def _again(step: KernelCall, lanes: int, machine: Machine) -> Features:
    """Count the bytes of weights that a convolution reads again for each tile after the first."""
    if step.row.again is None:
        return {}
    again, between = step.row.again(step.arguments, lanes)
    level = machine.level(FLOAT32.bytes * between)
    return {f"again {level}": float(FLOAT32.bytes * again)} if again and level != "L1" else {}


def _waiting(own: Features, moved: Features, lanes: int, machine: Machine) -> float:
    """Return by how many seconds a step reads for longer than it computes, at the machine's rates.

    Reading and computing overlap, as in a roofline of one step: 0 where it computes for longer.
    """
    reading = sum(
        1e-9 * size / machine.gigabytes(level)
        for name, size in moved.items()
        for level in LEVELS
        if name.endswith(level) and not name.startswith("written")
    )
    return max(0.0, reading - 2e-9 * lanes * own.get("steps", 0.0) / machine.gflops)


def _plain(step: KernelCall) -> Features:
    """Count the elements written, and those under the windows that they look through."""
    written, arguments = prod(step.written[-1].shape), step.arguments
    window = arguments.get("kernel_y", 1) * arguments.get("kernel_x", 1)
    read = max(prod(view.shape) for view in step.views)
    return {"elements": float(written), "windows": float(max(written * window, read))}


def common_features(features: Features) -> Features:
    """Return the features that steps of any kernel have."""
    return {name: value for name, value in features.items() if name.split()[0] in COMMON}


COMMON = {"calls", "elements", "windows", "read", "written", "weights", "waiting"}
