"""A network fitted to images: its classes, its resolution, its stem and its first weights."""

import copy
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from depthwise.families import find_network
from depthwise.graph import Graph, open_graph
from depthwise.graph.exporters.torch import to_module
from depthwise.quantization.insertion import Encoding
from depthwise.quantization.trainable import dequantized
from depthwise.sources.building import graph_named
from depthwise.sources.factory import USUAL
from depthwise.sources.heads import replace_head
from depthwise.sources.network_folder import GRAPH as NETWORK
from depthwise.sources.opening import check_memory, describe
from depthwise.sources.quantized_folder import read_quantized
from depthwise.sources.run_folder import (
    BEGUN,
    BEST,
    build_again,
    build_classifier,
    classifier_of_graph,
    learned_encoding,
    read_run,
    ready_to_train,
)
from depthwise.sources.slimmed_folder import read_slimmed
from depthwise.sources.source import network_name, torch_source
from depthwise.sources.spec import DESCRIBED, GRAPHS, Spec, parse_spec
from depthwise.training.data.squares import Prepared
from depthwise.training.defaults import SMALL
from depthwise.weights import (
    IMAGENET,
    Preprocessing,
    imagenet_preprocessing,
    load_weights,
)
from depthwise.weights.bundled import read_record
from depthwise.weights.read import split_key

