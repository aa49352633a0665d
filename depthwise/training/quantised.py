"""Training in eight bits: a network and its images to one that is rounded while it learns."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from depthwise.graph import Graph
from depthwise.quantization.insertion import Encoding
from depthwise.quantization.steps import QuantizationPlan, Road
from depthwise.quantization.trainable import draw_ranges, graph_to_train, to_trainable
from depthwise.sources.run_folder import ready_to_train
from depthwise.sources.source import torch_source
from depthwise.training.adapt import FittedNetwork
from depthwise.training.augment import Appearance
from depthwise.training.data.squares import Prepared
from depthwise.training.recipe import Recipe

CALIBRATED = 256  # images that ranges are drawn from
JUDGED = 64  # others, by which the way to draw them is chosen


def check_quantised(fitted: FittedNetwork, recipe: Recipe, is_random: bool) -> None:
    """Raise ValueError where a network and a recipe do not go together in eight bits."""
    if recipe.quantize and is_random:
        raise ValueError(
            f"quantize={recipe.quantize!r}: the weights of {fitted.network} are random, and ranges "
            "that are drawn from them mean nothing: train it first, and then run:DIRECTORY, or "
            "name weights"
        )
    if fitted.encoding and not recipe.quantize:
        raise ValueError(
            f"{fitted.network} is quantised, and is trained as it is computed: with quantize = "
            '"int8" (--quantize int8); or train the network that it was made of'
        )


def quantised(
    fitted: FittedNetwork, look: Appearance, images: Prepared, tell: Callable[[str], None]
) -> FittedNetwork:
    """Return a network as one that is computed in eight bits while it learns.

    Its ranges begin as its own, where it was quantised before, else as images show them.

    Args:
        fitted: The network with trained weights.
        look: How images look to it.
        images: Those that it is to learn from.
        tell: Is told how its ranges were drawn.

    Raises:
        ValueError: It has nothing to quantise, or its values are no numbers.
        Unsupported: It cannot be captured.
    """
    side = look.preprocessing.crop
    encoding = fitted.encoding
    if encoding is None:
        captured = torch_source(fitted.net.eval(), [(1, 3, side, side)]).graph
        graph = graph_to_train(captured)
        encoding = _drawn(graph, look, images, tell)
    else:
        graph = encoding.graph
    net = to_trainable(graph, encoding.kept)
    draw_ranges(graph, net, encoding)
    return replace(fitted, net=ready_to_train(net), graph=graph, encoding=encoding, is_module=False)


def _drawn(
    graph: Graph, look: Appearance, images: Prepared, tell: Callable[[str], None]
) -> Encoding:
    """Return how the values of a network are held, by what is best of all ways to draw ranges."""
    seen = _some(images, look, CALIBRATED + JUDGED)
    held = max(1, len(seen) * JUDGED // (CALIBRATED + JUDGED))
    plan = QuantizationPlan(steps=())
    return Road(graph, seen[held:], seen[:held], plan, tell).run().encoding


def _some(images: Prepared, look: Appearance, count: int) -> Tensor:
    """Return some images as they are judged, from all over the split, mixed."""
    total = len(images.labels)
    places = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
    return look.judged(images.squares.take(np.random.default_rng(0).permutation(places)))
