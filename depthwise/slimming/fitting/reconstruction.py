"""Weights of a slimmed network that give the original's values, layer by layer, by least squares.

A layer reads what the slimmed network gives it, errors of the layers before included, and is fitted
to what the original gave: so it makes up for them (He et al., arXiv:1707.06168, section 3.2). The
last layer of a residual branch is fitted to what its sum lacks, and makes up for the shortcut's.
"""

from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from depthwise.analysis.memory import peak_activations
from depthwise.calibration.images import as_tensor, held_out, resized, resized_for
from depthwise.calibration.least_squares import Moments, fitted
from depthwise.calibration.patches import draw_pixels, patches_at, values_at
from depthwise.calibration.walk import Walk
from depthwise.graph import Graph, Node, ops
from depthwise.progress import track
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.goals import Goal, find_goals, norm_after

LEAST, MOST = 16384, 65536  # patches of a fit, where the images have as many
TIMES = 16  # as many as numbers in a patch
EVERY = 5  # image is held out
BYTES = 3 << 30  # that the values of both networks may take
CACHED = 1 << 17  # numbers that caches hold
SCALED = 1e-2  # of the largest scale of a BatchNorm: channels below have no say in a sum
RESTORED = 2.0  # times as much as a fit gives a channel may vary, at most, to vary as it did


