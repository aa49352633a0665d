"""A ReLU in the place of a smooth activation, scaled and shifted to come as near as it can."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.channels.cut import channels_left
from depthwise.slimming.channels.gaussian import expected
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.replacing import keep_mean
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.statistics import Statistics

NAME = "activations"
SMOOTH = ("hard_swish", "silu", "gelu", "gelu_tanh", "mish")
RELU = ops.Activation("relu")


@dataclass(frozen=True, eq=False)
class Likeness:
    """How near a ReLU comes to an activation, channel by channel: y is about scale · relu + shift.

    Attributes:
        scale: The best factor.
        shift: What is then to be added.
        lost: The share of the activation's variance that is not met.
        missed: The square of the shift, as a share of the same.
    """

    scale: np.ndarray
    shift: np.ndarray
    lost: np.ndarray
    missed: np.ndarray


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield each smooth activation after a BatchNorm as a ReLU.

    Where layers alone read it, or a gate and what the gate multiplies.
    """
    sites = {site.node.name: site for site in find_sites(draft, known)}
    nodes, readers = {node.name: node for node in draft.graph}, draft.graph.readers()
    for node in draft.graph:
        norm = nodes.get(node.inputs[0]) if _is_smooth(node) else None
        reached = list(_reached(node, readers)) if norm is not None else []
        own = [(sites.get(layer.name), gated) for layer, gated in reached]
        if norm is None or not isinstance(norm.op, ops.BatchNorm) or not own:
            continue
        if any(site is None or site.inputs != node.type.shape[1] for site, _ in own):
            continue
        like, damage = _likeness(draft, node, norm), 0.0
        for site, gated in own:
            lost = like.lost + (like.missed if gated else 0)
            damage += float(lost @ _by_channel(site)) if site else 0
        assert isinstance(node.op, ops.Activation)
        words = f"{node.op.function} to relu"
        apply = partial(_apply, before=draft, name=node.name, like=like)
        yield Change(NAME, node.path or node.name, words, damage, apply)


def _reached(
    node: Node, readers: Mapping[str, Sequence[Node]], gated: bool = False
) -> Iterator[tuple[Node, bool]]:
    """Yield what reads a value, through means over planes and gates; the node itself where not.

    And whether a gate lies between, which lets no shift pass.
    """
    for reader in readers[node.name]:
        pool = (
            isinstance(reader.op, ops.AdaptivePool2d | ops.Reduce) and reader.op.function == "mean"
        )
        planes = len(reader.type.shape) == 4 and reader.type.shape[:2] == node.type.shape[:2]
        if (pool and planes) or (reader.op == ops.Binary("multiply") and planes and not gated):
            yield from _reached(reader, readers, gated or not pool)
        else:
            yield reader, gated


def _is_smooth(node: Node) -> bool:
    return isinstance(node.op, ops.Activation) and node.op.function in SMOOTH


def _likeness(draft: Draft, node: Node, norm: Node) -> Likeness:
    """Return how near a ReLU comes where a BatchNorm's output is normal, as its weights say."""
    weight, bias = map(draft.graph.numbers, norm.inputs[1:3])
    assert isinstance(node.op, ops.Activation)
    y, r, yy, rr, yr = expected(
        [node.op, RELU], bias.astype(np.float64), np.abs(weight.astype(np.float64)),
        lambda y, r: [y, r, y * y, r * r, y * r],
    )  # fmt: skip
    varied, rectified, both = np.maximum(yy - y * y, 1e-12), rr - r * r, yr - y * r
    scale = np.where(rectified > 1e-12, both / np.maximum(rectified, 1e-12), 1.0)
    shift = y - scale * r
    lost = np.clip(1 - scale * both / varied, 0, 1)
    return Likeness(scale, shift, lost, shift * shift / varied)


def _by_channel(site: Site) -> np.ndarray:
    """Return the damage that a layer's loss of each channel does, nothing making up for it."""
    known, groups = site.statistics, site.groups
    rows = site.rows_by_group
    gradient = known.gradient.reshape(groups, rows.shape[1], groups, -1)
    own = gradient[np.arange(groups), :, np.arange(groups)]
    each = np.einsum("gkd,gkl,gld->gd", rows, own, rows, optimize=True)
    each *= known.covariance.diagonal(axis1=1, axis2=2) * 0.5 * known.pixels
    return each.reshape(site.inputs, -1).sum(1)


def _apply(draft: Draft, before: Draft, name: str, like: Likeness) -> Draft:
    edit = GraphRewriter(draft.graph)
    node = edit.node(name)
    if node is None or not _is_smooth(node):
        raise ValueError(f"{name} is no smooth activation any more")
    left = channels_left(before, draft, name, len(like.scale))
    edit.replace(node, RELU, *node.inputs)
    for layer, gated in _reached(node, draft.graph.readers()):
        _rescale(edit, layer, like.scale[left], like.shift[left] * (not gated))
    return replace(draft, graph=edit.result())


def _rescale(edit: GraphRewriter, layer: Node, scale: np.ndarray, shift: np.ndarray) -> None:
    """Let a layer read scale · x + shift in the place of x."""
    weight = edit.numbers(layer.inputs[1])
    groups = getattr(layer.op, "groups", 1)
    blocks = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
    added = np.einsum("gkcr,gc->gk", blocks, shift.reshape(groups, -1)).reshape(-1)
    scaled = blocks * scale.reshape(groups, 1, -1, 1)
    edit.set_constant(layer.inputs[1], scaled.reshape(weight.shape))
    keep_mean(edit, layer.name, added)