MEASURED = 2000  # images that tell mean and deviation
FLATTEST = 0.01  # the least deviation that pixels are divided by
EVEN = 4  # what the pixels of the border are a multiple of


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A network as it is about to be trained.

    Attributes:
        net: The network, with the images' number of classes.
        network: What builds it again, as `dw.open` takes it; the class of a module that was given.
        settings: Its options, as the user gave them and as they were fitted to the images.
        preprocessing: What is done to an image that is judged.
        weights: What its first weights are called; empty where they are random.
        is_module: Whether it was given as a module.
        graph: What it is made of, where that is a graph.
        encoding: How its values are held in eight bits, where it was quantised.
    """

    net: nn.Module
    network: str
    settings: dict[str, Any]
    preprocessing: Preprocessing
    weights: str
    is_module: bool = False
    graph: Graph | None = None
    encoding: Encoding | None = None

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
    network: str | nn.Module, settings: dict[str, Any], weights: str | PathLike[str] | None,
    classes: int, images: int, resolution: int | None, seed: int,
) -> FittedNetwork:  # fmt: skip
    """Build a network for a set of images.

    Args:
        network: As `dw.open` takes it, or a module, of which a copy is taken.
        settings: Its options; those that are given are not fitted.
        weights: A checkpoint, "imagenet" for the bundled weights, "random"; None takes the bundled
            ones where there are any for these settings.
        classes: How many classes the images have.
        images: The pixels of the usual image's shorter side.
        resolution: The pixels that the network is to see; None fits them.
        seed: Of weights that are random.

    Raises:
        ValueError: A name, an option, a module or weights that cannot be used.
        Unsupported: A module that cannot be captured.
    """
    torch.manual_seed(seed)
    if isinstance(network, nn.Module):
        side = resolution or min(images, USUAL[-1])
        return _fit_module(network, settings, weights, classes, fit_appearance(None, side, images))
    spec = parse_spec(network)
    if (settings or weights) and spec.front_end in {"run", "quantized", *GRAPHS}:
        raise ValueError(f"{spec.text} is built and has its own weights: leave out others")
    if spec.front_end == "run":
        return _fit_run(spec, classes, resolution)
    if spec.front_end == "quantized":
        return _fit_quantized(spec, classes, resolution, images)
    if spec.front_end in GRAPHS:
        return _fit_graph(spec, classes, resolution, images)
    if spec.front_end == "ours" and weights is None and not settings and images > SMALL:
        weights = "imagenet" if spec.name in IMAGENET else None
    chosen = None if weights in (None, "random") else weights
    fitted = dict(settings)
    if spec.front_end == "ours":
        options = find_network(spec.name).options
        if images <= SMALL and "stem_stride" in options and not chosen:
            fitted.setdefault("stem_stride", 1)
    net = _build(spec, fitted, classes)
    how = None if chosen is None else _load(net, spec, chosen)
    side = resolution or (images if images <= SMALL else min(_usual_side(spec, settings), images))
    return FittedNetwork(net, network, fitted, fit_appearance(how, side, images), str(chosen or ""))


def copy_for(net: nn.Module, classes: int) -> nn.Module:
    """Return a copy of a module that a user gave, with so many classes, to be trained.

    Raises ValueError where it has no classifier.
    """
    net = copy.deepcopy(net)
    replace_head(net, classes)
    return ready_to_train(net)


def _fit_module(
    given: nn.Module, settings: dict[str, Any], weights: str | PathLike[str] | None, classes: int,
    how: Preprocessing,
) -> FittedNetwork:  # fmt: skip
    name = network_name(given)
    if settings:
        raise ValueError(f"{name} is built already: it takes no setting {next(iter(settings))!r}")
    if weights in ("imagenet", "random"):
        raise ValueError(
            f"{name} is a module: weights take the path of a checkpoint, not {weights}"
        )
    net = copy_for(given, classes)
    if weights:
        load_weights(net, weights, other_classes=True)
    graph = torch_source(net.eval(), [(1, 3, how.crop, how.crop)]).graph
    shapes = [graph.type(output.value).shape for output in graph.outputs]
    if shapes != [(1, classes)]:
        found = " and ".join(map(str, shapes))
        raise ValueError(
            f"{name} returns {found} for an image of {how.crop} pixels: training is for networks "
            f"that return the scores of classes, {(1, classes)}"
        )
    return FittedNetwork(net.train(), name, {}, how, str(weights or ""), is_module=True)


def _fit_run(spec: Spec, classes: int, resolution: int | None) -> FittedNetwork:
    """Return the network of a run with its best weights, to see other images as it saw its own."""
    record = read_run(Path(spec.name))
    if record.module:
        raise ValueError(
            f"{spec.text} was given as a module: give it again, with the weights of the run: "
            f"dw.train(net, data, weights={str(Path(spec.name) / BEST)!r})"
        )
    folder = Path(spec.name)
    if record.quantize:
        encoding = learned_encoding(folder, record)
        return _fit_encoding(spec, encoding, classes, resolution, record.preprocessing)
    net = build_again(record, folder, classes)
    load_weights(net, folder / BEST, other_classes=True)
    how = record.preprocessing
    how = _evenly(how.for_side(resolution)) if resolution else how
    graph = open_graph(folder / BEGUN) if parse_spec(record.network).front_end in GRAPHS else None
    settings = dict(record.settings)
    return FittedNetwork(net, record.network, settings, how, spec.text, graph=graph)


def _fit_graph(spec: Spec, classes: int, resolution: int | None, images: int) -> FittedNetwork:
    """Return the network of a slimmed directory or a file, with its weights, as a module."""
    graph = graph_named(spec)
    how = read_slimmed(Path(spec.name)).preprocessing if spec.front_end == "slimmed" else None
    usual = how.crop if how else next(iter(graph.inputs.values())).shape[-1]
    how = fit_appearance(how, resolution or usual, images)
    return FittedNetwork(
        classifier_of_graph(graph, classes), spec.text, {}, how, spec.text, graph=graph
    )


def _fit_quantized(spec: Spec, classes: int, resolution: int | None, images: int) -> FittedNetwork:
    """Return a quantised network in real numbers, to be trained in eight bits as it is."""
    folder = Path(spec.name)
    how, graph = read_quantized(folder).preprocessing, open_graph(folder / NETWORK)
    usual = fit_appearance(how, next(iter(graph.inputs.values())).shape[-1], images)
    return _fit_encoding(spec, dequantized(graph), classes, resolution, usual)


def _fit_encoding(
    spec: Spec, encoding: Encoding, classes: int, resolution: int | None, how: Preprocessing
) -> FittedNetwork:
    """Return a network that was quantised, whose classes and whose images stay what they are."""
    graph = encoding.graph
    shapes = [graph.type(output.value).shape for output in graph.outputs]
    if shapes != [(1, classes)]:
        found = " and ".join(map(str, shapes))
        raise ValueError(
            f"{spec.text} is quantised and returns {found}, which is not to be changed: these "
            f"images have {classes} classes; train the network that it was made of on them first"
        )
    if resolution not in (None, how.crop):
        raise ValueError(
            f"{spec.text} is quantised for {how.crop} pixels, not {resolution}: leave out the "
            "resolution, or train the network that it was made of"
        )
    net = ready_to_train(to_module(graph))
    return FittedNetwork(net, spec.text, {}, how, spec.text, graph=graph, encoding=encoding)


def _usual_side(spec: Spec, settings: dict[str, Any]) -> int:
    """Return the pixels along the images that a network is usually fed."""
    return describe(spec.text, settings=settings).shapes[0][-1]


def fit_appearance(how: Preprocessing | None, side: int, images: int) -> Preprocessing:
    """Return what is done to images, of which the network sees `side` pixels."""
    how = how.for_side(side) if how else imagenet_preprocessing(side)
    if images <= SMALL:
        how = how.model_copy(update={"resize": side})  # nothing to spare at the borders
    return _evenly(how)


def _evenly(how: Preprocessing) -> Preprocessing:
    """Return the same with a border that two roundings halve as one does.

    So the middle of the square that is kept of an image is the middle of the image, to the pixel,
    as `Preprocessing.apply` cuts it; and images are resized as those squares are.
    """
    border = EVEN * round((how.resize - how.crop) / EVEN)
    return how.model_copy(update={"resize": how.crop + border, "interpolation": "bilinear"})


def _build(spec: Spec, settings: dict[str, Any], classes: int) -> nn.Module:
    if settings and spec.front_end in DESCRIBED:
        check_memory(spec, settings)
    return build_classifier(spec.text, settings, classes)


def _load(net: nn.Module, spec: Spec, weights: str | PathLike[str]) -> Preprocessing | None:
    """Load a checkpoint; return how its weights, if they tell, want images."""
    if weights == "imagenet":
        if spec.name not in IMAGENET:
            bundled = ", ".join(IMAGENET)
            raise ValueError(f"{spec.text}: ImageNet weights are bundled of {bundled} alone")
        weights = IMAGENET[spec.name]
    net.loaded_weights = load_weights(net, weights, other_classes=True)  # type: ignore[assignment]
    record = read_record(split_key(weights)[0])
    return record.preprocessing if record else None
