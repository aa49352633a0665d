"""Where the time of a compiled network goes, layer by layer."""

from dataclasses import dataclass, replace

import numpy as np

from depthwise.accounting.count import count_macs
from depthwise.compiler.clock import time_steps
from depthwise.compiler.fused import Fused
from depthwise.compiler.places import Step
from depthwise.compiler.plan import Plan
from depthwise.graph import Node, Shape
from depthwise.machine import Machine

FILLED = 0.9  # of the lanes


@dataclass(frozen=True)
class LayerTime:
    """The steps of one node that call one kernel: seconds are the median over many runs.

    A node's multiply-adds, and the bytes that it reads and writes, are told of the kernel that
    takes most of its time, 0 of the others. `filled` is the share of its vectors' lanes that hold
    a channel of the output.
    """

    path: str
    name: str
    kernel: str
    shape: Shape
    comment: str
    calls: int
    seconds: float
    macs: int = 0
    bytes: int = 0
    filled: float = 1.0

    @property
    def flops(self) -> float:
        """Floating-point operations, 2 a multiply-add, in a second."""
        return 2 * self.macs / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Bound:
    """What a layer cannot be faster than, in seconds, and why."""

    seconds: float
    reason: str


def bound(layer: LayerTime, machine: Machine, peak: float) -> Bound:
    """Return the roofline of a layer: arithmetic at `peak` FLOP/s, or reading and writing.

    Bytes come from the nearest cache that holds those of one call. The reason is "tail" where it
    is arithmetic of which a tenth or more is done on lanes that hold nothing.
    """
    level = machine.level(layer.bytes // layer.calls)
    moving = layer.bytes / (1e9 * machine.gigabytes(level))
    arithmetic = 2 * layer.macs / peak
    if moving > arithmetic / layer.filled:
        return Bound(max(moving, arithmetic), f"bandwidth, {level}")
    return Bound(max(moving, arithmetic), "tail" if layer.filled < FILLED else "arithmetic")


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


def profile(plan: Plan, cc: str | None = None, seconds: float = 1.0) -> Profile:
    """Return where the time of a plan goes, layer by layer, from runs of about `seconds`."""
    runs = time_steps(plan, cc, seconds)
    medians = np.median(runs, axis=0)
    groups: dict[tuple[str, str], list[tuple[Step, float]]] = {}
    for step, time in zip(plan.steps, medians.tolist(), strict=True):
        # a streamed layer has a step a window, and other layers' between them
        groups.setdefault((step.name, step.kernel), []).append((step, time))
    rows = [_row(plan, group) for group in groups.values()]
    longest: dict[str, int] = {}  # node -> its row that takes the longest
    for i, row in enumerate(rows):
        if row.name not in longest or row.seconds > rows[longest[row.name]].seconds:
            longest[row.name] = i
    for node, macs in _macs_by_step(plan).items():
        rows[longest[node.name]] = replace(
            rows[longest[node.name]],
            macs=macs,
            bytes=_bytes(plan, node),
            filled=_filled(plan, node),
        )
    return Profile(tuple(rows), float(np.median(runs.sum(axis=1))), len(runs))


def _row(plan: Plan, timed: list[tuple[Step, float]]) -> LayerTime:
    first = timed[0][0]
    comments = list(dict.fromkeys(step.comment for step, _ in timed if step.comment))
    shape = plan.graph.type(first.name).shape if first.name else ()
    comment = " ".join([*comments, *([f"x{len(timed)}"] if len(timed) > 1 else [])])
    seconds = sum(time for _, time in timed)
    return LayerTime(first.path, first.name, first.kernel, shape, comment, len(timed), seconds)


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


def _bytes(plan: Plan, node: Node) -> int:
    """Return the bytes of a node's inputs, weights among them, and of its output."""
    return sum(plan.graph.type(name).bytes for name in {*node.inputs, node.name})


def _filled(plan: Plan, node: Node) -> float:
    """Return the share of vector lanes that hold an output: channels, or features of a vector."""
    shape, lanes = node.type.shape, plan.target.lanes
    outs = shape[1] if len(shape) == 4 else shape[-1] if shape else 1
    return outs / (-(-outs // lanes) * lanes)


def _macs(plan: Plan, node: Node) -> int:
    op = node.op.op if isinstance(node.op, Fused) else node.op
    return count_macs(plan.graph, replace(node, op=op)) or 0
