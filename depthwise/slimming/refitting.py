"""Weights that make up for channels which were cut from what they read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthwise.graph import Constant, Graph, Node, TensorType, ops
from depthwise.slimming.draft import Draft
from depthwise.slimming.elimination import Correlated
from depthwise.slimming.readers import Reader, weight_rows
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
    constants = dict(after.graph.constants)
    nodes = {node.name: node for node in after.graph}
    readers = after.graph.readers()
    for each in refits:
        node = nodes.get(each.node)
        if node is None or not isinstance(node.op, ops.Conv2d | ops.Linear):
            continue
        rows = _rows_left(before, after, node)
        known = constants[node.inputs[1]]
        if known.data is None or known.type.size != len(rows) * each.columns:
            continue
        if each.weight is not None:
            data = each.weight[rows].reshape(known.type.shape)
            constants[node.inputs[1]] = replace(known, data=data)
        nodes[node.name] = _shifted(constants, node, readers[node.name], each.shift[rows])
    graph = replace(after.graph, constants=constants, nodes=tuple(nodes.values()))
    return replace(after, graph=graph)


def _rows_left(before: Draft, after: Draft, node: Node) -> np.ndarray:
    """Return which outputs of a layer are left, as they were numbered before."""
    axis = len(node.type.shape) - 1 if isinstance(node.op, ops.Linear) else 1
    count = before.graph.type(node.name).shape[axis]
    had = before.kept.get(node.name, np.arange(count))
    return np.flatnonzero(np.isin(had, after.kept.get(node.name, had)))


def _shifted(
    constants: dict[str, Constant], node: Node, readers: Sequence[Node], shift: np.ndarray
) -> Node:
    """Return a layer whose outputs are shifted: by its bias, or by the BatchNorm that follows."""
    names = list(node.inputs)
    if not shift.any():
        return node
    follows = readers[0] if len(readers) == 1 and isinstance(readers[0].op, ops.BatchNorm) else None
    if len(names) > 2:
        name, sign = names[2], 1.0
    elif follows:
        name, sign = follows.inputs[3], -1.0
    else:
        name, sign = _free(constants, f"{node.path or node.name}.bias"), 1.0
        zero = np.zeros(len(shift), np.float32)
        constants[name] = Constant(TensorType(zero.shape), zero, trainable=True)
        names.append(name)
    known = constants[name]
    assert known.data is not None
    data = (known.data + sign * shift).astype(known.data.dtype)
    constants[name] = replace(known, data=data)
    return replace(node, inputs=tuple(names))


def _free(constants: dict[str, Constant], name: str) -> str:
    while name in constants:
        name += "_"
    return name
