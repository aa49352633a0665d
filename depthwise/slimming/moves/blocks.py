"""Residual branches removed: of a sum, what one side gives is taken for its mean."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.channels.cut import channels_left
from depthwise.slimming.channels.importance import Variances
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.statistics import Statistics

NAME = "blocks"


@dataclass(frozen=True, eq=False)
class Branch:
    """One side of a sum that can be left out.

    Attributes:
        sum: The name of the sum.
        value: What the branch gives.
        layers: How many convolutions and linear layers go with it.
        last: The layer that ends it, where only a BatchNorm, a factor or a gate follows.
        norm: That BatchNorm.
        plain: Whether nothing but the BatchNorm follows.
        axis: On which its channels lie.
    """

    sum: str
    value: str
    layers: int
    last: str | None
    norm: Node | None
    plain: bool
    axis: int


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield, for each sum of values of one shape, that without one of them.

    Only where layers go with it: a shortcut that is the sum's own input is no branch.
    """
    sites = {site.node.name: site for site in find_sites(draft, known)}
    variances = Variances(draft.graph)
    for node in draft.graph:
        for branch in _branches(draft, node) if node.op == ops.Binary("add") else ():
            mean, damage = _estimated(draft, branch, sites, variances)
            if damage is not None:
                words = f"a branch of {branch.layers} layers removed"
                apply = partial(_apply, before=draft, branch=branch, mean=mean)
                yield Change(NAME, node.path or node.name, words, damage, apply)


def _branches(draft: Draft, node: Node) -> Iterator[Branch]:
    """Yield the sides of a sum with which layers go."""
    graph = draft.graph
    nodes = {each.name: each for each in graph}
    alike = {graph.type(name).shape for name in node.inputs} == {node.type.shape}
    if not alike or len(set(node.inputs) & nodes.keys()) < len(node.inputs):
        return
    for value in node.inputs:
        last, norm, plain = _end(draft, nodes, value)
        linear = last is not None and isinstance(nodes[last].op, ops.Linear)
        branch = Branch(node.name, value, 0, last, norm, plain, -1 if linear else 1)
        left = {each.name for each in _without(draft, branch, None).graph}
        layers = sum(
            isinstance(each.op, ops.Convolution) and each.name not in left for each in graph
        )
        if layers:
            yield replace(branch, layers=layers)


def _end(draft: Draft, nodes: dict[str, Node], value: str) -> tuple[str | None, Node | None, bool]:
    """Return the layer with which a branch ends, the BatchNorm after it, and whether that is all.

    Gates and factors in between leave a layer's gradient to tell what it matters.
    """
    norm, plain, node = None, True, nodes.get(value)
    while node is not None and not isinstance(node.op, ops.Conv2d | ops.Linear):
        if isinstance(node.op, ops.BatchNorm) and norm is None:
            norm = node
        elif isinstance(node.op, ops.Permute) or node.op == ops.Binary("multiply"):
            plain = False
        else:
            return None, None, False
        size = node.type.size
        whole = [name for name in node.inputs if draft.graph.type(name).size == size]
        node = nodes.get(whole[0]) if whole else None
    return (node.name, norm, plain) if node else (None, None, False)


def _estimated(
    draft: Draft, branch: Branch, sites: dict[str, Site], variances: Variances
) -> tuple[np.ndarray | None, float | None]:
    """Return the mean of what a branch gives, where it can be put in its place, and the damage.

    With statistics, the damage is that of a last layer whose output does not vary, or is not there
    at all where a gate follows; without any, half the share of the sum's variance that goes.
    """
    if not sites:
        share = variances[branch.value] / np.maximum(variances[branch.sum], 1e-30)
        return None, 0.5 * float(np.mean(share))
    site = sites.get(branch.last or "")
    if site is None:
        return None, None
    known, rows, output = site.statistics, site.rows, site.output_mean
    scale = np.ones_like(output)
    if branch.norm is not None and isinstance(branch.norm.op, ops.BatchNorm):
        weight, bias, mean, variance = (_numbers(draft, n) for n in branch.norm.inputs[1:])
        scale = weight / np.sqrt(variance + branch.norm.op.eps)
        output = (output - mean) * scale + bias
    damage = known.damage(-rows)
    if branch.plain:
        return output.astype(np.float32), damage
    lost = output / np.where(np.abs(scale) > 1e-12, scale, 1.0)  # as the layer itself would lose it
    return None, damage + 0.5 * known.pixels * float(lost @ known.gradient @ lost)


def _numbers(draft: Draft, name: str) -> np.ndarray:
    return draft.graph.numbers(name).astype(np.float64)


def _apply(draft: Draft, before: Draft, branch: Branch, mean: np.ndarray | None) -> Draft:
    node = next((node for node in draft.graph if node.name == branch.sum), None)
    if node is None or branch.value not in node.inputs:
        raise ValueError(f"the sum {branch.sum} is another by now")
    if mean is not None:
        mean = mean[channels_left(before, draft, branch.sum, len(mean))]
    return _without(draft, branch, mean)


def _without(draft: Draft, branch: Branch, mean: np.ndarray | None) -> Draft:
    """Return a draft in which one side of a sum is a number a channel, or nothing."""
    edit = GraphRewriter(draft.graph)
    node = edit.node(branch.sum)
    assert node is not None
    other = node.inputs[0] if node.inputs[1] == branch.value else node.inputs[1]
    if mean is None or not np.any(mean):
        edit.bypass(node, other)
    else:
        shape = np.ones(len(node.type.shape), int)
        shape[branch.axis] = -1
        name = f"{node.path or node.name}.mean"
        constant = edit.add_constant(name, mean.reshape(shape), trainable=True)
        edit.replace(node, node.op, other, constant)
    return replace(draft, graph=edit.result())
