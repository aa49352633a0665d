"""Ghost modules: some of the filters stay, the other maps are made cheaply of theirs."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.neighbours import (
    GHOST_KERNEL,
    estimate_neighbours,
    find_tail,
)
from depthwise.slimming.layers.ordering import reorder, restore
from depthwise.slimming.layers.pairing import Pairing, choose_primaries
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.layers.weighted import output_covariance
from depthwise.slimming.moves.offering import offer
from depthwise.slimming.statistics import NeighbourMoments, Statistics

RIDGE = 1e-9  # of the mean variance of a neighbourhood
FEWER = {2: "half", 4: "a quarter"}  # by maps for each one that is convolved: the paper's s


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield the Ghost modules that save multiply-adds in the place of convolutions.

    Han et al., arXiv:1911.11907, train them anew; here each filter that stays keeps its weights,
    and each other map is the depthwise convolution, fitted by least squares, of the one map that
    explains it best. The damage counts the errors of maps one by one, not how they go together.
    """
    for site in find_sites(draft, known):
        ratios = [ratio for ratio in FEWER if _saves(site, ratio)]
        explained = _explain(site) if ratios else None
        for ratio in ratios:
            assert explained is not None
            ghosts = _choose(site, explained, ratio)
            words = f"{FEWER[ratio]} of {site.outputs} maps convolved, the others made of these"
            harm, fit = ghosts.pairing.harm, partial(find_ghosts, ratio=ratio)
            yield offer("ghost", site, words, harm, ghosts, fit, make_ghost)


def _saves(site: Site, ratio: int) -> bool:
    """Tell whether a Ghost module has fewer multiply-adds, and as many maps of each filter."""
    primary, odd = divmod(site.outputs, ratio)
    cheap = primary * (ratio - 1) * GHOST_KERNEL * GHOST_KERNEL
    patch = site.weight_size // site.outputs
    plain = isinstance(site.node.op, ops.Conv2d) and site.groups == 1
    whole = not odd and primary % 8 == 0
    return plain and whole and primary * patch + cheap < site.weight_size


class _Explained(NamedTuple):
    """Each map as the depthwise convolution of each other one.

    Attributes:
        near: Of what is made of the outputs.
        kernels: (K, taps, K), [j, :, k] the kernel that makes k of j.
        harm: (K, K), what that does, in nats an image.
    """

    near: NeighbourMoments
    kernels: np.ndarray
    harm: np.ndarray


def _explain(site: Site) -> _Explained:
    tail = find_tail(GraphRewriter(site.draft.graph), site.node)
    covariance = output_covariance(site)[0]
    near = site.statistics.neighbours or estimate_neighbours(site, tail, covariance)
    mean = np.trace(near.covariance, axis1=1, axis2=2) / near.covariance.shape[1]
    lifted = near.covariance + RIDGE * np.maximum(mean, 1e-12)[:, None, None] * np.eye(near.size**2)
    kernels = np.linalg.solve(lifted, near.products)
    explained = np.einsum("jtk,jtk->jk", kernels, near.products)
    worth = 0.5 * site.statistics.pixels * np.diag(site.statistics.gradient)
    harm = worth * np.maximum(np.diag(covariance) - explained, 0)
    np.fill_diagonal(harm, 0)
    return _Explained(near, kernels, harm)


class GhostFit(NamedTuple):
    """What a Ghost module is made of.

    Attributes:
        pairing: Which maps are convolved, and which are made of each.
        kernels: Of the maps that are made, (K - K / ratio, d, d), in the pairing's order.
        lost: By how much the means of what the kernels give fall short of the maps'.
    """

    pairing: Pairing
    kernels: np.ndarray
    lost: np.ndarray


def _choose(site: Site, explained: _Explained, ratio: int) -> GhostFit:
    pairing = choose_primaries(explained.harm, ratio)
    ghosts = pairing.ghosts.reshape(-1)
    primary = np.repeat(pairing.primary, ratio - 1)
    kernels, near = explained.kernels[primary, :, ghosts], explained.near
    lost = site.output_mean[ghosts] - np.einsum("kt,kt->k", kernels, near.mean[primary])
    around = (GHOST_KERNEL - near.size) // 2
    planes = kernels.reshape(-1, near.size, near.size)
    planes = np.pad(planes, ((0, 0), (around, around), (around, around)))
    return GhostFit(pairing, planes.astype(np.float32), lost)


def find_ghosts(site: Site, ratio: int) -> GhostFit:
    """Return the best Ghost module in the place of a convolution.

    Raises ValueError where channels were cut meanwhile so that it saves nothing any more.
    """
    if not _saves(site, ratio):
        raise ValueError(f"{site.path}: of {site.outputs} maps, ghosts save nothing any more")
    return _choose(site, _explain(site), ratio)


