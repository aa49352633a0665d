"""`depthwise predict`: what is in a photograph."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from depthwise.cli.arguments import GivenShapes, parse_settings, parse_shapes
from depthwise.cli.labels import LabelFile, find_labels
from depthwise.cli.options import (
    NETWORK,
    NETWORK_HELP,
    WEIGHTS,
    AsJson,
    Settings,
    Shapes,
    Until,
    Weights,
)
from depthwise.cli.photographs import assume, preprocessing_of
from depthwise.cli.screen import name_left_out, say, say_taken, screen, waiting
from depthwise.escaping import in_line

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from depthwise.graph import Shape
    from depthwise.runtime.library import Library
    from depthwise.runtime.manifest import PreparationRecord
    from depthwise.sources.source import Source
    from depthwise.weights import Preprocessing
    from depthwise.weights.classes import Guess

Guesser = Callable[["Tensor"], "list[Guess]"]  # of a prepared photograph, the best first


def predict(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Images, and folders of them; without any, two that are bundled."),
    ] = None,
    network: Annotated[str, typer.Option(help=NETWORK_HELP)] = NETWORK,
    shape: Shapes = None,
    settings: Settings = None,
    weights: Weights = None,
    until: Until = None,
    labels: LabelFile = None,
    library: Annotated[
        Path | None, typer.Option(help="Run what `depthwise compile` saved there, in place of it.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Name what is in photographs, with probabilities."""
    if library and (network != NETWORK or weights or settings or shape or until):
        raise ValueError(
            f"{library} is a whole network: leave out --network, --weights, --set, --shape and "
            "--until"
        )
    with waiting(f"looking with {library or network}"):
        from depthwise.weights import PHOTOGRAPHS  # noqa: PLC0415

        found = _find_images(images) if images else [*PHOTOGRAPHS]
        folder = next((place for place in images or () if place.is_dir()), None)
        if library:
            prepare, guess = _library(library, labels)
        else:
            options, shapes = parse_settings(settings), parse_shapes(shape)
            source = _open(network, options, weights, shapes, until)
            say_taken(source)
            names = find_labels(labels, weights, folder, source)
            prepare, guess = _network(source, weights or network, names)
        guesses, broken = {}, []
        for photo, pixels in prepare.apply_each(found):
            if isinstance(pixels, ValueError):
                broken.append(str(pixels))
            else:
                guesses[str(photo)] = guess(pixels)[:top]
    name_left_out(broken, len(guesses))
    if as_json:
        print(json.dumps({photo: _as_rows(rows) for photo, rows in guesses.items()}, indent=2))
    else:
        _print_table(guesses)


def _find_images(places: list[Path]) -> list[Path]:
    """Return the images that are named, and those in the folders that are."""
    from depthwise.shipping.request import SUFFIXES, list_images  # noqa: PLC0415

    found: list[Path] = []
    for place in places:
        inside = list_images(place) if place.is_dir() else [place]
        if not inside:
            raise ValueError(f"{place}: no image in it, of {', '.join(SUFFIXES)}")
        found += inside
    return found


def _open(
    network: str, options: dict[str, str], weights: str | None, given: GivenShapes,
    until: str | None,
) -> "Source":  # fmt: skip
    """Return the network; ours come with their ImageNet weights."""
    from depthwise.sources.opening import open  # noqa: PLC0415
    from depthwise.sources.spec import is_untrained  # noqa: PLC0415

    if not weights and is_untrained(network, options, None) and ":" not in network:
        weights = WEIGHTS
    if is_untrained(network, options, weights):
        raise ValueError(f"{network} has random weights, which name nothing: give --weights")
    shapes, named = given
    return open(network, *shapes, kwargs=named, settings=options, weights=weights, until=until)


def _network(
    source: "Source", name: str, labels: tuple[str, ...]
) -> "tuple[Preprocessing, Guesser]":
    """Return what guesses with the network itself, and how photographs are prepared for it.

    Raises ValueError where the network is no classifier.
    """
    from depthwise.weights.classes import best_classes, class_names  # noqa: PLC0415

    classes = len(labels) or None
    side, index = _check_classifier(name, source.shapes, source.output_shapes, classes)
    pretrained = source.pretrained
    prepare = preprocessing_of(source, name, side)

    def guess(pixels: "Tensor") -> "list[Guess]":
        scores = source.run([pixels.numpy()])[index][0]
        return best_classes(scores, labels or class_names(pretrained, len(scores)))

    return prepare, guess


