"""A network fitted to images: its classes, its resolution, its stem and its first weights."""

from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import nn

from depthwise.families import find_network
from depthwise.sources.opening import describe, open
from depthwise.sources.source import TorchSource
from depthwise.sources.spec import Spec, parse_spec
from depthwise.training.data.squares import Prepared
from depthwise.weights import (
    IMAGENET,
    Preprocessing,
    imagenet_preprocessing,
    load_weights,
)
from depthwise.weights.bundled import read_record
from depthwise.weights.read import split_key

SMALL = 64  # pixels: up to here, images are seen whole and a stem of stride 2 would lose too much
MEASURED = 2000  # images that tell mean and deviation
FLATTEST = 0.01  # the least deviation that pixels are divided by
MOMENTUM = 0.1  # of BatchNorms, at least: 0.01, as MobileNetV3's paper has it, takes 500 steps
NEW_HEAD = 0.01  # the deviation of a new classifier's weights


@dataclass(frozen=True)
class Blueprint:
    """What builds a network again, to load a run's weights into.

    Attributes:
        spec: What the user calls it, as `dw.open` takes it.
        settings: Its options, as the user gave them and as they were fitted to the images.
    """

    spec: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A network as it is about to be trained.

    Attributes:
        net: The network, with the images' number of classes.
        record: What builds it again.
        preprocessing: What is done to an image that is judged.
        weights: What its first weights are called; empty where they are random.
    """

    net: nn.Module
    record: Blueprint
    preprocessing: Preprocessing
    weights: str

    def measured(self, data: Prepared) -> "FittedNetwork":
        """Return the same with the images' own mean and deviation, where weights know no other."""
        if self.weights:
            return self
        places = np.linspace(0, len(data.labels) - 1, min(MEASURED, len(data.labels))).astype(int)
        pixels = data.squares.take(places).double() / 255
        mean, std = (
            tuple(round(float(each), 3) for each in found)
            for found in (pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp(min=FLATTEST))
        )
        how = self.preprocessing.model_copy(update={"mean": mean, "std": std})
        return replace(self, preprocessing=how)


def fit_network(
    network: str, settings: dict[str, Any], weights: str | PathLike[str] | None, classes: int,
    images: int, resolution: int | None, seed: int,
) -> FittedNetwork:  # fmt: skip
    """Build a network for a set of images.

    Args:
        network: As `dw.open` takes it.
        settings: Its options; those that are given are not fitted.
        weights: A checkpoint, "imagenet" for the bundled weights, "random"; None takes the bundled
            ones where there are any for these settings.
        classes: How many classes the images have.
        images: The pixels of the usual image's shorter side.
        resolution: The pixels that the network is to see; None fits them.
        seed: Of weights that are random.

    Raises:
        ValueError: A name, an option or weights that cannot be used.
    """
    torch.manual_seed(seed)
    spec = parse_spec(network)
    if spec.front_end == "ours" and weights is None and not settings and images > SMALL:
        weights = "imagenet" if spec.name in IMAGENET else None
    chosen = None if weights in (None, "random") else weights
    fitted = dict(settings)
    if spec.front_end == "ours":
        options = find_network(spec.name).options
        if images <= SMALL and "stem_stride" in options and not chosen:
            fitted.setdefault("stem_stride", 1)
    net, how = _build(spec, fitted, chosen, classes)
    side = resolution or (images if images <= SMALL else min(_usual_side(spec, settings), images))
    how = how.for_side(side) if how else imagenet_preprocessing(side)
    if images <= SMALL:
        how = how.model_copy(update={"resize": side})  # nothing to spare at the borders
    return FittedNetwork(net, Blueprint(network, fitted), how, str(chosen or ""))


def _usual_side(spec: Spec, settings: dict[str, Any]) -> int:
    """Return the pixels along the images that a network is usually fed."""
    return describe(spec.text, settings=settings).shapes[0][-1]


def build_again(record: Blueprint, classes: int) -> nn.Module:
    """Return the network that a run trained, with other weights."""
    return _build(parse_spec(record.spec), dict(record.settings), None, classes)[0]


def _build(
    spec: Spec, settings: dict[str, Any], weights: str | PathLike[str] | None, classes: int
) -> tuple[nn.Module, Preprocessing | None]:
    """Return a network for so many classes, and how its weights, if they tell, want images."""
    if spec.front_end in ("ours", "timm", "torchvision"):
        settings.setdefault("num_classes", classes)
    net = _open(spec, settings)
    replace_head(net, classes)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.momentum is not None:
            module.momentum = max(module.momentum, MOMENTUM)
    if weights is None:
        return net.train(), None
    if weights == "imagenet":
        if spec.name not in IMAGENET:
            bundled = ", ".join(IMAGENET)
            raise ValueError(f"{spec.text}: ImageNet weights are bundled of {bundled} alone")
        weights = IMAGENET[spec.name]
    net.loaded_weights = load_weights(net, weights, other_classes=True)  # type: ignore[assignment]
    record = read_record(split_key(weights)[0])
    return net.train(), record.preprocessing if record else None


def _open(spec: Spec, settings: dict[str, Any]) -> nn.Module:
    source = open(spec.text, settings=settings)
    if not isinstance(source, TorchSource) or source.exported is None:
        raise ValueError(
            f"{spec.text} is a program, whose weights cannot be trained: give the module that it "
            "was exported from, as package.module:factory"
        )
    return source.exported


def replace_head(net: nn.Module, classes: int) -> None:
    """Give a network another classifier where its own has another number of classes.

    Raises ValueError where its last layer with weights is none.
    """
    name, head = find_head(net)
    width = head.out_features if isinstance(head, nn.Linear) else head.out_channels
    if width == classes:
        return
    if isinstance(head, nn.Linear):
        new: nn.Module = nn.Linear(head.in_features, classes, bias=head.bias is not None)
    else:
        new = nn.Conv2d(head.in_channels, classes, 1, bias=head.bias is not None)
    nn.init.trunc_normal_(new.weight, std=NEW_HEAD)  # type: ignore
    if new.bias is not None:
        nn.init.zeros_(new.bias)  # type: ignore
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, new)


def find_head(net: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return a network's classifier and its name: its last linear layer, or 1x1 convolution.

    Raises ValueError where it has neither.
    """
    layers = [(name, each) for name, each in net.named_modules() if isinstance(each, nn.Linear)]
    layers = layers or [
        (name, each)
        for name, each in net.named_modules()
        if isinstance(each, nn.Conv2d) and each.kernel_size == (1, 1)
    ]
    if not layers:
        raise ValueError(
            f"{type(net).__name__} has no linear layer and no 1x1 convolution that could be its "
            "classifier: training is for networks that end in the scores of classes"
        )
    return layers[-1]
