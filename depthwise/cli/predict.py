"""`depthwise predict`: what is in a photograph."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from depthwise.cli.options import NETWORK, WEIGHTS, AsJson, Settings
from depthwise.cli.screen import screen, waiting
from depthwise.cli.source import parse_settings

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from depthwise.compiler.library import Library
    from depthwise.compiler.manifest import PreparationRecord
    from depthwise.weights import Preprocessing
    from depthwise.weights.classes import Guess

Guesser = Callable[[Path], "list[Guess]"]  # of a photograph, the best first


def predict(
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Images; without any, two that are bundled.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="A name of `depthwise networks`.", show_default=NETWORK)
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="imagenet (bundled), or the path of a checkpoint.", show_default=WEIGHTS),
    ] = None,
    settings: Settings = None,
    library: Annotated[
        Path | None, typer.Option(help="Run what `depthwise compile` saved there, in place of it.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Name what is in photographs, with probabilities."""
    if library and (network or weights or settings):
        raise ValueError(f"{library} is a whole network: leave out --network, --weights and --set")
    with waiting(f"looking with {library or network or NETWORK}"):
        from depthwise.weights import PHOTOGRAPHS  # noqa: PLC0415

        if library:
            guess = _library(library)
        else:
            guess = _network(network or NETWORK, weights or WEIGHTS, parse_settings(settings))
        guesses = {str(photo): guess(photo)[:top] for photo in photos or PHOTOGRAPHS}
    if as_json:
        print(json.dumps({photo: _as_rows(best) for photo, best in guesses.items()}, indent=2))
    else:
        _print_table(guesses)


def _network(network: str, weights: str, options: dict[str, str]) -> Guesser:
    """Return what guesses with PyTorch."""
    import torch  # noqa: PLC0415

    from depthwise.weights import build, find_pretrained  # noqa: PLC0415
    from depthwise.weights.classes import best_classes, class_names  # noqa: PLC0415

    net = build(network, weights=weights, **options).eval()
    preprocessing = _preprocessing(network, weights, net)

    def guess(photo: Path) -> "list[Guess]":
        with torch.inference_mode():
            scores = net(preprocessing.apply(photo))[0].numpy()
        return best_classes(scores, class_names(find_pretrained(net), len(scores)))

    return guess


def _library(directory: Path) -> Guesser:
    """Return what guesses with a saved library. Raises ValueError where it is no classifier."""
    from depthwise.compiler.library import load  # noqa: PLC0415
    from depthwise.weights.classes import best_classes, usual_names  # noqa: PLC0415

    library = load(directory)
    preprocessing = _recorded(directory, library)
    labels, preparation = library.manifest.network.labels, library.manifest.network.preparation
    if preparation:  # the library normalises images itself
        preprocessing = preprocessing.model_copy(update={"mean": (0,) * 3, "std": (1,) * 3})

    def guess(photo: Path) -> "list[Guess]":
        pixels = preprocessing.apply(photo).numpy()
        scores = library(_raw(pixels, preparation) if preparation else pixels)[0]
        return best_classes(scores, labels or usual_names(len(scores)))

    return guess


def _raw(pixels: "np.ndarray", preparation: "PreparationRecord") -> "np.ndarray":
    """Return (1, 3, H, W) of [0, 1] in the type and layout that a library takes."""
    if preparation.dtype == "uint8":
        pixels = (255 * pixels).round().astype("uint8")
    return pixels.transpose(0, 2, 3, 1) if preparation.layout == "nhwc" else pixels


def _recorded(directory: Path, library: "Library") -> "Preprocessing":
    """Return how the library's manifest says to prepare photographs, for its size of images."""
    from depthwise.weights import Preprocessing  # noqa: PLC0415

    network = library.manifest.network
    inputs, outputs = ([t.shape for t in side] for side in (network.inputs, network.outputs))
    last = network.preparation is not None and network.preparation.layout == "nhwc"
    match [(n, c, h, w) for n, h, w, c in inputs] if last else inputs, outputs:
        case [(1, 3, height, width)], [(1, _)] if height == width:
            side = height
        case _:
            raise ValueError(
                f"{directory} holds {network.name}, from {_join(inputs)} to {_join(outputs)}: to "
                "name what is in a photograph it must be from (1, 3, SIDE, SIDE) to (1, CLASSES)"
            )
    if network.preprocessing is None:
        return _assume(str(directory), side)
    recorded = Preprocessing.model_validate(network.preprocessing)
    if recorded.crop == side:
        return recorded
    scaled = recorded.for_side(side)
    print(
        f"depthwise: {directory} is compiled for {side} pixels, and its weights are for "
        f"{recorded.crop}: photographs are resized to {scaled.resize}, the middle {side}",
        file=sys.stderr,
    )
    return scaled


def _join(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))


def _preprocessing(network: str, weights: str, net: "nn.Module") -> "Preprocessing":
    from depthwise.families import find_network  # noqa: PLC0415
    from depthwise.weights import find_pretrained  # noqa: PLC0415

    if recorded := find_pretrained(net):
        return recorded.preprocessing
    return _assume(weights, find_network(network).resolution)


def _assume(source: str, side: int) -> "Preprocessing":
    """Return ImageNet's usual preprocessing, and say that `source` records none."""
    from depthwise.weights import imagenet_preprocessing  # noqa: PLC0415

    assumed = imagenet_preprocessing(side)
    print(
        f"depthwise: {source} does not record its preprocessing; ImageNet's usual is assumed: "
        f"{assumed.resize} pixels, the middle {assumed.crop}",
        file=sys.stderr,
    )
    return assumed


def _as_rows(best: "list[Guess]") -> list[dict]:
    return [{"class": name, "probability": probability} for name, probability in best]


def _print_table(guesses: "dict[str, list[Guess]]") -> None:
    from depthwise.accounting.fitted import Column, FittedTable  # noqa: PLC0415

    columns = (Column(""), Column("", kind="name"))
    for photo, best in guesses.items():
        screen().print(Text(Path(photo).name, style="italic"))
        screen().print(FittedTable(columns, [(_percent(share), name) for name, share in best]))


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "<0.1%"
