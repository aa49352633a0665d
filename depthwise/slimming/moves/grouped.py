"""Convolutions in groups, with the channels that belong together brought together first."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.neighbours import find_tail
from depthwise.slimming.layers.ordering import reorder, restore
from depthwise.slimming.layers.replacing import keep_mean, mean_lost
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.layers.weighted import fit_places, gradients
from depthwise.slimming.moves.offering import offer
from depthwise.slimming.statistics import Statistics

Kept = Mapping[str, np.ndarray]
COUNTS = (2, 4, 8)  # groups
NARROWEST = 8  # channels of a group
TURNS = 20  # of outputs and inputs, at most


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield convolutions in groups, whose channels are put together so that most is kept.

    The channels of the values before and after get another order, which the layers around take
    where they can; else a Gather reorders them. Weights within a group make up for those without.
    """
    for site in find_sites(draft, known):
        if not isinstance(site.node.op, ops.Conv2d) or site.groups > 1:
            continue
        counts = [count for count in COUNTS if _divides(site, count)]
        energies = _energies(site) if counts else None
        for count in counts:
            assert energies is not None
            found = _fit(site, energies, count)
            words = f"{count} groups of {site.inputs // count} to {site.outputs // count} channels"
            damage = site.damage(found.rows)
            yield offer(
                "grouped",
                site,
                words,
                damage,
                found,
                partial(find_groups, count=count),
                make_grouped,
            )


def _divides(site: Site, count: int) -> bool:
    """Tell whether groups are of whole vectors."""
    return site.inputs % (count * NARROWEST) == 0 and site.outputs % (count * NARROWEST) == 0


class Grouped(NamedTuple):
    """A weight with zeros outside of groups.

    Attributes:
        inputs: Which channels each group reads, (groups, C / groups).
        outputs: Which it gives, (groups, K / groups).
        rows: The weight (K, D).
    """

    inputs: np.ndarray
    outputs: np.ndarray
    rows: np.ndarray


def _energies(site: Site) -> np.ndarray:
    """Return how much of what matters of each output comes from each input by itself, (K, C)."""
    channels, taps = site.inputs, site.kernel[0] * site.kernel[1]
    moments = site.statistics.covariance[0].reshape(channels, taps, channels, taps)
    own = np.einsum("cicj->cij", moments).astype(np.float64)
    weight = site.weight.reshape(site.outputs, channels, taps).transpose(1, 0, 2)
    energy = np.einsum("cki,cki->kc", weight @ own, weight)
    return energy * np.diag(gradients(site)[0])[:, None]


def _fit(site: Site, energies: np.ndarray, count: int) -> Grouped:
    inputs, outputs = divide(energies, count)
    taps = np.arange(site.kernel[0] * site.kernel[1])
    rows = np.zeros_like(site.rows)
    for read, given in zip(inputs, outputs, strict=True):
        places = (read[:, None] * len(taps) + taps).reshape(-1)
        fitted = fit_places(site.rows[given], site.statistics.covariance[0], places)
        rows[np.ix_(given, places)] = fitted
    return Grouped(inputs, outputs, rows.astype(np.float32))


def find_groups(site: Site, count: int) -> Grouped:
    """Return the best weight in a number of groups.

    Raises ValueError where channels were cut meanwhile so that these have no whole vectors.
    """
    if not _divides(site, count):
        raise ValueError(f"{site.path}: its channels do not divide into {count} groups any more")
    return _fit(site, _energies(site), count)


def make_grouped(site: Site, found: Grouped) -> Draft:
    """Put a convolution in groups in the place of one, and the channels around in their order."""
    edit, node = GraphRewriter(site.draft.graph), site.node
    read, given = found.inputs.reshape(-1), found.outputs.reshape(-1)
    keep_mean(edit, node.name, mean_lost(site, found.rows), site.draft.frozen)
    node = edit.node(node.name) or node
    weight = found.rows.reshape(site.weight.shape)
    parts = [weight[np.ix_(k, c)] for c, k in zip(found.inputs, found.outputs, strict=True)]
    edit.set_constant(node.inputs[1], np.concatenate(parts))
    for name in node.inputs[2:]:
        edit.set_constant(name, edit.numbers(name)[given])
    op = replace(site.conv, groups=len(found.inputs))
    edit.replace(node, op, *node.inputs)
    kept = _order_inputs(edit, site.draft.kept, node, read)
    graph, kept = _order_outputs(edit, kept, node, given)
    return replace(site.draft, graph=graph, kept=kept)


