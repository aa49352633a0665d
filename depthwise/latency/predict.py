"""How long a compiled network will take on a machine, layer by layer, before it has run once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from depthwise.analysis import Cost, Layer, cost_of_graph
from depthwise.analysis import cost as count_cost
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.graph import Graph, Shape
from depthwise.hardware.record import KernelTable, Machine
from depthwise.latency.features import quantities
from depthwise.runtime.target import find_target
from depthwise.sources.opening import open

if TYPE_CHECKING:
    from depthwise.sources.opening import Network


def cost(net: "Network", *shapes: Shape, machine: Machine | None = None) -> Cost:
    """Count what a network costs in evaluation mode, layer by layer.

    Args:
        net: Whatever `dw.open` takes; it is not changed. Without a machine it may be on the meta
            device, and operators that we do not know are listed in `not_counted`.
        *shapes: The shape of each input, (N, C, H, W); left out, the network's usual ones.
        machine: A machine whose kernels were timed: each layer, and the whole, also get the
            milliseconds that the compiled library will take there on one thread.

    Raises:
        ValueError: A network or shapes that cannot be used, or a machine whose kernels are not
            those of this version: calibrate it again.
        Unsupported: With a machine: the network cannot be compiled.
    """
    if machine is None:
        return count_cost(net, *shapes)
    source = open(net, *shapes)
    return with_latency(cost_of_graph(source.traced, source.name), source.graph, machine)


def with_latency(cost: Cost, graph: Graph, machine: Machine) -> Cost:
    """Return the cost of a graph with predicted milliseconds; raises as `cost` does."""
    table = known_kernels(machine)
    plan = make_plan(rewrite(graph), find_target(machine.target))
    return attribute(cost, plan.steps, predict(plan, machine, table))


def known_kernels(machine: Machine) -> KernelTable:
    """Return the kernel table of a machine. Raises ValueError where it is not of these kernels."""
    advice = "run `depthwise calibrate`, which takes a minute, or latency.fit.time_kernels"
    from depthwise.latency.fit import is_current  # noqa: PLC0415  (which needs PyTorch)

    if machine.kernels is None:
        raise ValueError(f"no kernels were timed on {machine.cpu}: {advice}")
    if not is_current(machine):
        raise ValueError(f"the kernels timed on {machine.cpu} were of another version: {advice}")
    return machine.kernels


def predict(plan: Plan, machine: Machine, table: KernelTable) -> list[float]:
    """Return the seconds of each step: its quantities times their prices."""
    found = quantities(plan, machine)
    return [
        sum(value * prices.get(name, 0.0) for name, value in own.items())
        for step, own in zip(plan.steps, found, strict=True)
        for prices in [table.prices(step.kernel)]
    ]


def attribute(cost: Cost, steps: Sequence[KernelCall], seconds: Sequence[float]) -> Cost:
    """Return the cost with each step's time at its layer; 0 where others do a layer's work.

    A step belongs to the last layer of its path before the node that it computes: what is fused
    into a convolution bears the name of what comes last. The copies of input and output belong to
    no layer, and are in the whole alone.
    """
    positions = {layer.name: i for i, layer in enumerate(cost.layers)}
    times = [0.0] * len(cost.layers)
    for step, time in zip(steps, seconds, strict=True):
        if step.name in positions:
            times[_owner(cost.layers, step.path, positions[step.name])] += time
    layers = tuple(
        replace(layer, milliseconds=1e3 * time)
        for layer, time in zip(cost.layers, times, strict=True)
    )
    return replace(cost, layers=layers, milliseconds=1e3 * sum(seconds))


def _owner(layers: Sequence[Layer], path: str, last: int) -> int:
    """Return the layer with multiply-adds that a path's work belongs to, else the last itself."""
    before = range(last, -1, -1)
    return next((i for i in before if layers[i].path == path and layers[i].macs), last)
