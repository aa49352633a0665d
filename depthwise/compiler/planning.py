"""From a rewritten graph to a plan: storage, then lowering, then the schedule."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import inf
from types import MappingProxyType

from depthwise.compiler.constants import Constants, constants_of
from depthwise.compiler.lowering import (  # noqa: F401  (they register their rules)
    conv,
    conversions,
    deform,
    elementwise,
    images,
    integer_layers,
    integers,
    movement,
    norm,
    pool,
    recurrent,
    sampling,
    selection,
)
from depthwise.compiler.lowering.algorithms import Algorithms, choose, direct_default, like
from depthwise.compiler.lowering.batches import MOST
from depthwise.compiler.lowering.builder import Default, Lowered
from depthwise.compiler.lowering.lower import lower_graph
from depthwise.compiler.lowering.weight_pool import WeightPool
from depthwise.compiler.options import Optimize
from depthwise.compiler.plan import Plan
from depthwise.compiler.schedule.arena import place
from depthwise.compiler.schedule.borders import zero_borders
from depthwise.compiler.schedule.partition import Partition, partition, single
from depthwise.compiler.schedule.regions import make_regions, separate_scratch
from depthwise.compiler.schedule.steps import Steps
from depthwise.compiler.schedule.storage import plan_storage
from depthwise.compiler.schedule.threads import Divider
from depthwise.compiler.schedule.weights_to_come import ask_for_weights
from depthwise.graph import Graph
from depthwise.hardware.core import Core
from depthwise.runtime.target import Target

NONE_REQUESTED: Algorithms = MappingProxyType({})


def make_plan(
    graph: Graph, target: Target, optimize: Optimize | None = "speed", threads: int = 1,
    algorithms: Algorithms = NONE_REQUESTED, groups: Partition | None = None,
    core: Core | None = None,
) -> Plan:  # fmt: skip
    """Lower every node of a rewritten graph to kernel calls, and place all buffers.

    Args:
        optimize: what is streamed is chosen for speed, or for the smallest arena; None for nothing.
        threads: how many share each call.
        algorithms: how layers are computed; others as `choose` has them, or, for the smallest
            arena, all directly.
        groups: chooses what is streamed in place of `optimize`.
        core: whose sizes and speeds decide; the target's generic one where left out.
    """
    constants = constants_of(target, core)
    default = direct_default if optimize == "memory" else choose
    if groups is None:
        groups = _partition(optimize, constants, threads) if optimize else single
    lowered = _lower(graph, constants, algorithms, default, WeightPool())
    return _schedule(graph, constants, lowered, groups, threads, _at_once(optimize))


def make_family(
    graph: Graph, family: Target, optimize: Optimize = "speed", threads: int = 1,
    core: Core | None = None,
) -> tuple[Plan, ...]:  # fmt: skip
    """Return a plan for each level of a family of CPUs, the widest first.

    They share their weights: what several levels read alike is there once. The rest as `make_plan`
    has it.
    """
    levels = [constants_of(level, core) for level in family.levels]
    shared = WeightPool()
    default = direct_default if optimize == "memory" else choose
    lowered = [_lower(graph, levels[0], NONE_REQUESTED, default, shared)]
    for constants in levels[1:]:
        asked = like(lowered[0].algorithms, constants)
        lowered.append(_lower(graph, constants, asked, default, shared))
    return tuple(
        _schedule(
            graph, constants, each, _partition(optimize, constants, threads), threads,
            _at_once(optimize),
        )
        for constants, each in zip(levels, lowered, strict=True)
    )  # fmt: skip


def make_plans(
    graph: Graph, constants: Constants, algorithms: Algorithms, partitions: Sequence[Partition]
) -> list[Plan]:
    """Return a plan for one thread for each way to stream the same steps; weights are shared."""
    lowered = _lower(graph, constants, algorithms, choose, WeightPool())
    return [_schedule(graph, constants, lowered, groups, 1, MOST) for groups in partitions]


def _partition(optimize: Optimize, constants: Constants, threads: int) -> Partition:
    """Return what chooses the steps that are streamed, or done in slices of channels.

    Slices are for one thread: on a Xeon several took 1.00 to 1.04 times as long with them.
    """
    own = constants if threads == 1 else replace(constants, sliced=inf)
    return partial(partition, optimize=optimize, constants=own)


def _at_once(optimize: Optimize | None) -> int:
    """Return how many images of a batch a layer may take before the next layer takes them."""
    return 1 if optimize == "memory" else MOST


def _lower(
    graph: Graph, constants: Constants, algorithms: Algorithms, default: Default,
    weights: WeightPool,
) -> Lowered:  # fmt: skip
    return lower_graph(graph, constants, plan_storage(graph), algorithms, default, weights)


def _schedule(
    graph: Graph, constants: Constants, lowered: Lowered, partition: Partition, threads: int,
    at_once: int,
) -> Plan:  # fmt: skip
    """Return the plan that streams, divides and places what was lowered."""
    whole = Steps(lowered.steps, lowered.buffers)
    buffers = list(whole.buffers)
    divider = Divider(whole.buffers, threads, constants)
    division, groups = make_regions(whole, partition, at_once, divider, buffers)
    regions = zero_borders(division.regions, buffers)
    regions = separate_scratch(regions, buffers)
    regions = ask_for_weights(regions, constants)
    return Plan(
        graph, constants, tuple(regions), tuple(buffers), place(regions, buffers), lowered.weights,
        lowered.views, threads, lowered.algorithms, whole, tuple(groups), division.cost,
    )  # fmt: skip