def _library(directory: Path, file: Path | None) -> "tuple[Preprocessing, Guesser]":
    """Return what guesses with a saved library, and how photographs are prepared for it.

    Raises ValueError where it is no classifier.
    """
    import numpy as np  # noqa: PLC0415

    from depthwise.runtime.labels import check_labels  # noqa: PLC0415
    from depthwise.runtime.library import load  # noqa: PLC0415
    from depthwise.weights.classes import best_classes, usual_names  # noqa: PLC0415
    from depthwise.weights.labels import read_label_file  # noqa: PLC0415

    library = load(directory)
    network = library.manifest.network
    labels, preparation = network.labels, network.preparation
    if file:
        labels = read_label_file(file)
        check_labels(labels, [output.shape for output in network.outputs], f"--labels {file}")
    preprocessing, index = _recorded(directory, library, len(labels) or None)
    if preparation:  # the library normalises images itself
        preprocessing = preprocessing.model_copy(update={"mean": (0,) * 3, "std": (1,) * 3})

    def guess(pixels: "Tensor") -> "list[Guess]":
        given = pixels.numpy()
        images = _raw(given, preparation) if preparation else given
        scores = library.run([np.ascontiguousarray(images)])[index][0]  # flat, whatever holds it
        return best_classes(scores, labels or usual_names(len(scores)))

    return preprocessing, guess


def _raw(pixels: "np.ndarray", preparation: "PreparationRecord") -> "np.ndarray":
    """Return (1, 3, H, W) of [0, 1] in the type and layout that a library takes."""
    if preparation.dtype == "uint8":
        pixels = (255 * pixels).round().astype("uint8")
    return pixels.transpose(0, 2, 3, 1) if preparation.layout == "nhwc" else pixels


def _recorded(
    directory: Path, library: "Library", classes: int | None
) -> "tuple[Preprocessing, int]":
    """Return how the manifest says to prepare photographs, for the library's size of images.

    And which of its outputs has the scores of classes.
    """
    from depthwise.weights import Preprocessing  # noqa: PLC0415

    network = library.manifest.network
    inputs, outputs = ([t.shape for t in side] for side in (network.inputs, network.outputs))
    last = network.preparation is not None and network.preparation.layout == "nhwc"
    shapes = [(n, c, h, w) for n, h, w, c in inputs] if last else inputs
    what = f"{directory} holds {network.name}"
    side, index = _check_classifier(what, shapes, outputs, classes)
    if network.preprocessing is None:
        return assume(str(directory), side), index
    recorded = Preprocessing.model_validate(network.preprocessing)
    if recorded.crop == side:
        return recorded, index
    scaled = recorded.for_side(side)
    say(
        f"{directory} is compiled for {side} pixels, and its weights are for "
        f"{recorded.crop}: photographs are resized to {scaled.resize}, the middle {side}"
    )
    return scaled, index


def _check_classifier(
    what: str, inputs: "Sequence[Shape]", outputs: "Sequence[Shape]", classes: int | None
) -> tuple[int, int]:
    """Return the pixels of a side of what it takes, and which output has the scores.

    Raises ValueError where it is no classifier, or has several outputs that may be scores.
    """
    from depthwise.runtime.labels import ONE, find_scores  # noqa: PLC0415

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


def _join(shapes: "Sequence[Shape]") -> str:
    return " and ".join(map(str, shapes)) or "nothing"


def _as_rows(best: "list[Guess]") -> list[dict]:
    return [{"class": name, "probability": probability} for name, probability in best]


def _print_table(guesses: "dict[str, list[Guess]]") -> None:
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415

    columns = (Column(""), Column("", kind="name"))
    for photo, best in guesses.items():
        screen().print(Text(in_line(Path(photo).name), style="italic"))
        screen().print(FittedTable(columns, [(_percent(share), name) for name, share in best]))


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "<0.1%"
