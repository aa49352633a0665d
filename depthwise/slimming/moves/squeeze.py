"""Squeeze-and-excitation removed, or narrowed: each channel's gate becomes its mean."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.channels.cut import channels_left
from depthwise.slimming.channels.gaussian import expected
from depthwise.slimming.channels.groups import find_groups
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.moves.channels import group_changes
from depthwise.slimming.statistics import Statistics

NAME = "squeeze"


@dataclass(frozen=True, eq=False)
class Gate:
    """What multiplies each channel of a value by a number that the image decides.

    Attributes:
        product: The name of the product.
        value: What is multiplied.
        site: The layer that gives the gates before their activation.
        function: The activation.
    """

    product: str
    value: str
    site: Site
    function: ops.Activation

    def mean(self) -> np.ndarray:
        """Return the mean of each channel's gate, of what is normal before the activation."""
        site, known = self.site, self.site.statistics
        parts, mean = site.rows_by_group, site.output_mean
        variance = np.einsum("gkd,gde,gke->gk", parts, known.covariance, parts).reshape(-1)
        (gate,) = expected([self.function], mean, np.sqrt(np.maximum(variance, 0)), lambda y: [y])
        return gate


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield, for each gate, the network without it, then with fewer channels inside of it.

    Where no statistics are known, gates are only narrowed.
    """
    gates = list(find_gates(draft, known))
    for gate in gates:
        damage = gate.site.statistics.damage(-gate.site.rows)
        apply = partial(_apply, before=draft, gate=gate, mean=gate.mean())
        yield Change(NAME, gate.site.path, "its gate becomes a number a channel", damage, apply)
    inner = {gate.site.node.name for gate in gates}
    for group in find_groups(draft.graph).groups.values():
        readers = {reader.node for reader in group.readers}
        if readers and readers <= inner:
            yield from group_changes(draft, group, known, NAME)


def find_gates(draft: Draft, known: Statistics) -> Iterator[Gate]:
    """Yield the gates of a draft whose layers' statistics are known."""
    sites = {site.node.name: site for site in find_sites(draft, known)}
    nodes = {node.name: node for node in draft.graph}
    for node in draft.graph:
        if node.op != ops.Binary("multiply") or len(node.type.shape) != 4:
            continue
        for value, gate in (node.inputs, node.inputs[::-1]):
            found = _excitation(nodes, gate)
            plane = draft.graph.type(gate).shape[2:]
            if found and found[0].name in sites and plane == (1, 1) != node.type.shape[2:]:
                yield Gate(node.name, value, sites[found[0].name], found[1])


def _excitation(nodes: dict[str, Node], value: str) -> tuple[Node, ops.Activation] | None:
    """Return the layer that gives gates, and the activation after it."""
    function, node = None, nodes.get(value)
    while node is not None and not isinstance(node.op, ops.Conv2d | ops.Linear):
        if isinstance(node.op, ops.Activation) and function is None:
            function = node.op
        elif not isinstance(node.op, ops.Reshape):
            return None
        node = nodes.get(node.inputs[0])
    return (node, function) if node and function else None


def _apply(draft: Draft, before: Draft, gate: Gate, mean: np.ndarray) -> Draft:
    """Return a draft in which a gate is a number for each channel, in the weights beside it."""
    edit = GraphRewriter(draft.graph)
    node = edit.node(gate.product)
    if node is None or gate.value not in node.inputs:
        raise ValueError(f"the gate at {gate.site.path} is another by now")
    mean = mean[channels_left(before, draft, gate.product, len(mean))]
    if _put(edit, node, gate.value, mean):
        edit.bypass(node, gate.value)
    return replace(draft, graph=edit.result())


def _put(edit: GraphRewriter, node: Node, value: str, mean: np.ndarray) -> bool:
    """Put factors into the convolution that reads a product, or into the BatchNorm before it.

    Where neither can take them they stay a product, and False is returned.
    """
    name = f"{node.path or node.name}.mean"
    readers = edit.readers(node.name)
    if len(readers) == 1 and _takes(edit, readers[0], node.name):
        _scale_columns(edit, readers[0], mean)
        return True
    constant = edit.add_constant(name, mean.reshape(1, -1, 1, 1).astype(np.float32), trainable=True)
    edit.replace(node, node.op, value, constant)
    norm = edit.private(value)
    if norm is None or not isinstance(norm.op, ops.BatchNorm):
        return False
    parameters = norm.inputs[1:3]
    if not all(map(edit.is_unshared, parameters)):
        return False
    for parameter in parameters:
        edit.set_constant(parameter, edit.numbers(parameter) * mean)
    return True


def _takes(edit: GraphRewriter, reader: Node, value: str) -> bool:
    weight = reader.inputs[1] if isinstance(reader.op, ops.Conv2d) else value
    return edit.is_unshared(weight) and reader.inputs[0] == value and not edit.is_output(value)


def _scale_columns(edit: GraphRewriter, conv: Node, factor: np.ndarray) -> None:
    """Multiply what a convolution's weight has for each channel that it reads."""
    assert isinstance(conv.op, ops.Conv2d)
    weight = edit.numbers(conv.inputs[1])
    blocks = weight.reshape(conv.op.groups, -1, *weight.shape[1:])
    scaled = blocks * factor.reshape(conv.op.groups, 1, -1, 1, 1)
    edit.set_constant(conv.inputs[1], scaled.reshape(weight.shape))
