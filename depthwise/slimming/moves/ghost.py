"""Ghost modules: some of the filters stay, the other maps are made cheaply of theirs."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.neighbours import Tail, estimate_neighbours, find_tail, output_mean
from depthwise.slimming.ordering import reorder, restore
from depthwise.slimming.sites import Site, find_again, find_sites
from depthwise.slimming.statistics import Neighbours, Statistics
from depthwise.slimming.weighted import output_covariance

RIDGE = 1e-9  # of the mean variance of a neighbourhood
FEWER = {2: "half", 4: "a quarter"}  # by maps for each one that is convolved: the paper's s
SIZE = 3  # of the cheap kernels: the paper's d


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield the Ghost modules that save multiply-adds in the place of convolutions.

    Han et al., arXiv:1911.11907, train them anew; here each filter that stays keeps its weights,
    and each other map is the depthwise convolution, fitted by least squares, of the one map that
    explains it best. The damage counts the errors of maps one by one, not how they go together.
    """
    for site in find_sites(draft, known):
        if not isinstance(site.node.op, ops.Conv2d) or site.groups > 1:
            continue
        fit = None
        for ratio, fewer in FEWER.items():
            if _saves(site, ratio):
                fit = fit or _fit(site)
                pairing = choose_primaries(fit.harm, ratio)
                words = f"{fewer} of {site.outputs} maps convolved, the others made of these"
                yield Change(
                    "ghost", site.path, words, pairing.harm, partial(make_ghost, site, ratio)
                )


def _saves(site: Site, ratio: int) -> bool:
    """Tell whether a Ghost module has fewer multiply-adds, and as many maps from each filter."""
    primary, odd = divmod(site.outputs, ratio)
    cheap = primary * (ratio - 1) * SIZE * SIZE
    patch = site.weight_size // site.outputs
    return not odd and primary % 8 == 0 and primary * patch + cheap < site.weight_size


class _Fit(NamedTuple):
    """Each map as the depthwise convolution of each other one.

    Attributes:
        tail: What follows the convolution.
        near: Of what is made of the outputs.
        kernels: (K, K, taps), [j, k] the kernel that makes k of j.
        harm: (K, K), what that does, in nats an image; on the diagonal what each map is worth.
    """

    tail: Tail
    near: Neighbours
    kernels: np.ndarray
    harm: np.ndarray


def _fit(site: Site) -> _Fit:
    tail = find_tail(GraphRewriter(site.draft.graph), site.node)
    covariance = output_covariance(site)[0]
    near = site.statistics.neighbours or estimate_neighbours(site, tail, covariance)
    mean = np.trace(near.covariance, axis1=1, axis2=2) / near.covariance.shape[1]
    lifted = near.covariance + RIDGE * np.maximum(mean, 1e-12)[:, None, None] * np.eye(near.size**2)
    kernels = np.linalg.solve(lifted, near.products)  # (K, taps, K)
    explained = np.einsum("jtk,jtk->jk", kernels, near.products)
    worth = 0.5 * site.statistics.pixels * np.diag(site.statistics.gradient)
    harm = worth * np.maximum(np.diag(covariance) - explained, 0)
    np.fill_diagonal(harm, 0)
    return _Fit(tail, near, kernels.transpose(0, 2, 1), harm)


class Pairing(NamedTuple):
    """Which maps are convolved, and which are made of each.

    Attributes:
        primary: (K / ratio) channels.
        ghosts: Of each of them, (K / ratio, ratio - 1) channels.
        harm: What making them does.
    """

    primary: np.ndarray
    ghosts: np.ndarray
    harm: float

    @property
    def order(self) -> np.ndarray:
        """The channels as a Ghost module gives them: those convolved, then those made."""
        return np.concatenate([self.primary, self.ghosts.reshape(-1)])


def choose_primaries(harm: np.ndarray, ratio: int) -> Pairing:
    """Return a pairing that does little harm; harm[j, k] is that of making k of j.

    One primary after the other is taken that spares the others most; each gets its share of ghosts,
    the least harmful first; then ghosts are exchanged while that helps, and each family is headed
    by whoever explains the others best.
    """
    count = len(harm) // ratio
    primary, left = [], harm.max(0)
    for _ in range(count):
        gains = np.maximum(left - harm, 0).sum(1)
        gains[primary] = -1
        primary.append(int(gains.argmax()))
        left = np.minimum(left, harm[primary[-1]])
    ghosts = np.setdiff1d(np.arange(len(harm)), primary)
    owners = _share_out(harm[np.ix_(primary, ghosts)], ratio - 1)
    families = np.column_stack(
        [primary, ghosts[np.argsort(owners, kind="stable")].reshape(count, -1)]
    )
    total = np.inf
    while True:
        families = _exchange(harm, _choose_heads(harm, families))
        found = float(harm[families[:, :1], families[:, 1:]].sum())
        if found >= total * (1 - 1e-9):
            return Pairing(families[:, 0], families[:, 1:], found)
        total = found