def reconstruct(draft: Draft, original: Graph, images: np.ndarray | Tensor) -> Draft:
    """Return the draft with its weights refitted and its BatchNorms' statistics estimated anew.

    In the order of computation each convolution and linear layer whose value the original has
    is fitted to it (see `goals.find_goals`) by ridge regression from its weights as they are;
    how strong the ridge is, is chosen on a fifth of the images, on which a fit has to be better
    than none. The statistics of a BatchNorm are moved as far as they differ between the two
    networks on these images: what was not changed keeps its own. Images beyond what 3 GB of values
    hold are left out.

    Args:
        draft: The slimmed network, which may take smaller images.
        original: The network that it was made of.
        images: As the original takes them, (N, C, H, W); some hundred.

    Raises:
        ValueError: The images do not fit.
    """
    x = as_tensor(original, images)
    graph, goals = find_goals(draft, original)
    x = x[: max(1, BYTES // (2 * sum(peak_activations(each).bytes for each in (graph, original))))]
    work = _Reconstruction(replace(draft, graph=graph), original, goals, x)
    for node in track(_ordered(graph, goals), "reconstructing"):
        work.visit(node)
    return replace(draft, graph=replace(graph, constants=work.own.constants))


def _ordered(graph: Graph, goals: tuple[Goal, ...]) -> list[Node]:
    """Return the nodes in an order of computation in which layers of one goal come together."""
    group = {layer.name: goal.layers for goal in goals for layer in goal.layers}
    nodes = {node.name: node for node in graph}
    found: dict[str, Node] = {}
    for start in graph:
        waiting = [start]
        while waiting:
            together = group.get(waiting[-1].name, (waiting[-1],))
            read = [name for node in together for name in node.inputs if name in nodes]
            if missing := [nodes[name] for name in read if name not in found]:
                waiting += missing
            else:
                found |= {node.name: node for node in together}
                waiting.pop()
    return list(found.values())


class _Reconstruction:
    """Two networks on their way through the same images."""

    def __init__(self, draft: Draft, original: Graph, goals: tuple[Goal, ...], images: Tensor):
        graph = draft.graph
        self._shifts: dict[str, Tensor] = {}  # that BatchNorms add to what fitted layers give
        self._pending = {layer.name: goal for goal in goals for layer in goal.layers}
        self._draft, self._original = draft, original
        self._following = {goal.layers[0].name: norm_after(goal, draft) for goal in goals}
        self._before = {
            node.inputs[0]: node for node in original if isinstance(node.op, ops.BatchNorm)
        }
        self._compared = frozenset(
            node.inputs[0] for node in graph
            if isinstance(node.op, ops.BatchNorm) and self._is_comparable(node)
        )  # fmt: skip
        wanted = [goal.value for goal in goals]
        wanted += [goal.addition.original for goal in goals if goal.addition]
        wanted += [
            draft.source(node.inputs[0]) for node in graph
            if isinstance(node.op, ops.BatchNorm) and node.inputs[0] in self._compared
        ]  # fmt: skip
        self._theirs = Walk(original, images, wanted)
        self.own = Walk(graph, resized_for(graph, images))

    def _is_comparable(self, norm: Node) -> bool:
        """Tell whether what a BatchNorm reads has the original's channels, or some of them."""
        value, source = norm.inputs[0], self._draft.source(norm.inputs[0])
        if source not in self._before:
            return False
        channels = self._original.type(source).shape[1]
        return norm.type.shape[1] == len(self._draft.kept.get(value, range(channels)))

    def visit(self, node: Node) -> None:
        """Fit what a node's value depends on, then compute it."""
        if goal := self._pending.get(node.name):
            self._fit(goal)
            for layer in goal.layers:
                del self._pending[layer.name]
        if isinstance(node.op, ops.BatchNorm) and self._draft.frozen.isdisjoint(node.inputs):
            self._estimate(node)
        self.own.compute(node)

    def _fit(self, goal: Goal) -> None:
        layers, first = goal.layers, goal.layers[0]
        weights = [self.own.tensor(layer.inputs[1]) for layer in layers]
        widths = [prod(weight.shape[1:]) for weight in weights]
        pixels = self._pixels(goal, sum(widths))
        value, patches = self._value(goal, pixels), []
        wanted = value + self._missing(goal, pixels)
        lacking = wanted.clone()
        for layer, weight in zip(layers, weights, strict=True):
            read = patches_at(layer, weight.shape, self.own.live[layer.inputs[0]], pixels)
            rows = weight.reshape(read.shape[1], -1, read.shape[2])
            lacking -= torch.einsum("mgd,gkd->mgk", read, rows).flatten(1)
            if len(layer.inputs) > 2:
                lacking -= self.own.tensor(layer.inputs[2])
            patches.append(read)
        read = torch.cat(patches, 2)
        change, shift = _fitted(read, lacking, len(pixels))
        for layer, weight, part in zip(layers, weights, change.split(widths, 1), strict=True):
            self.own.set(layer.inputs[1], weight + part.mT.reshape(weight.shape))
        if self._following[first.name]:
            lacking -= torch.einsum("mgd,gdk->mgk", read, change.float()).flatten(1)
            factor = _restoring(torch.minimum(value.var(0), wanted.var(0)), wanted - lacking)
            for name in first.inputs[1:]:
                numbers = self.own.tensor(name)
                self.own.set(name, numbers * factor.reshape(-1, *[1] * (numbers.ndim - 1)))
            self._shifts[first.name] = wanted.mean(0) - factor * (wanted - lacking).mean(0)
        else:
            self.own.set(first.inputs[2], self.own.tensor(first.inputs[2]) + shift.flatten())

    def _pixels(self, goal: Goal, width: int) -> Tensor:
        images = len(self.own.live[goal.layers[0].inputs[0]])
        generator = torch.Generator().manual_seed(0)
        wanted = min(MOST, max(LEAST, TIMES * width))
        return draw_pixels(goal.layers[0], images, wanted, generator)

    def _value(self, goal: Goal, pixels: Tensor) -> Tensor:
        """Return what the original has at these pixels, (M, K).

        With its mean where the BatchNorm that follows has it by now: moves, and fits before, have
        let it make up for what a layer's mean has lost.
        """
        first, channels = goal.layers[0], torch.as_tensor(goal.channels)
        value = values_at(first, self._taken(goal.value, first), pixels)[:, channels]
        following, before = self._following[first.name], self._before.get(goal.value)
        if following and before:
            known = torch.tensor(self._original.constants[before.inputs[3]].numbers)
            value += self.own.tensor(following.inputs[3]) - known[channels]
        return value

    def _missing(self, goal: Goal, pixels: Tensor) -> Tensor | float:
        """Return what a sum lacks that the layer's output goes into, in the layer's own measure."""
        if (addition := goal.addition) is None:
            return 0.0
        first, channels = goal.layers[0], torch.as_tensor(goal.channels)
        theirs = self._taken(addition.original, first)
        if addition.other not in self.own.live:
            return 0.0
        missing = values_at(first, theirs, pixels)[:, channels]
        missing -= values_at(first, self.own.live[addition.other], pixels)
        return missing * self._inverse_scale(addition.norm) if addition.norm else missing

    def _taken(self, value: str, layer: Node) -> Tensor:
        """Return a value of the original's, as large as what a layer gives."""
        found = self._theirs.take(value)
        return resized(found, layer.type.shape[2:]) if found.ndim == 4 else found

    def _inverse_scale(self, norm: Node) -> Tensor:
        assert isinstance(norm.op, ops.BatchNorm)
        weight, _, _, variance = map(self.own.tensor, norm.inputs[1:])
        scale = weight / (variance + norm.op.eps).sqrt()
        return torch.where(scale.abs() > SCALED * scale.abs().max(), 1 / scale, 0.0)

    def _estimate(self, norm: Node) -> None:
        """Estimate a BatchNorm's statistics anew, from the original's and what differs from it.

        After a layer that was fitted, scale and bias take up what that changes: the fit stays.
        """
        assert isinstance(norm.op, ops.BatchNorm)
        value, *names = norm.inputs
        scale, bias, mean, variance = map(self.own.tensor, names)
        new_variance, new_mean = _moments(self.own.live[value])
        if value in self._compared:
            source, constants = self._draft.source(value), self._original.constants
            before, kept = _moments(self._theirs.take(source)), self._draft.kept.get(value)
            known = (torch.tensor(constants[n].numbers) for n in self._before[source].inputs[3:])
            kept_mean, kept_variance, old_variance, old_mean = (
                each if kept is None else each[torch.as_tensor(kept)] for each in (*known, *before)
            )
            new_variance *= kept_variance / old_variance.clamp(min=1e-12)
            new_mean += kept_mean - old_mean
        if value in self._shifts:
            ratio = ((new_variance + norm.op.eps) / (variance + norm.op.eps)).sqrt()
            slope = scale / (variance + norm.op.eps).sqrt()
            bias = bias + slope * (self._shifts[value] + new_mean - mean)
            scale = scale * ratio
        for name, numbers in zip(names, (scale, bias, new_mean, new_variance), strict=True):
            self.own.set(name, numbers)


def _fitted(patches: Tensor, lacking: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """Return `least_squares.fitted` of patches, of which every fifth image's are held out."""
    pixels = len(patches) // images
    held = held_out(images, EVERY).repeat_interleave(pixels)
    if not held.any():
        held[-1:] = True
    parts = (Moments.of(patches[part], lacking[part]) for part in (~held, held))
    return fitted(*parts)


def _restoring(variance: Tensor, given: Tensor) -> Tensor:
    """Return how many times as much each channel is to vary, (K), to vary as the original does.

    Least squares give a channel that is predicted badly a mean and little else, and the next layers
    large weights to make up for it (Jordan et al., arXiv:2211.08403).

    Args:
        variance: The original's, (K); where a branch makes up for its shortcut and has to vary
            less, that of what it is fitted to.
        given: What a layer gives after its fit, (M, K).
    """
    ratio = variance / given.var(0).clamp(min=1e-12)
    return ratio.sqrt().clamp(1.0, RESTORED)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance and the mean of each channel over images and pixels.

    A line of pixels is added at once: channels alone, of which there may be 16, fill no vector
    unit, and torch.var_mean takes five times as long.
    """
    last = x.movedim(1, -1)
    lines = last.flatten(-2).flatten(0, -2) if x.ndim > 2 else x
    width = lines.shape[1] // x.shape[1]
    parts = lines.split(max(1, CACHED // lines.shape[1]))
    count = len(lines) * width

    def total(rows: list[Tensor]) -> Tensor:
        return torch.stack(rows).double().sum(0).unflatten(0, (width, -1)).sum(0)

    mean = (total([part.sum(0) for part in parts]) / count).float()
    about = mean.repeat(width)
    squares = total([(part - about).square_().sum(0) for part in parts])
    return (squares / count).float(), mean
