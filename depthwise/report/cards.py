"""A chain of steps as cards: the blocks that a reader of the network's code knows by name."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import groupby, takewhile

from depthwise.analysis.cost import Layer
from depthwise.graph import Graph, ops
from depthwise.report.branches import Item, Items, steps_of
from depthwise.report.steps import Step

MOST_STEPS = 8  # one below the other: a card of more is not taken in at a glance
POOLS = (ops.MaxPool2d, ops.AvgPool2d, ops.AdaptivePool2d, ops.Reduce)


@dataclass(frozen=True, eq=False)
class Card:
    """A block, or `times` alike, one after the other. `items` are those of the first."""

    name: str
    items: Items
    times: int = 1

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of one block."""
        return tuple(layer for step in steps_of(self.items) for layer in step.layers)

    @property
    def macs(self) -> int:
        """The multiply-adds of one block."""
        return sum(layer.macs or 0 for layer in self.layers)

    @property
    def params(self) -> int:
        """The parameters of one block."""
        return sum(layer.params for layer in self.layers)


def find_cards(graph: Graph, chain: Items) -> tuple[Card, ...]:
    """Return the cards of a chain: its modules, those that are alike put into one card."""
    return _stack(graph, _join_loose(graph, _split(chain, 0)))


def path_of(*items: Item) -> tuple[str, ...]:
    """Return the module that the operators of all items are in."""
    return _shared([step.node.path for step in steps_of(items)])


def _shared(paths: Iterable[str]) -> tuple[str, ...]:
    alike = zip(*(path.split(".") for path in paths), strict=False)
    return tuple(
        names[0] for names in takewhile(lambda names: len(set(names)) == 1, alike) if names[0]
    )


def _split(chain: Items, depth: int) -> list[Items]:
    """Return a chain cut into modules, at the lowest depth where each fits on a card."""
    if _fits(chain, depth):
        return [chain]
    parts: list[Items] = []
    for path, group in groupby(chain, lambda item: path_of(item)[: depth + 1]):
        items = tuple(group)
        deeper = len(path) > depth
        parts += _split(items, depth + 1) if deeper else [(item,) for item in items]
    return parts


def _fits(chain: Items, depth: int) -> bool:
    """Tell whether a module's items make one card: few of them, and no several blocks."""
    if len(chain) == 1:
        return True
    forks = sum(not isinstance(item, Step) for item in chain)
    children = groupby(chain, lambda item: path_of(item)[: depth + 1])
    blocks = sum(len(tuple(items)) > 2 for _, items in children)
    return len(chain) <= MOST_STEPS and forks <= 1 and blocks <= 1


def _join_loose(graph: Graph, parts: list[Items]) -> list[Items]:
    """Return the parts, single steps one after the other as one while the plane stays."""
    joined: list[Items] = []
    before: Step | None = None
    for part in parts:
        step = part[0] if len(part) == 1 and isinstance(part[0], Step) else None
        if before and step and _belong(graph, before, step) and len(joined[-1]) < MOST_STEPS:
            joined[-1] = (*joined[-1], step)
        else:
            joined.append(part)
        before = step
    return joined


def _belong(graph: Graph, before: Step, step: Step) -> bool:
    """Tell whether two loose steps go on one card: a shrinking convolution begins another."""
    first, second = path_of(before), path_of(step)
    near = min(len(first), len(second)) < 2 or first[0] == second[0]
    if isinstance(before.node.op, POOLS):
        return near and step.node.type.shape[2:] in ((), (1, 1))
    local = isinstance(step.node.op, POOLS) and step.node.type.shape[2:] not in ((), (1, 1))
    return near and (local or not _shrinks(graph, step))


def _shrinks(graph: Graph, step: Step) -> bool:
    before = graph.type(graph.activations(step.node)[0]).shape
    return len(before) == 4 and before[2:] != step.node.type.shape[2:]


def _stack(graph: Graph, parts: list[Items]) -> tuple[Card, ...]:
    """Return the cards, neighbours that are alike as one."""
    cards = []
    for _, group in groupby(parts, lambda part: _signature(graph, part)):
        alike = list(group)
        if len(steps_of(alike[0])) == 1:
            cards += [Card(_name([part], parts), part) for part in alike]
        else:
            cards.append(Card(_name(alike, parts), alike[0], len(alike)))
    return tuple(cards)


def _name(alike: list[Items], parts: list[Items]) -> str:
    """Return the module that is a card's alone, or else its first and its last."""
    first, last = alike[0], alike[-1]
    whole = _shared(layer.path for step in steps_of(first) for layer in step.layers)
    if len(alike) == 1 and whole and _holds(whole, parts) == 1:
        return ".".join(whole)
    if len(alike) == 1 and len(first) > 1 and _holds(path_of(*first), parts) > 1:
        first, last = first[:1], first[-1:]
    names = (".".join(path_of(*part)) or steps_of(part)[0].name for part in (first, last))
    return " – ".join(dict.fromkeys(names))


def _holds(module: tuple[str, ...], parts: list[Items]) -> int:
    """Return how many of the parts a module holds."""
    return sum(path_of(*part)[: len(module)] == module for part in parts)


def _signature(graph: Graph, chain: Items) -> Hashable:
    """Return what two blocks that are drawn alike have in common: all but names."""
    steps = steps_of(chain)
    places = {step.name: i for i, step in enumerate(steps)}
    return tuple(
        (
            step.node.op,
            step.node.type.shape,
            tuple(graph.type(name).shape for name in step.node.inputs),
            tuple(places.get(name, -1) for name in step.inputs),
            tuple(node.op for node in (*step.before, *step.after)),
            tuple((layer.macs, layer.params) for layer in step.layers),
        )
        for step in steps
    )
