"""What rounding does to a network: its results on held-out images, and each layer's error."""

from dataclasses import dataclass, replace
from math import log10

import torch
from torch import Tensor

from depthwise.calibration.divergence import check_numbers, divergence
from depthwise.calibration.walk import Walk
from depthwise.graph import Graph
from depthwise.quantization.insertion import Encoding
from depthwise.quantization.running import RoundedWalk, Runner, apply_layer, rounded

LEVELLED = 16  # images that layers are looked at on
MOST_DECIBELS = 120.0  # what no error comes to


@dataclass(frozen=True)
class QuantizationError:
    """How far a quantised network is from the one in real numbers.

    Attributes:
        nats: The divergence of its results, as `divergence` has it.
        agreement: The share of images in which the highest score is the same one; None where it
            gives no scores of classes.
        decibels: The signal-to-quantisation-noise ratio of its results.
    """

    nats: float
    agreement: float | None
    decibels: float

    def agrees(self, goal: float) -> bool:
        """Tell whether the class is the same in as large a share of the images."""
        return self.agreement is not None and self.agreement >= goal


@dataclass(frozen=True)
class LayerNoise:
    """What rounding does to one layer.

    Attributes:
        layer: The layer's node.
        path: Its module.
        own: Decibels of its result where it alone is rounded, and what it reads.
        all: The same where all before it are rounded as well.
    """

    layer: str
    path: str
    own: float
    all: float


class HeldOut:
    """Held-out images, and what the network in real numbers says of them."""

    def __init__(self, graph: Graph, images: Tensor, scores: bool):
        """Run the network. Raises ValueError where its results are no numbers."""
        self._images, self._scores, self._runner = images, scores, Runner(images)
        self.original = self._runner.original(graph)
        check_numbers(self.original)

    def __call__(self, encoding: Encoding) -> QuantizationError:
        """Return how far a quantised network is from it."""
        return self.compare(self._runner(encoding))

    def compare(self, found: Tensor) -> QuantizationError:
        """Return how far results are from its own, for the first of the images."""
        original = self.original[: len(found)]
        agreement = None
        if self._scores:
            same = found.flatten(1).argmax(1) == original.flatten(1).argmax(1)
            agreement = float(same.double().mean())
        nats = divergence(found, self.original, self._scores)
        return QuantizationError(nats, agreement, decibels(original, found))

    def layers(self, encoding: Encoding) -> tuple[LayerNoise, ...]:
        """Return what rounding does to each layer, on some of the images."""
        images, place = self._images[:LEVELLED], encoding.placement
        names = list(place.layers)
        theirs = Walk(
            encoding.graph, images, [*names, *(n.inputs[0] for n in place.layers.values())]
        )
        unkept = [node.name for node in encoding.graph if node.name in place.layers]
        own = RoundedWalk(encoding, images, unkept)
        found = []
        for name in unkept:
            node, known = place.layers[name], encoding.weights[name]
            read, wanted = theirs.take(node.inputs[0]), theirs.take(name)
            weight, bias = torch.from_numpy(known.real), torch.from_numpy(known.bias).float()
            alone = apply_layer(node, rounded(read, encoding.values[node.inputs[0]]), weight, bias)
            together = own.take(name)
            found.append(
                LayerNoise(name, node.path, decibels(wanted, alone), decibels(wanted, together))
            )
        return tuple(found)


def decibels(original: Tensor, found: Tensor) -> float:
    """Return the ratio of a signal to what was added to it, in decibels."""
    signal = float(original.double().square().sum())
    noise = float((found.double() - original.double()).square().sum())
    if not noise or not signal:
        return MOST_DECIBELS if not noise else 0.0
    return min(MOST_DECIBELS, 10 * log10(signal / noise))


def keep_layers(encoding: Encoding, names: frozenset[str]) -> Encoding:
    """Return the encoding with layers computed in float32."""
    return replace(encoding, kept=encoding.kept | names)
