"""What calibration images tell of every layer, from one pass forward and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from depthwise.calibration.images import as_tensor, batch_size, returning
from depthwise.calibration.patches import draw_pixels, patches_at, pixels_of, values_at
from depthwise.calibration.scores import scores_of
from depthwise.graph import Graph, Node, ops
from depthwise.graph.layers import is_layer
from depthwise.graph.rewrite import GraphRewriter
from depthwise.progress import report_progress
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.neighbour_sums import NeighbourSums
from depthwise.slimming.layers.neighbours import GHOST_KERNEL, find_tail
from depthwise.slimming.statistics import LayerStatistics, Statistics

LEAST = 16384  # patches of a layer, where the images have as many
TIMES = 4  # as many as numbers in a patch, or as output channels
WIDEST = 8192  # numbers in a patch: of more, a covariance takes gigabytes

Likelihood = Literal["scores", "values"]


def calibrate(
    draft: Draft,
    images: np.ndarray | Tensor,
    likelihood: Likelihood = "scores",
    seed: int = 0,
) -> Statistics:
    """Return the statistics of every convolution and linear layer on calibration images.

    Patches are taken at pixels that are drawn, the same ones for the same images and seed. A
    layer that reads more than WIDEST numbers (a classifier after flattened maps) is left out.

    Args:
        draft: The network.
        images: As the network takes them, (N, C, H, W); some hundred.
        likelihood: What the network's output means: scores, of which softmax makes the
            probabilities of classes; or values, of which each counts by the square of its
            difference, as a share of its variance over the images.
        seed: Of what is drawn.

    Raises:
        ValueError: The images do not fit; or the output is no vector of scores.
    """
    from depthwise.graph.exporters.torch import to_module  # noqa: PLC0415

    graph = draft.graph
    x = as_tensor(graph, images)
    edit = GraphRewriter(graph)
    layers = {
        node.name: _Sums.of(edit, node, len(x)) for node in graph if _is_measured(graph, node)
    }
    scores = scores_of(graph) if likelihood == "scores" else graph.outputs[0].value
    read = [name for each in layers.values() for name in (each.node.inputs[0], each.made)]
    values = dict.fromkeys([scores, *layers, *read])
    computed = [name for name in values if name not in graph.inputs]
    net = to_module(returning(graph, computed)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    batch = batch_size(graph)
    with report_progress("calibrating", len(x)) as advance:
        for part in x.split(batch):
            shown = part.clone().requires_grad_(True)
            known = dict(zip(computed, net(shown), strict=True))
            known |= dict.fromkeys(graph.inputs, shown)
            directions = _directions(known[scores].detach(), likelihood, generator)
            slopes = torch.autograd.grad(
                (known[scores] * directions).sum(),
                [known[name] for name in layers],
                materialize_grads=True,
            )
            for sums, slope in zip(layers.values(), slopes, strict=True):
                sums.add(known, slope, generator)
            advance(len(part))
    return {name: sums.statistics() for name, sums in layers.items()}


def _directions(scores: Tensor, likelihood: Likelihood, generator: torch.Generator) -> Tensor:
    """Return random directions whose mean outer product is the Fisher information of the scores.

    That of softmax is diag(p) - p · pᵀ, of which sqrt(p) · e - p · (sqrt(p)ᵀ · e) is a root for
    signs e that are drawn. A class that is drawn has the same mean, but of a network that is sure
    nearly all draws say nothing, and a few say all.
    """
    signs = torch.randint(2, scores.shape, generator=generator) * 2.0 - 1
    if likelihood == "values":
        return signs / scores.std(0, correction=0).clamp(min=1e-6)
    roots = scores.softmax(1).sqrt()
    return roots * (signs - roots * (roots * signs).sum(1, keepdim=True))


def _is_measured(graph: Graph, node: Node) -> bool:
    return is_layer(graph, node) and prod(graph.type(node.inputs[1]).shape[1:]) <= WIDEST


@dataclass
class _Sums:
    """Sums over patches and gradients of one layer, of which the first mean is taken off."""

    node: Node
    kernel: tuple[int, ...]
    each: int  # patches of an image, about
    patches: Tensor  # (groups, D)
    products: Tensor  # (groups, D, D)
    slopes: Tensor  # (K, K)
    made: str  # of its outputs, by what alone reads them
    near: NeighbourSums | None  # of a convolution that may become a Ghost module
    about: Tensor | None = None  # what is taken off: float32 has no digits for it
    count: int = 0

    @classmethod
    def of(cls, edit: GraphRewriter, node: Node, images: int) -> "_Sums":
        kernel = edit.type(node.inputs[1]).shape
        groups = node.op.groups if isinstance(node.op, ops.Conv2d) else 1
        width = prod(kernel[1:])
        wanted = max(LEAST, TIMES * width, TIMES * kernel[0])
        plain = isinstance(node.op, ops.Conv2d) and groups == 1
        near = plain and kernel[0] % 16 == 0 and kernel[0] * GHOST_KERNEL**2 <= WIDEST
        return cls(
            node, kernel, ceil(wanted / images), torch.zeros(groups, width),
            torch.zeros(groups, width, width), torch.zeros(kernel[0], kernel[0]),
            find_tail(edit, node).last(node).name,
            NeighbourSums(node, GHOST_KERNEL) if near else None,
        )  # fmt: skip

    def add(self, known: Mapping[str, Tensor], slope: Tensor, generator: torch.Generator) -> None:
        x = known[self.node.inputs[0]].detach()
        pixels = draw_pixels(self.node, len(x), self.each * len(x), generator)
        patches = patches_at(self.node, self.kernel, x, pixels)
        if self.about is None:
            self.about = patches.mean(0)
        patches = (patches - self.about).transpose(0, 1)
        slopes = values_at(self.node, slope, pixels)
        self.patches += patches.sum(1)
        self.products.baddbmm_(patches.mT, patches)
        self.slopes.addmm_(slopes.T, slopes)
        self.count += len(slopes)
        if self.near:
            outputs, made = (known[name].detach() for name in (self.node.name, self.made))
            self.near.add(outputs, made, pixels)

    def statistics(self) -> LayerStatistics:
        assert self.about is not None
        mean = self.patches / self.count
        covariance = self.products / self.count - mean[:, :, None] * mean[:, None, :]
        return LayerStatistics(
            mean=(mean + self.about).numpy(),
            covariance=covariance.numpy(),
            gradient=(self.slopes / self.count).numpy(),
            pixels=pixels_of(self.node),
            neighbours=self.near.result() if self.near else None,
        )