def _order_inputs(edit: GraphRewriter, kept: Kept, node: Node, order: np.ndarray) -> Kept:
    """Let a convolution read channels in an order; return what is then kept."""
    value = node.inputs[0]
    now = reorder(edit, kept, value, order, {node.name})
    if now is not None:
        return now
    places = edit.add_constant(f"{node.name}.order", order)
    moved = edit.insert(node, f"{node.name}.ordered", ops.Gather(1), value, places, path=node.path)
    conv = edit.node(node.name)
    assert conv is not None
    edit.replace(conv, conv.op, moved, *conv.inputs[1:])
    return {**kept, moved: kept.get(value, np.arange(len(order)))[order]}


def _order_outputs(
    edit: GraphRewriter, kept: Kept, node: Node, order: np.ndarray
) -> tuple[Graph, Kept]:
    """Let what follows a convolution take its channels in an order.

    Where that cannot be, they are put back after the BatchNorm and the activation that follow.
    """
    now = reorder(edit, kept, node.name, order, {node.name})
    if now is not None:
        return edit.result(), now
    tail = find_tail(edit, node)
    last = tail.last(edit.node(node.name) or node)
    for name in tail.norm.inputs[1:] if tail.norm else ():
        edit.set_constant(name, edit.numbers(name)[order])
    maps = edit.insert(last, f"{last.name}.maps", last.op, *last.inputs, path=last.path)
    restore(edit, last, maps, order)
    moved = {maps, *(each.name for each in (node, tail.norm) if each and each.name != last.name)}
    had = kept.get(last.name, np.arange(len(order)))
    return edit.result(), {**kept, **dict.fromkeys(moved, had[order])}


def divide(energies: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and the outputs of each group, equally many, with most energy inside.

    Outputs that read the same inputs are near each other in the first singular vectors of the
    energies as shares of both their sums (Dhillon, KDD 2001). From groups around those that are
    far from each other, channels of one kind, then of the other, are exchanged while that helps.

    Args:
        energies: Of each pair of output and input, (K, C).
        count: How many groups.

    Returns:
        (groups, C / groups) and (groups, K / groups).
    """
    own = energies + 1e-12 * max(float(energies.max()), 1e-12)
    shares = own / np.sqrt(own.sum(1, keepdims=True) * own.sum(0))
    places = np.linalg.svd(shares, full_matrices=False)[0][:, :count]
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    near = places @ places[_far_apart(places, count)].T
    outputs = _exchange(near, np.argsort(near.argmax(1), kind="stable").reshape(count, -1))
    inputs = np.arange(energies.shape[1]).reshape(count, -1)
    before = -1.0
    for _ in range(TURNS):
        inputs = _exchange(energies[outputs].sum(1).T, inputs)
        outputs = _exchange(energies[:, inputs].sum(2), outputs)
        pairs = zip(outputs, inputs, strict=True)
        inside = float(sum(energies[np.ix_(k, c)].sum() for k, c in pairs))
        if inside <= before * (1 + 1e-9):
            break
        before = inside
    return np.sort(inputs, 1), np.sort(outputs, 1)


def _far_apart(places: np.ndarray, count: int) -> list[int]:
    """Return which of some unit vectors are far from each other, one after the other."""
    chosen = [0]
    while len(chosen) < count:
        chosen.append(int((places @ places[chosen].T).max(1).argmin()))
    return chosen


def _exchange(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return groups (groups, n) whose members have changed places in pairs, as long as that helped.

    `scores` is what each is worth in each group, (members, groups).
    """
    members = groups.reshape(-1).copy()
    homes = np.repeat(np.arange(len(groups)), groups.shape[1])
    worth = scores[members][:, homes]  # [a, b]: a at the home of b
    for _ in range(2 * len(members)):
        now = np.diag(worth)
        gain = worth + worth.T - now - now[:, None]
        a, b = divmod(int(gain.argmax()), len(members))
        if gain[a, b] <= 1e-9 * max(float(now.sum()), 1e-30):
            break
        members[[a, b]] = members[[b, a]]
        worth[[a, b]] = worth[[b, a]]
    return members.reshape(groups.shape)
