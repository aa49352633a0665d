"""`depthwise predict`: what is in a photograph."""

import json
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
from depthwise.cli.screen import name_left_out, say, say_taken, screen, waiting
from depthwise.escaping import in_line

if TYPE_CHECKING:
    from depthwise.sources.source import Source
    from depthwise.training.classifier import ImageClassifier
    from depthwise.weights.classes import Guess


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
    run: Annotated[
        Path | None,
        typer.Option(help="The network that a training left there; short for run:DIRECTORY."),
    ] = None,
    library: Annotated[
        Path | None, typer.Option(help="Run what `depthwise compile` saved there, in place of it.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Name what is in photographs, with probabilities."""
    if run:
        from depthwise.sources.spec import RUN, run_directory  # noqa: PLC0415

        if network != NETWORK or library:
            raise ValueError(f"--run {run} is a network: leave out --network and --library")
        network = f"{RUN}{run_directory(str(run))}"
    if library and (network != NETWORK or weights or settings or shape or until):
        raise ValueError(
            f"{library} is a whole network: leave out --network, --weights, --set, --shape and "
            "--until"
        )
    with waiting(f"looking with {library or network}"):
        from depthwise.training.classifier import classifier_of_network  # noqa: PLC0415
        from depthwise.weights import PHOTOGRAPHS  # noqa: PLC0415
        from depthwise.weights.classes import best_classes  # noqa: PLC0415

        found = _find_images(images) if images else [*PHOTOGRAPHS]
        folder = next((place for place in images or () if place.is_dir()), None)
        if library:
            found_by = _library(library, labels)
        else:
            options, shapes = parse_settings(settings), parse_shapes(shape)
            source = _open(network, options, weights, shapes, until)
            say_taken(source)
            names = find_labels(labels, weights, folder, source)
            found_by = classifier_of_network(source, weights or network, names)
        for note in found_by.notes:
            say(note)
        guesses, broken = {}, []
        for photo, pixels in found_by.preprocessing.apply_each(found):
            if isinstance(pixels, ValueError):
                broken.append(str(pixels))
            else:
                scores = found_by.scores(pixels.numpy())[0]
                guesses[str(photo)] = best_classes(scores, found_by.classes)[:top]
    name_left_out(broken, len(guesses))
    if as_json:
        print(json.dumps({photo: _as_rows(rows) for photo, rows in guesses.items()}, indent=2))
    else:
        _print_table(guesses)


def _find_images(places: list[Path]) -> list[Path]:
    """Return the images that are named, and those in the folders that are."""
    from depthwise.shipping.request import list_images  # noqa: PLC0415
    from depthwise.training.data.decode import IMAGE_SUFFIXES  # noqa: PLC0415

    found: list[Path] = []
    for place in places:
        inside = list_images(place) if place.is_dir() else [place]
        if not inside:
            raise ValueError(f"{place}: no image in it, of {', '.join(IMAGE_SUFFIXES)}")
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


def _library(directory: Path, file: Path | None) -> "ImageClassifier":
    """Return what a saved library says; a file of labels takes precedence over its own."""
    from depthwise.runtime.library import load  # noqa: PLC0415
    from depthwise.training.classifier import classifier_of_library  # noqa: PLC0415
    from depthwise.weights.labels import read_label_file  # noqa: PLC0415

    labels = read_label_file(file) if file else ()
    return classifier_of_library(load(directory), directory, labels, f"--labels {file}")


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
