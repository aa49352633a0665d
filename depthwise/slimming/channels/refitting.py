"""Weights that make up for channels which were cut from what they read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.channels.cut import channels_left
from depthwise.slimming.channels.elimination import Correlated
from depthwise.slimming.channels.readers import Reader, weight_rows
from depthwise.slimming.draft import Draft
from depthwise.slimming.layers.replacing import keep_mean
from depthwise.slimming.statistics import Statistics


@dataclass(frozen=True, eq=False)
class Refit:
    """What a layer is to compute once it reads fewer channels.

    Attributes:
        node: Its name.
        columns: How many columns its weight then has.
        weight: The new weight (K, columns), None where it keeps what is left of it.
        shift: What each output then lacks on average, (K).
    """

    node: str
    columns: int
    weight: np.ndarray | None
    shift: np.ndarray


def find_refits(
    graph: Graph, readers: Sequence[Reader], units: np.ndarray, known: Statistics
) -> list[Refit]:
    """Return what the layers that read a group are to compute when only some units are left."""
    nodes = {node.name: node for node in graph}
    result = []
    for name in dict.fromkeys(reader.node for reader in readers if reader.node in known):
        own = [reader for reader in readers if reader.node == name]
        result.append(_refit(graph, nodes[name], own, units, known))
    return result


def _refit(
    graph: Graph, node: Node, readers: Sequence[Reader], units: np.ndarray, known: Statistics
) -> Refit:
    before, mean = weight_rows(graph, node), known[node.name].mean
    rows = len(before) // len(mean)
    blocks, shift = [], np.zeros(len(before))
    for reader in readers:
        own = slice(reader.block * rows, (reader.block + 1) * rows)
        stay = (reader.columns < 0) | np.isin(reader.columns, units)
        model = reader.model
        weight = model.weight() if isinstance(model, Correlated) else before[own][:, stay]
        blocks.append(weight.astype(np.float32))
        shift[own] = before[own] @ mean[reader.block] - weight @ mean[reader.block][stay]
    whole = len(blocks) == len(mean)  # else units are read by some groups of it alone
    weight = np.concatenate(blocks) if whole else None
    return Refit(node.name, blocks[0].shape[1], weight, shift)


def refit(before: Draft, after: Draft, refits: Sequence[Refit]) -> Draft:
    """Return a draft after a cut with weights that make up for it.

    Args:
        before: The draft for which the new weights were computed.
        after: The draft after the cut, and perhaps after other changes: layers that have become
            others are passed over.
        refits: What layers are to compute.
    """
    edit = GraphRewriter(after.graph)
    for each in refits:
        node = edit.node(each.node)
        if node is None or not isinstance(node.op, ops.Conv2d | ops.Linear):
            continue
        rows = channels_left(before, after, node.name, len(each.shift))
        type_ = edit.type(node.inputs[1])
        if type_.size != rows.sum() * each.columns:
            continue
        if each.weight is not None:
            edit.set_constant(node.inputs[1], each.weight[rows].reshape(type_.shape))
        keep_mean(edit, node.name, each.shift[rows], after.frozen)
    return replace(after, graph=edit.result())