def make_ghost(site: Site, ghosts: GhostFit) -> Draft:
    """Put a Ghost module in the place of a convolution and what follows it alone."""
    return _Module(site, ghosts).build()


class _Module:
    """A Ghost module while it is built."""

    def __init__(self, site: Site, ghosts: GhostFit):
        self.site, self.ghosts, self.pairing = site, ghosts, ghosts.pairing
        self.edit = GraphRewriter(site.draft.graph)
        self.tail = find_tail(self.edit, site.node)
        self.last = self.tail.last(site.node)
        self.kept, self.parts = dict(site.draft.kept), dict(site.draft.parts)

    def build(self) -> Draft:
        """Return the draft with the module in it."""
        primary = self._add_tail("primary", self._add_primary(), self.pairing.primary)
        cheap = self._add_tail("cheap", self._add_cheap(primary), self.pairing.ghosts.reshape(-1))
        edit, last, order = self.edit, self.last, self.pairing.order
        edit.replace(last, ops.Concat(1), primary, cheap)
        kept = reorder(edit, self.kept, last.name, order, {last.name})
        if kept is None:
            maps = edit.insert(
                last, f"{last.name}.maps", ops.Concat(1), primary, cheap, path=last.path
            )
            self.kept[maps] = self._had(last)[order]
            restore(edit, last, maps, order)
        kept = self.kept if kept is None else kept
        return replace(self.site.draft, graph=edit.result(), kept=kept, parts=self.parts)

    def _add_primary(self) -> str:
        node, chosen = self.site.node, self.pairing.primary
        path = f"{self.site.path}.primary"
        weight, *bias = (
            self._parameter(f"{path}.{role}", self.site.draft.graph.numbers(name)[chosen])
            for role, name in zip(("weight", "bias"), node.inputs[1:], strict=False)
        )
        return self._give(node, "primary", node.op, (node.inputs[0], weight, *bias), chosen)

    def _add_cheap(self, primary: str) -> str:
        path = f"{self.site.path}.cheap"
        given = [primary, self._parameter(f"{path}.weight", self.ghosts.kernels[:, None])]
        if self.tail.norm is None:
            given.append(self._parameter(f"{path}.bias", self.ghosts.lost))
        side = GHOST_KERNEL // 2
        padding = ops.Padding(side, side, side, side)
        op = ops.Conv2d((1, 1), padding, (1, 1), len(self.pairing.primary))
        ghosts = self.pairing.ghosts.reshape(-1)
        return self._give(self.site.node, "cheap", op, tuple(given), ghosts)

    def _add_tail(self, which: str, value: str, channels: np.ndarray) -> str:
        """Add what followed the convolution, for some of its channels."""
        norm, act = self.tail
        if norm is not None:
            numbers = [self.site.draft.graph.numbers(name)[channels] for name in norm.inputs[1:]]
            if which == "cheap":
                numbers[2] = numbers[2] - self.ghosts.lost
            value = self._give(
                norm, which, norm.op, (value, *self._norm(norm, which, numbers)), channels
            )
        if act is not None:
            value = self._give(act, which, act.op, (value,), channels)
        return value

    def _norm(self, norm: Node, which: str, numbers: list[np.ndarray]) -> list[str]:
        """Add the constants of a BatchNorm's part."""
        path = f"{norm.path or norm.name}.{which}"
        constants = self.site.draft.graph.constants
        return [
            self.edit.add_constant(f"{path}.{role}", part, "float32", constants[name].trainable)
            for role, name, part in zip(
                ("weight", "bias", "running_mean", "running_var"),
                norm.inputs[1:],
                numbers,
                strict=True,
            )
        ]

    def _give(
        self, node: Node, which: str, op: ops.Op, inputs: tuple[str, ...], channels: np.ndarray
    ) -> str:  # fmt: skip
        """Let an operator work on some of the channels of a node; return its value's name.

        What is convolved keeps its nodes, but for the last one, in whose place all maps are joined.
        """
        path = f"{node.path or node.name}.{which}"
        if which == "primary" and node is not self.last:
            shape = (node.type.shape[0], len(channels), *node.type.shape[2:])
            self.edit.replace(node, op, *inputs, path=path, type=replace(node.type, shape=shape))
            name = node.name
        else:
            name = self.edit.insert(self.last, f"{node.name}.{which}", op, *inputs, path=path)
            self.parts[name] = self.site.draft.source(node.name)
        self.kept[name] = self._had(node)[channels]
        return name

    def _had(self, node: Node) -> np.ndarray:
        return np.asarray(self.site.draft.kept.get(node.name, np.arange(self.site.outputs)))

    def _parameter(self, name: str, numbers: np.ndarray) -> str:
        return self.edit.add_constant(name, numbers, "float32", trainable=True)