def _share_out(harm: np.ndarray, most: int) -> np.ndarray:
    """Return the owner of each ghost, none with more than `most`: the least harm first."""
    owners, room = np.full(harm.shape[1], -1), np.full(len(harm), most)
    for place in np.argsort(harm, axis=None).tolist():
        owner, ghost = divmod(place, harm.shape[1])
        if owners[ghost] < 0 and room[owner]:
            owners[ghost], room[owner] = owner, room[owner] - 1
    return owners


def _choose_heads(harm: np.ndarray, families: np.ndarray) -> np.ndarray:
    """Return families headed by whoever of them does least harm."""
    among = harm[families[:, :, None], families[:, None, :]].sum(2)
    heads = among.argmin(1)[:, None]
    places = (heads + np.arange(families.shape[1])) % families.shape[1]
    return np.take_along_axis(families, places, 1)


def _exchange(harm: np.ndarray, families: np.ndarray) -> np.ndarray:
    """Return families that have exchanged ghosts, two at a time, as long as that helped."""
    heads = np.repeat(families[:, 0], families.shape[1] - 1)
    ghosts = families[:, 1:].reshape(-1).copy()
    made = harm[np.ix_(heads, ghosts)]  # [a, b]: ghost b made by the head of ghost a
    for _ in range(2 * len(ghosts)):
        now = np.diag(made)
        change = made + made.T - now - now[:, None]
        a, b = divmod(int(change.argmin()), len(ghosts))
        if change[a, b] >= -1e-9 * now.sum():
            break
        ghosts[[a, b]] = ghosts[[b, a]]
        made[:, [a, b]] = made[:, [b, a]]
    return np.column_stack([families[:, :1], ghosts.reshape(len(families), -1)])


def make_ghost(site: Site, ratio: int, draft: Draft) -> Draft:
    """Put a Ghost module in the place of a convolution and what follows it alone.

    The draft stays as it is where channels were cut meanwhile so that it saves nothing any more.
    """
    site = find_again(site, draft)
    if not _saves(site, ratio):
        return draft
    fit = _fit(site)
    pairing = choose_primaries(fit.harm, ratio)
    return _Module(site, fit, pairing).build()


class _Module:
    """A Ghost module while it is built."""

    def __init__(self, site: Site, fit: _Fit, pairing: Pairing):
        self.site, self.fit, self.pairing = site, fit, pairing
        self.last = fit.tail.last(site.node)
        self.edit = GraphRewriter(site.draft.graph)
        self.kept = dict(site.draft.kept)

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
        return Draft(edit.result(), self.kept if kept is None else kept)

    def _add_primary(self) -> str:
        node, chosen = self.site.node, self.pairing.primary
        path = f"{self.site.path}.primary"
        weight, *bias = (
            self._parameter(f"{path}.{role}", self._numbers(name)[chosen])
            for role, name in zip(("weight", "bias"), node.inputs[1:], strict=False)
        )
        return self._give(node, "primary", node.op, (node.inputs[0], weight, *bias), chosen)

    def _add_cheap(self, primary: str) -> str:
        node, near, pairing = self.site.node, self.fit.near, self.pairing
        path, ghosts = f"{self.site.path}.cheap", pairing.ghosts.reshape(-1)
        kernels = self.fit.kernels[pairing.primary[:, None], pairing.ghosts]
        around = (SIZE - near.size) // 2
        planes = kernels.reshape(-1, 1, near.size, near.size)
        planes = np.pad(planes, ((0, 0), (0, 0), (around, around), (around, around)))
        given = [primary, self._parameter(f"{path}.weight", planes)]
        if self.fit.tail.norm is None:
            given.append(self._parameter(f"{path}.bias", self._lost()))
        side = SIZE // 2
        padding = ops.Padding(side, side, side, side)
        op = ops.Conv2d((1, 1), padding, (1, 1), len(pairing.primary))
        return self._give(node, "cheap", op, tuple(given), ghosts)

    def _lost(self) -> np.ndarray:
        """Return by how much the means of what the cheap kernels give fall short of the maps'."""
        primary, ghosts = self.pairing.primary[:, None], self.pairing.ghosts
        given = np.einsum("jgt,jt->jg", self.fit.kernels[primary, ghosts],
                          self.fit.near.mean[self.pairing.primary])  # fmt: skip
        return (output_mean(self.site)[ghosts] - given).reshape(-1)

    def _add_tail(self, which: str, value: str, channels: np.ndarray) -> str:
        """Add what followed the convolution, for some of its channels."""
        norm, act = self.fit.tail
        if norm is not None:
            numbers = [self._numbers(name)[channels] for name in norm.inputs[1:]]
            if which == "cheap":
                numbers[2] = numbers[2] - self._lost()
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
        self.kept[name] = self._had(node)[channels]
        return name

    def _had(self, node: Node) -> np.ndarray:
        return np.asarray(self.site.draft.kept.get(node.name, np.arange(self.site.outputs)))

    def _numbers(self, name: str) -> np.ndarray:
        numbers = self.site.draft.graph.constants[name].numbers
        assert numbers is not None
        return numbers

    def _parameter(self, name: str, numbers: np.ndarray) -> str:
        return self.edit.add_constant(name, numbers, "float32", trainable=True)
