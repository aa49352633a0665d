"""Layer by layer: what each cost before, what stands in its place, and what was done to it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod

from depthwise.analysis.count import count_macs
from depthwise.analysis.count import kind as kind_of
from depthwise.graph import Graph, Node, ops
from depthwise.report.slimming_record import LayerChange, LayerFigures, StepRecord
from depthwise.slimming.costs.prices import Prices


@dataclass(frozen=True, eq=False)
class LayerCosts:
    """The layers of a graph by their modules' paths, and what these modules cost.

    Attributes:
        graph: The graph.
        times: The estimated milliseconds of each module, by its path.
    """

    graph: Graph
    times: Mapping[str, float]

    def layers(self) -> dict[str, list[Node]]:
        """Return the convolutions and linear layers, by path, in order."""
        found: dict[str, list[Node]] = {}
        for node in self.graph:
            if isinstance(node.op, ops.Convolution):
                found.setdefault(node.path or node.name, []).append(node)
        return found

    def figures(
        self, paths: Sequence[str], nodes: Sequence[Node], shape: tuple[int, ...]
    ) -> LayerFigures:
        """Return what layers cost together, the modules of these paths, that give this shape."""
        graph = self.graph
        weights = {name for node in nodes for name in graph.weights(node)}
        return LayerFigures(
            layers=len(nodes), shape=shape,
            macs=sum(count_macs(graph, node) or 0 for node in nodes),
            parameters=sum(prod(graph.type(name).shape) for name in weights),
            milliseconds=sum(self.times.get(path, 0.0) for path in paths),
        )  # fmt: skip


def compare_layers(
    before: Graph, after: Graph, times: Prices, steps: Sequence[StepRecord]
) -> tuple[LayerChange, ...]:
    """Return what became of each layer of a network.

    Args:
        before: The network as it was.
        after: The slimmed one. What moves put in the place of a layer lies below its path.
        times: By which milliseconds are estimated.
        steps: The changes that were made.
    """
    old, new = (LayerCosts(graph, times.by_path(graph)) for graph in (before, after))
    now = new.layers()
    return tuple(
        _change(path, old, nodes, new, {p: now[p] for p in now if _is_within(p, path)}, steps)
        for path, nodes in old.layers().items()
    )


def _change(
    path: str, old: LayerCosts, nodes: list[Node], new: LayerCosts,
    now: Mapping[str, list[Node]], steps: Sequence[StepRecord],
) -> LayerChange:  # fmt: skip
    left = [node for each in now.values() for node in each]
    kind = kind_of(old.graph, nodes[0])
    own = _steps_at(path, steps)
    if not left:
        done, after = "removed", None
    else:
        after = new.figures(list(now), left, _given(old.graph, nodes[-1], new.graph, left[-1]))
        done = "; ".join(own or _widths(old.graph, nodes[0], new.graph, left[0]))
    before = old.figures([path], nodes, nodes[-1].type.shape[1:])
    return LayerChange(path=path, kind=kind, before=before, after=after, done=done)


def _given(before: Graph, old: Node, after: Graph, last: Node) -> tuple[int, ...]:
    """Return the shape of what is given in a layer's place: of its value, or what is made of it.

    The maps of a Ghost module come together after their BatchNorms and activations.
    """
    made, readers = {node.name: node for node in after}, before.readers()
    chain = [old]
    while len(following := readers[chain[-1].name]) == 1:
        if not isinstance(following[0].op, ops.BatchNorm | ops.Activation):
            break
        chain.append(following[0])
    given = [made[node.name] for node in chain if node.name in made]
    return (given or [last])[-1].type.shape[1:]


def _steps_at(path: str, steps: Sequence[StepRecord]) -> list[str]:
    """Return what was done at a layer, what one move did in several rounds together."""
    here = [step for step in steps if _is_within(step.place, path)]
    return [
        f"{move}: {', then '.join(step.words for step in each)}"
        for move, each in groupby(here, lambda step: step.move)
    ]


def _is_within(path: str, above: str) -> bool:
    return path == above or path.startswith(f"{above}.")


def _widths(before: Graph, old: Node, after: Graph, new: Node) -> Iterator[str]:
    """Yield what changed of the channels and the size of a layer that no step names."""
    sizes = zip(("reads", "gives"), _sizes(before, old), _sizes(after, new), strict=True)
    fewer = [f"{verb} {has} of {had}" for verb, had, has in sizes if had != has]
    if fewer:
        yield f"{', '.join(fewer)} channels"
    if old.type.shape[2:] != new.type.shape[2:]:
        yield f"{'x'.join(map(str, new.type.shape[2:]))} pixels"


def _sizes(graph: Graph, node: Node) -> tuple[int, int]:
    """Return how many channels a layer reads and gives."""
    value = graph.type(node.inputs[0]).shape
    axis = -1 if isinstance(node.op, ops.Linear) else 1
    return value[axis], node.type.shape[axis]
