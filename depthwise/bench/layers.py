"""Where the time of a compiled network goes, layer by layer."""

from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from depthwise.accounting.count import count_macs
from depthwise.compiler.fused import Fused
from depthwise.compiler.places import Step
from depthwise.compiler.plan import Plan
from depthwise.graph import Node, Shape
from depthwise.machine.steps import time_steps


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
