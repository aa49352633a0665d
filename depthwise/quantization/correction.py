"""Layers that make up for what rounding did to them and to those before.

Both networks go through the same images, layer by layer: the one in real numbers, and the rounded
one, in which every layer reads what the rounded ones before it give. So each makes up for the
errors of all before it. A layer that ends in a sum with a residual makes up for the residual's.

`correct_bias` gives each channel its mean back (Nagel et al., arXiv:1906.04721, section 4.2),
`correct_scale` its variance as well: what BatchNorms would find if their statistics were estimated
anew. `fit_rounding` chooses integers by what the layer reads: weights by least squares (He et al.,
arXiv:1707.06168), then rounded one input after the other, of which the later ones make up for the
earlier (Frantar et al., arXiv:2210.17323). Of each layer what is best on held-out pixels is taken.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from depthwise.calibration.images import held_out
from depthwise.calibration.least_squares import Moments, fitted
from depthwise.calibration.patches import draw_pixels, patches_at, values_at
from depthwise.calibration.walk import Walk
from depthwise.graph import Node, ops
from depthwise.progress import track
from depthwise.quantization.insertion import Encoding
from depthwise.quantization.running import RoundedWalk, apply_layer
from depthwise.quantization.scheme import WEIGHT_LIMIT, LayerWeights, weight_scales

LEAST, MOST = 4096, 16384  # patches of a fit
TIMES = 3  # as many as numbers in a patch
WIDEST = 1280  # numbers in a patch: of more, the products take longer than they gain
EVERY = 4  # images, of which the last is held out
RIDGE = 1e-3  # of the patches' mean square, where rounding errors are made up for
SHRUNK = (1.0, 0.9)  # of the scale at which the largest weight is the last number
STILL = 1e-12  # variance of a channel that is always the same
STRETCH = (0.8, 1.25)  # times a channel's scale may become


@dataclass(frozen=True, eq=False)
class FittedLayer:
    """A layer on both ways through the images.

    Attributes:
        node: The layer.
        read: What it reads in the rounded network.
        wanted: What it should give, so that what it ends in is as in the original.
    """

    node: Node
    read: Tensor
    wanted: Tensor


LayerFit = Callable[[FittedLayer, LayerWeights, Encoding], LayerWeights]


def correct_bias(place: FittedLayer, weights: LayerWeights, encoding: Encoding) -> LayerWeights:
    """Return weights with a bias that gives each channel the mean it should have."""
    del encoding
    lacking = place.wanted - _given(place, weights)
    return replace(
        weights, bias=weights.bias + _channels(place.node, lacking).double().mean(1).numpy()
    )


def correct_scale(place: FittedLayer, weights: LayerWeights, encoding: Encoding) -> LayerWeights:
    """Return weights with scales and a bias that give each channel the best straight line."""
    del encoding
    own = _channels(place.node, _given(place, weights)).double()
    wanted = _channels(place.node, place.wanted).double()
    mean, goal = own.mean(1, keepdim=True), wanted.mean(1, keepdim=True)
    both = ((own - mean) * (wanted - goal)).mean(1)
    spread = (own - mean).square().mean(1)
    ratio = torch.where(spread > STILL, both / spread.clamp(min=STILL), 1.0).clamp(*STRETCH)
    bias = torch.from_numpy(weights.bias)
    new = (bias - mean[:, 0]) * ratio + goal[:, 0]
    scales = (weights.scales * ratio.numpy()).astype(np.float32)
    return LayerWeights(weights.integers, scales, new.numpy())


def fit_rounding(place: FittedLayer, weights: LayerWeights, encoding: Encoding) -> LayerWeights:
    """Return integers that give what a layer should give, by what it reads."""
    node = place.node
    real = encoding.graph.numbers(node.inputs[1])
    width = int(np.prod(real.shape[1:]))
    if width > WIDEST:
        return correct_scale(place, weights, encoding)
    images = len(place.read)
    pixels = draw_pixels(
        node, images, min(MOST, max(LEAST, TIMES * width)), torch.Generator().manual_seed(0)
    )
    patches = patches_at(node, real.shape, place.read, pixels)
    groups = patches.shape[1]
    rows = torch.from_numpy(real.copy()).reshape(groups, -1, width).double()
    bias = torch.from_numpy(_bias(encoding, node)).double()
    given = torch.einsum("mgd,gkd->mgk", patches, rows.float()).flatten(1) + bias.float()
    lacking = values_at(node, place.wanted, pixels) - given
    held = held_out(images, EVERY).repeat_interleave(pixels.shape[1])
    learned, kept = (Moments.of(patches[part], lacking[part]) for part in (~held, held))
    both, change = learned + kept, fitted(learned, kept)[0].mT
    root = _inverse_root(both)
    tried = [weights.integers.reshape(groups, -1, width) * _grouped(weights.scales, groups)]
    chosen = [(weights.integers, weights.scales)]
    for target in (rows, rows + change):
        for shrunk in SHRUNK:
            largest = target.abs().amax(2).flatten().numpy() * shrunk
            scales = weight_scales(largest)
            integers = _rounded(target, torch.from_numpy(scales).double(), root)
            chosen.append((integers.numpy().astype(np.int8).reshape(real.shape), scales))
            tried.append(integers.numpy() * _grouped(scales, groups))
    changes = [torch.from_numpy(np.asarray(each, np.float64)) - rows for each in tried]
    losses = torch.stack([_losses(kept, each.mT) for each in changes])
    return _best(losses, changes, chosen, both, bias)


def _best(
    losses: Tensor, changes: list[Tensor], chosen: list[tuple[np.ndarray, np.ndarray]],
    both: Moments, bias: Tensor,
) -> LayerWeights:  # fmt: skip
    """Return, of each channel, the integers with the least loss, and a bias that fits them."""
    best = losses.argmin(0).flatten().numpy()
    integers = np.stack([each for each, _ in chosen])[best, np.arange(len(best))]
    scales = np.stack([each for _, each in chosen])[best, np.arange(len(best))]
    shifts = torch.stack([both.e - torch.einsum("gd,gkd->gk", both.x, each) for each in changes])
    shift = shifts.flatten(1)[torch.from_numpy(best), torch.arange(len(best))]
    return LayerWeights(integers, scales, (bias + shift).numpy())


def _losses(moments: Moments, change: Tensor) -> Tensor:
    """Return the mean square that is lacking after a change, (groups, K / groups).

    A bias makes up for the means, so that they count for nothing.
    """
    gained = (change * (moments.xx @ change - 2 * moments.xe)).sum(1)
    return (moments.ee + gained) / moments.count


def _grouped(scales: np.ndarray, groups: int) -> np.ndarray:
    return scales.astype(np.float64).reshape(groups, -1, 1)


def _inverse_root(moments: Moments) -> Tensor:
    """Return the upper Cholesky factor of the inverse of what patches are correlated by."""
    xx = moments.xx / moments.count
    scale = xx.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-20)
    eye = torch.eye(xx.shape[1], dtype=torch.float64)
    factor = torch.linalg.cholesky(xx + RIDGE * scale[:, None, None] * eye)
    return torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)


def _rounded(target: Tensor, scales: Tensor, root: Tensor) -> Tensor:
    """Return integers (groups, K / groups, D): each input makes up for those rounded before it."""
    left, steps = target.clone(), scales.reshape(len(target), -1)
    integers = torch.zeros_like(left)
    width = left.shape[2]
    for place in range(width):
        whole = (left[:, :, place] / steps).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        integers[:, :, place] = whole
        error = (left[:, :, place] - whole * steps) / root[:, None, place, place]
        if place + 1 < width:
            left[:, :, place + 1 :] -= error[:, :, None] * root[:, None, place, place + 1 :]
    return integers


def _given(place: FittedLayer, weights: LayerWeights) -> Tensor:
    bias = torch.from_numpy(weights.bias).float()
    return apply_layer(place.node, place.read, torch.from_numpy(weights.real), bias)


def _channels(node: Node, y: Tensor) -> Tensor:
    """Return what a layer gives as (K, all pixels)."""
    return (y.movedim(1, 0) if isinstance(node.op, ops.Conv2d) else y.movedim(-1, 0)).flatten(1)


def _bias(encoding: Encoding, node: Node) -> np.ndarray:
    if len(node.inputs) > 2:
        return encoding.graph.numbers(node.inputs[2]).astype(np.float64)
    return np.zeros(node.type.shape[1 if isinstance(node.op, ops.Conv2d) else -1])


def nearest(encoding: Encoding) -> Encoding:
    """Return the encoding with the weights of every layer rounded to the nearest."""
    graph, found = encoding.graph, {}
    for name, node in encoding.placement.layers.items():
        weight = graph.numbers(node.inputs[1])
        found[name] = LayerWeights.rounded(weight, _bias(encoding, node))
    return replace(encoding, weights=found)


def fit_layers(encoding: Encoding, images: Tensor, fit: LayerFit) -> Encoding:
    """Return the encoding with the weights of each layer fitted, one after the other.

    Args:
        encoding: How the network is quantised; a layer's weights are where a fit begins.
        images: As many as memory holds at once.
        fit: What is done to a layer.
    """
    graph, place = encoding.graph, encoding.placement
    residuals = {name: _residual(encoding, node) for name, node in place.layers.items()}
    wanted = Counter([*place.layers, *(name for name in residuals.values() if name)])
    theirs = Walk(graph, images, wanted.elements())
    own = RoundedWalk(encoding, images, [name for name in residuals.values() if name])
    for node in track(list(graph), "fitting layers"):
        if node.name not in place.layers:
            own.compute(node)
            continue
        goal = theirs.take(node.name)
        other = residuals[node.name]
        if other:
            goal = goal + theirs.take(other) - own.take(other)
        at = FittedLayer(node, own.live[node.inputs[0]], goal)
        weights = fit(at, encoding.weights[node.name], encoding)
        encoding = encoding.with_weights(node.name, weights)
        own.give(node, _given(at, weights))
    return encoding


def _residual(encoding: Encoding, node: Node) -> str | None:
    """Return the value that a layer's sums are added to, None where there is none."""
    fused = encoding.placement.fused
    for reader in encoding.graph.readers()[node.name]:
        if node.name in fused and isinstance(reader.op, ops.Binary):
            (other,) = (name for name in reader.inputs if name != node.name)
            return other
    return None
