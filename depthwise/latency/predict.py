"""How long a compiled network will take on a machine, layer by layer, without running it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from depthwise.analysis import Cost, Layer, cost_of_graph
from depthwise.analysis import cost as count_cost
from depthwise.analysis.cost import PredictionError
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.graph import NO_KWARGS, Graph
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.choice import choose_core
from depthwise.hardware.record import KernelTable, Machine
from depthwise.latency.features import features_of, time_of
from depthwise.latency.precisions import (
    NARROW,
    PRECISIONS,
    precision_of,
    rewritten_in,
    target_of,
)
from depthwise.runtime.target import cpu_name
from depthwise.sources.opening import open

if TYPE_CHECKING:
    from depthwise.sources.opening import Network


def cost(
    net: "Network", *shapes: Any, kwargs: Mapping[str, Any] = NO_KWARGS,
    machine: Machine | None = None, until: str | None = None, precision: str = FLOAT32.name,
) -> Cost:  # fmt: skip
    """Count a network's operations, parameters and memory, and predict its latency.

    Args:
        net: Whatever `dw.open` takes; a module is counted in evaluation mode and not changed.
            Without a machine it may be on the meta device, and operators that we do not know are
            listed in `not_counted`.
        shapes: A shape for each input, (N, C, H, W) for images; left out, a network's usual ones.
        kwargs: Those of arguments that are given by name, as `dw.open` takes.
        machine: A machine whose kernels were timed. With one, every layer and the whole also have
            the milliseconds that our compiled library will take there, on one thread.
        until: The path of a module that the network is to end with, as `dw.open` takes it.
        precision: With a machine, the precision that the library computes in. A quantised network's
            is int8 whatever is given.

    Returns:
        The cost of the network, layer by layer.

    Raises:
        ValueError: A shape does not fit, our kernels have changed since the machine's were timed,
            or those of the precision were not.
        Unsupported: A machine is given, and the network cannot be compiled.
    """
    if machine is None:
        return count_cost(net, *shapes, kwargs=kwargs, until=until)
    source = open(net, *shapes, kwargs=kwargs, until=until)
    found = cost_of_graph(source.traced, source.name)
    return with_latency(found, source.graph, machine, precision)


def with_latency(cost: Cost, graph: Graph, machine: Machine, precision: str = FLOAT32.name) -> Cost:
    """Return the cost of a graph with predicted milliseconds; raises as `cost` does."""
    precision = precision_of(graph, precision)
    table = known_kernels(machine, precision)
    target = target_of(machine, precision)
    core = choose_core(None, target, native=machine.cpu == cpu_name())
    plan = make_plan(rewritten_in(graph, precision), target, core=core)
    found = attribute(cost, plan.steps, predict(plan, machine, table))
    return replace(found, milliseconds_error=error_of(table))


def error_of(table: KernelTable) -> PredictionError | None:
    """Return how close the table came to whole networks; None where none was timed."""
    errors = [abs(network.error) for network in table.networks]
    return PredictionError(fmean(errors), max(errors), len(errors)) if errors else None


def known_kernels(machine: Machine, precision: str = FLOAT32.name) -> KernelTable:
    """Return the kernel table of a machine. Raises ValueError where there is no current one."""
    from depthwise.latency.fingerprint import is_current  # noqa: PLC0415  (which needs PyTorch)

    advice = "run `depthwise calibrate`, which takes a minute, or latency.timing.time_kernels"
    kernels = "kernels"
    if precision != FLOAT32.name:
        advice = f"run `depthwise calibrate --precision {precision}`, which takes some minutes"
        kernels = f"kernels of {precision}"
        if precision not in NARROW:
            accepted = ", ".join(PRECISIONS)
            raise ValueError(f"precision={precision!r}: predictions are for {accepted}")
    table = machine.table(precision)
    if table is None:
        raise ValueError(f"no {kernels} were timed on {machine.cpu}: {advice}")
    if not is_current(machine, precision):
        raise ValueError(f"the {kernels} timed on {machine.cpu} were of another version: {advice}")
    return table


def predict(
    plan: Plan, machine: Machine, table: KernelTable, gflops: float | None = None
) -> list[float]:
    """Return the seconds of each step: the sum of its features times their coefficients.

    `gflops` is the peak of the core's present clock; None for the one that kernels were timed at.
    """
    found = features_of(plan, machine, clock=(gflops or table.gflops) / machine.gflops)
    return [
        time_of(own, table.coefficients(step.kernel))
        for step, own in zip(plan.steps, found, strict=True)
    ]


def attribute(cost: Cost, steps: Sequence[KernelCall], seconds: Sequence[float]) -> Cost:
    """Return the cost with each step's time at its layer, 0 at layers fused into others.

    A step is named after the last node fused into it. It belongs to the last layer of its path with
    multiply-adds up to that node; where narrow types gave that another name, to the last of its
    path. The copies of the input and output belong to no layer, and count in the whole alone.
    """
    positions = {layer.name: i for i, layer in enumerate(cost.layers)}
    ends = {layer.path: i for i, layer in enumerate(cost.layers) if layer.path}
    times = [0.0] * len(cost.layers)
    for step, time in zip(steps, seconds, strict=True):
        last = positions.get(step.name, ends.get(step.path))
        if last is not None:
            times[_owner(cost.layers, step.path, last)] += time
    layers = tuple(
        replace(layer, milliseconds=1e3 * time)
        for layer, time in zip(cost.layers, times, strict=True)
    )
    return replace(cost, layers=layers, milliseconds=1e3 * sum(seconds))


def _owner(layers: Sequence[Layer], path: str, last: int) -> int:
    """Return the last layer of a path with multiply-adds up to `last`, else `last` itself."""
    before = range(last, -1, -1)
    return next((i for i in before if layers[i].path == path and layers[i].macs), last)
