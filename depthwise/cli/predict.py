"""`depthwise predict`: what is in a photograph."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthwise.cli.screen import screen
from depthwise.cli.source import SET_HELP, parse_settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from depthwise.weights import Preprocessing

Guess = tuple[str, float]  # class, probability


def predict(
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Images; without any, two that are bundled.")
    ] = None,
    network: Annotated[str, typer.Option(help="A name of `depthwise networks`.")] = "mobilenet_v2",
    weights: Annotated[
        str, typer.Option(help="imagenet (bundled), or the path of a checkpoint.")
    ] = "imagenet",
    settings: Annotated[list[str] | None, typer.Option("--set", help=SET_HELP)] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Name what is in photographs, with probabilities."""
    import torch  # noqa: PLC0415

    from depthwise.weights import PHOTOGRAPHS, build  # noqa: PLC0415

    net = build(network, weights=weights, **parse_settings(settings or [])).eval()
    preprocessing = _preprocessing(network, weights, net)
    guesses = {}
    for photo in photos or PHOTOGRAPHS:
        with torch.inference_mode():
            probabilities = net(preprocessing.apply(photo)).softmax(1)[0]
        guesses[str(photo)] = _best(probabilities, _class_names(net, len(probabilities)), top)
    if as_json:
        print(json.dumps({photo: _as_rows(best) for photo, best in guesses.items()}, indent=2))
    else:
        _print_table(guesses)


def _preprocessing(network: str, weights: str, net: "nn.Module") -> "Preprocessing":
    from depthwise.families import find_network  # noqa: PLC0415
    from depthwise.weights import imagenet_preprocessing  # noqa: PLC0415

    if net.pretrained is not None:
        return net.pretrained.preprocessing  # type: ignore[union-attr, return-value]
    assumed = imagenet_preprocessing(find_network(network).resolution)
    print(
        f"depthwise: {weights} does not record its preprocessing; ImageNet's usual is assumed: "
        f"{assumed.resize} pixels, the middle {assumed.crop}",
        file=sys.stderr,
    )
    return assumed


def _class_names(net: "nn.Module", classes: int) -> tuple[str, ...]:
    from depthwise.weights import read_labels  # noqa: PLC0415

    if net.pretrained is not None:
        return net.pretrained.class_names  # type: ignore[union-attr, return-value]
    if classes == 1000:
        return read_labels("imagenet_labels.txt")
    return tuple(f"class {index}" for index in range(classes))


def _best(probabilities: "Tensor", names: tuple[str, ...], top: int) -> list[Guess]:
    best = probabilities.topk(min(top, len(names)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(names[index], probability) for index, probability in pairs]


def _as_rows(best: list[Guess]) -> list[dict]:
    return [{"class": name, "probability": probability} for name, probability in best]


def _print_table(guesses: dict[str, list[Guess]]) -> None:
    from rich.table import Table  # noqa: PLC0415

    for photo, best in guesses.items():
        table = Table(box=None, title=Path(photo).name, title_justify="left", show_header=False)
        table.add_column(justify="right")
        for name, probability in best:
            table.add_row(f"{probability:.1%}", name)
        screen().print(table)
