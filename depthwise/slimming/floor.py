"""The least that a network can cost: that of the layers which no change that is offered touches."""

from collections.abc import Iterable, Mapping

from depthwise.analysis.count import count_macs
from depthwise.graph import Graph, Node, ops
from depthwise.report.slimming_record import say_cost
from depthwise.slimming.costs.prices import Prices
from depthwise.slimming.offers import Offer

NAMED = 3  # layers that hold a budget up


def check_possible(graph: Graph, prices: Prices, offers: Iterable[Offer], limit: float) -> None:
    """Raise ValueError for a limit below what layers cost alone that nothing offered changes.

    Args:
        graph: The network before its changes.
        prices: By which it is priced.
        offers: All changes of a round.
        limit: What the network may cost.
    """
    touched = {use[0] for offer in offers for use in offer.uses if isinstance(use, tuple)}
    fixed = [
        node for node in graph
        if isinstance(node.op, ops.Convolution) and node.inputs[1] not in touched
    ]  # fmt: skip
    costs = _costs(graph, prices, fixed)
    least = sum(costs.values())
    if least <= limit or not limit:
        return
    raise ValueError(
        f"a budget of {say_cost(prices.measure, limit)} cannot be met: layers that no move changes "
        f"cost {say_cost(prices.measure, least)} alone, most of it in {say_largest(costs)}"
    )


def say_largest(costs: Mapping[str, float]) -> str:
    """Return the few layers that cost most, each with its share of the whole, in words."""
    whole = sum(costs.values()) or 1
    largest = sorted(costs, key=lambda path: -costs[path])[:NAMED]
    return ", ".join(f"{path} ({costs[path] / whole:.0%})" for path in largest)


def _costs(graph: Graph, prices: Prices, layers: Iterable[Node]) -> dict[str, float]:
    """Return what each layer costs, by its path; nothing by a measure that is of no layer."""
    by_path = prices.by_path(graph) if prices.measure == "milliseconds" else {}
    found: dict[str, float] = {}
    for node in layers:
        weights = [graph.type(name) for name in graph.weights(node)]
        cost = {
            "macs": count_macs(graph, node) or 0, "parameters": sum(w.size for w in weights),
            "weight_bytes": sum(w.bytes for w in weights), "arena_bytes": 0,
            "milliseconds": by_path.get(node.path, 0.0),
        }[prices.measure]  # fmt: skip
        path = node.path or node.name
        found[path] = found.get(path, 0.0) + cost
    return found
