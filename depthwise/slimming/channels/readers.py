"""How the layers that read a group take the loss of its units: by statistics, or by weights."""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.slimming.channels.elimination import Correlated, ReaderModel, Separate
from depthwise.slimming.channels.groups import ChannelGroup, GroupMember
from depthwise.slimming.channels.importance import Variances
from depthwise.slimming.statistics import LayerStatistics, Statistics

LARGEST = 6000  # columns, above which nothing is known of how they vary together


class Reader(NamedTuple):
    """A group of channels of a layer: what it reads by which columns."""

    node: str
    block: int  # which of the groups of a convolution
    columns: np.ndarray  # for each column of its weight, the unit that it reads, -1 for others
    model: ReaderModel


def find_readers(graph: Graph, group: ChannelGroup, known: Statistics) -> list[Reader]:
    """Return how each layer that reads units takes their loss.

    Damages are in nats an image where statistics of any of the layers are known; those of which
    none are known do not count then. Where there are none at all, a damage is half the share of a
    layer's output that is lost, by the weights and by BatchNorms before it.
    """
    nodes = {node.name: node for node in graph}
    measured = [m for m in group.readers if m.node in known and _has_rows(nodes[m.node])]
    if measured:
        return [
            reader
            for member in measured
            for reader in _measured(graph, nodes[member.node], member, known[member.node], group)
        ]
    variances = Variances(graph)
    return [_guessed(variances, nodes[member.node], member, group) for member in group.readers]


def _has_rows(node: Node) -> bool:
    """Tell whether each row of a layer's weight is one of its outputs."""
    return isinstance(node.op, ops.Conv2d | ops.Linear)


def _measured(
    graph: Graph, node: Node, member: GroupMember, known: LayerStatistics, group: ChannelGroup
) -> Iterator[Reader]:
    """Yield the groups of a layer with what calibration images tell of them."""
    weight = weight_rows(graph, node)
    blocks = len(known.covariance)
    units = member.units.reshape(blocks, -1)
    columns = np.repeat(units, weight.shape[1] // units.shape[1], 1)
    rows = len(weight) // blocks
    for block in range(blocks):
        if columns[block].max() < 0:
            continue
        own = slice(block * rows, (block + 1) * rows)
        gradient = known.gradient[own, own] * 0.5 * known.pixels
        if weight.shape[1] <= LARGEST:
            model: ReaderModel = Correlated(
                weight[own], known.covariance[block], gradient, columns[block], group.units
            )
        else:
            each = ((gradient @ weight[own]) * weight[own]).sum(0)
            model = Separate(_by_unit(each * known.covariance[block].diagonal(), columns[block],
                                        group))  # fmt: skip
        yield Reader(node.name, block, columns[block], model)


def _guessed(variances: Variances, node: Node, member: GroupMember, group: ChannelGroup) -> Reader:
    """Return a layer with what its weights tell."""
    numbers = _numbers(variances.graph, node)
    blocks = getattr(node.op, "groups", 1)
    squares = numbers.astype(np.float64).reshape(*numbers.shape[:2], -1) ** 2
    if isinstance(node.op, ops.ConvTranspose2d):
        each = squares.sum((1, 2))
    else:
        each = squares.reshape(blocks, -1, *squares.shape[1:]).sum((1, 3)).reshape(-1)
    variance = variances[node.inputs[0]]
    if len(variance) == len(each):
        each = each * variance
    share = 0.5 * each / max(float(each.sum()), 1e-30)
    return Reader(member.node, 0, member.units, Separate(_by_unit(share, member.units, group)))


def _by_unit(each: np.ndarray, columns: np.ndarray, group: ChannelGroup) -> np.ndarray:
    """Return the sums over the columns of each unit."""
    read = columns >= 0
    return np.bincount(columns[read], each[read], group.units)


def weight_rows(graph: Graph, node: Node) -> np.ndarray:
    """Return the weight of a convolution or linear layer as (K, D), in double precision."""
    numbers = _numbers(graph, node)
    return numbers.reshape(len(numbers), prod(numbers.shape[1:])).astype(np.float64)


def _numbers(graph: Graph, node: Node) -> np.ndarray:
    numbers = graph.constants[node.inputs[1]].numbers
    if numbers is None:
        raise ValueError(f"{node.inputs[1]} has no numbers: open the network with its weights")
    return numbers
