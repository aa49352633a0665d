"""Layers in the place of a layer: modules below its path, its value under its own name."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.draft import Draft
from depthwise.slimming.layers.sites import Site


@dataclass(frozen=True, eq=False)
class LayerPart:
    """One of several layers in the place of one.

    Attributes:
        name: Of its module, below the path of the one that is replaced.
        op: What it computes.
        weight: Its weight, as the operator reads it.
    """

    name: str
    op: ops.Conv2d | ops.Linear
    weight: np.ndarray


def replace_by_chain(site: Site, parts: Sequence[LayerPart], rows: np.ndarray) -> Draft:
    """Return the draft with layers one after the other in the place of one.

    Args:
        site: The layer that is replaced.
        parts: The layers; what the first ones give is new, the last one gives the site's value.
        rows: The weight (K, D) that all of them amount to: by how much it changes the mean of the
            outputs is put right in the bias, or in the BatchNorm that follows.
    """
    edit = GraphRewriter(site.draft.graph)
    source, bias = site.node.inputs[0], site.node.inputs[2:]
    for part in parts[:-1]:
        path = f"{site.path}.{part.name}"
        weight = _add_parameter(edit, f"{path}.weight", part.weight)
        name = f"{site.node.name}.{part.name}"
        source = edit.insert(site.node, name, part.op, source, weight, path=path)
    last = parts[-1]
    path = f"{site.path}.{last.name}"
    weight = _add_parameter(edit, f"{path}.weight", last.weight)
    if bias:
        bias = (_add_parameter(edit, f"{path}.bias", edit.numbers(bias[0])),)
    edit.replace(site.node, last.op, source, weight, *bias, path=path)
    keep_mean(edit, site.node.name, mean_lost(site, rows), site.draft.frozen)
    return replace(site.draft, graph=edit.result())


def replace_weight(
    site: Site, op: ops.Conv2d | ops.Linear, weight: np.ndarray, rows: np.ndarray
) -> Draft:
    """Return the draft with another weight, and an operator that reads it, in a layer.

    `rows` is the same weight as one of the old one's shape (K, D), as in `replace_by_chain`.
    """
    edit = GraphRewriter(site.draft.graph)
    edit.set_constant(site.node.inputs[1], weight)
    edit.replace(site.node, op, *site.node.inputs)
    keep_mean(edit, site.node.name, mean_lost(site, rows), site.draft.frozen)
    return replace(site.draft, graph=edit.result())


def mean_lost(site: Site, rows: np.ndarray) -> np.ndarray:
    """Return by how much the mean of each output falls when `rows` take the weight's place."""
    change = (site.rows - rows).reshape(site.groups, -1, rows.shape[-1])
    return np.einsum("gkd,gd->gk", change, site.statistics.mean).reshape(-1)


def keep_mean(
    edit: GraphRewriter, value: str, lost: np.ndarray, frozen: Collection[str] = ()
) -> None:
    """Make up for what the mean of a layer's outputs has lost.

    In its bias; else in the mean of a BatchNorm that alone reads it and is not frozen; else in a
    new bias.
    """
    node = edit.node(value)
    assert node is not None
    if len(node.inputs) > 2:
        edit.set_constant(node.inputs[2], edit.numbers(node.inputs[2]) + lost)
        return
    norm = following_norm(edit, node)
    if norm is not None and not any(name in frozen for name in norm.inputs):
        edit.set_constant(norm.inputs[3], edit.numbers(norm.inputs[3]) - lost)
    elif np.any(lost):
        name = _add_parameter(edit, f"{node.path or node.name}.bias", lost)
        edit.replace(node, node.op, *node.inputs, name)


def following_norm(edit: GraphRewriter, node: Node) -> Node | None:
    """Return the BatchNorm that alone reads a layer, with numbers that it alone reads, or None."""
    readers = edit.readers(node.name)
    if (
        len(readers) != 1
        or edit.is_output(node.name)
        or not isinstance(readers[0].op, ops.BatchNorm)
    ):
        return None
    norm = readers[0]
    own = all(map(edit.is_unshared, norm.inputs[1:]))
    return norm if own and norm.inputs[0] == node.name else None


def _add_parameter(edit: GraphRewriter, name: str, numbers: np.ndarray) -> str:
    return edit.add_constant(name, numbers, "float32", trainable=True)
