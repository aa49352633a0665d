"""Whatever names what is in photographs, in one form: a network, or a compiled library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depthwise.graph import Shape
from depthwise.runtime.labels import ONE, check_labels, find_scores
from depthwise.runtime.library import Library
from depthwise.runtime.manifest import PreparationRecord
from depthwise.sources.source import Source, TorchSource
from depthwise.weights import Preprocessing, imagenet_preprocessing
from depthwise.weights.classes import class_names, usual_names


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """From a photograph to the scores of classes.

    Attributes:
        name: What messages call it.
        classes: The classes' names, in the order of the scores.
        preprocessing: From a photograph to what `scores` takes.
        scores: From images, (N, 3, S, S) of float32, to their scores, (N, classes).
        notes: Sentences on what is assumed of it.
    """

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    scores: Callable[[np.ndarray], np.ndarray]
    notes: tuple[str, ...] = ()


def classifier_of_network(source: Source, name: str, labels: Sequence[str] = ()) -> ImageClassifier:
    """Return what a network says, of the images that its weights are for.

    Args:
        source: The network.
        name: What messages call it.
        labels: Its classes' names; left out, those that its weights record, else numbers.

    Raises ValueError where it is no classifier.
    """
    outputs = source.output_shapes
    side, index = _find_scores(name, source.shapes, outputs, len(labels) or None)
    how, notes = preparation_for(source, name, side)
    names = tuple(labels) or class_names(source.pretrained, outputs[index][1])

    def score(images: np.ndarray) -> np.ndarray:
        shape = images.shape
        taking = source if shape in source.shapes else source.at([shape])
        return taking.run([images])[index]

    trained = isinstance(source, TorchSource) and source.known is not None  # in batches
    return ImageClassifier(name, names, how, score if trained else _one_by_one(score), notes)


def preparation_for(source: Source, name: str, side: int) -> tuple[Preprocessing, tuple[str, ...]]:
    """Return what a network's weights record for images of `side` pixels, else what is usual.

    And a note on that.
    """
    known = source.pretrained
    return (known.preprocessing.for_side(side), ()) if known else _assumed(name, side)


def classifier_of_library(
    library: Library, directory: Path, labels: Sequence[str] = (), origin: str = ""
) -> ImageClassifier:
    """Return what a saved library says, of the images that its manifest says it is for.

    Args:
        library: The library.
        directory: Where it was saved.
        labels: Its classes' names; left out, those of its manifest, else numbers.
        origin: Where the labels come from.

    Raises ValueError where it is no classifier, or one of another number of classes.
    """
    network = library.manifest.network
    outputs = [output.shape for output in network.outputs]
    if labels:
        check_labels(labels, outputs, origin)
    names, preparation = tuple(labels) or network.labels, network.preparation
    index, how, notes = _recorded(directory, library, len(names) or None)
    if preparation:  # the library normalises images itself
        how = how.framing

    def score(image: np.ndarray) -> np.ndarray:
        given = _raw(image, preparation) if preparation else image
        return library.run([np.ascontiguousarray(given)])[index]

    names = names or usual_names(outputs[index][1])
    return ImageClassifier(str(directory), names, how, _one_by_one(score), notes)


def _one_by_one(score: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return what scores a batch of images, (N, 3, S, S), by what scores one."""
    return lambda images: np.concatenate([score(image[None]) for image in images])


def _raw(pixels: np.ndarray, preparation: PreparationRecord) -> np.ndarray:
    """Return (1, 3, H, W) of [0, 1] in the type and layout that a library takes."""
    if preparation.dtype == "uint8":
        pixels = (255 * pixels).round().astype("uint8")
    return pixels.transpose(0, 2, 3, 1) if preparation.layout == "nhwc" else pixels


def _recorded(
    directory: Path, library: Library, classes: int | None
) -> tuple[int, Preprocessing, tuple[str, ...]]:
    """Return which of a library's outputs has the scores, how it wants photographs, and notes."""
    network = library.manifest.network
    inputs, outputs = ([t.shape for t in side] for side in (network.inputs, network.outputs))
    last = network.preparation is not None and network.preparation.layout == "nhwc"
    shapes = [(n, c, h, w) for n, h, w, c in inputs] if last else inputs
    side, index = _find_scores(f"{directory} holds {network.name}", shapes, outputs, classes)
    if network.preprocessing is None:
        return index, *_assumed(str(directory), side)
    recorded = Preprocessing.model_validate(network.preprocessing)
    if recorded.crop == side:
        return index, recorded, ()
    scaled = recorded.for_side(side)
    note = (
        f"{directory} is compiled for {side} pixels, and its weights are for "
        f"{recorded.crop}: photographs are resized to {scaled.resize}, the middle {side}"
    )
    return index, scaled, (note,)


def _find_scores(
    what: str, inputs: Sequence[Shape], outputs: Sequence[Shape], classes: int | None
) -> tuple[int, int]:
    """Return the pixels of a side of what it takes, and which output has the scores.

    Raises ValueError where it is no classifier, or has several outputs that may be scores.
    """
    index = find_scores(outputs, classes)
    match list(inputs):
        case [(1, 3, side, width)] if (
            side == width and index is not None and outputs[index][0] == 1
        ):
            return side, index
    several = sum(len(shape) == 2 for shape in outputs) > 1
    raise ValueError(
        f"{what}, from {_join(inputs)} to {_join(outputs)}: to name what is in a photograph it "
        f"must be from (1, 3, SIDE, SIDE) to (1, CLASSES){f'; {ONE}' if several else ''}"
    )


def _join(shapes: Sequence[Shape]) -> str:
    return " and ".join(map(str, shapes)) or "nothing"


def _assumed(source: str, side: int) -> tuple[Preprocessing, tuple[str, ...]]:
    """Return ImageNet's usual preprocessing, and a note that `source` records none."""
    assumed = imagenet_preprocessing(side)
    note = (
        f"{source} does not record its preprocessing; ImageNet's usual is assumed: "
        f"{assumed.resize} pixels, the middle {assumed.crop}"
    )
    return assumed, (note,)
