"""`depthwise look`: the feature maps of a photograph, and which a cheap operation could make."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from depthwise.cli.arguments import GivenShapes, parse_settings, parse_shapes
from depthwise.cli.files import check_place, writing_file
from depthwise.cli.options import WEIGHTS, AsJson, NetworkName, Settings, Shapes, Until, Weights
from depthwise.cli.photographs import preprocessing_of
from depthwise.cli.screen import Display, say, say_taken, screen, waiting
from depthwise.escaping import counted, in_file_name, in_line

if TYPE_CHECKING:
    import numpy as np

    from depthwise.analysis.feature_maps import MapLayer
    from depthwise.analysis.ghosts import Ghosts
    from depthwise.sources.source import Source

    Found = dict[MapLayer, Ghosts]

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, for networks that take one channel


def look(
    network: NetworkName,
    image: Annotated[Path, typer.Argument(help="The photograph that the network sees.")],
    layer: Annotated[
        str | None,
        typer.Option(
            help="The layer to draw, and the only one to look at: a convolution (its maps after "
            "normalisation and activation), another module, or a value. Else all convolutions are "
            "looked at, and the first is drawn."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            help="What may be left of a ghost, in parts of its deviation; 0.3.",
        ),
    ] = None,
    shape: Shapes = None,
    settings: Settings = None,
    weights: Weights = None,
    until: Until = None,
    dark: Annotated[bool, typer.Option("--dark", help="Draw for a dark page.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="The .png or .svg to write; NETWORK_LAYER.png if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a layer's feature maps, and find those that a cheap operation makes of others."""
    if out:
        _check_path(out)
    given, options = parse_shapes(shape), parse_settings(settings)
    with waiting(f"looking at {image.name} with {network}") as display:
        from depthwise.analysis.feature_maps import feature_maps  # noqa: PLC0415
        from depthwise.analysis.ghosts import TOLERANCE  # noqa: PLC0415
        from depthwise.report.ghost_picture import ghost_picture  # noqa: PLC0415

        source, is_random = _open(network, options, weights, given, until)
        pixels = _prepare(source, network, image)
        layers, left_out = _choose_layers(source, network, layer)
        maps = feature_maps(source.traced, layers, [pixels])
        found = _look(layers, maps, tolerance or TOLERANCE, display)
        path = out or Path(f"{in_file_name(f'{Path(network).name}_{layers[0].name}', '_')}.png")
        title = f"{layers[0].name} of {Path(network).name}, seeing {image.name}"
        if is_random:
            title += ", with random weights"
        with writing_file("--out", path) as new:
            ghost_picture(maps[0], found[layers[0]], title, new, dark)
    if as_json:
        summary = {
            "network": network, "image": str(image), "random_weights": is_random,
            "layers": [_as_json(each, ghosts) for each, ghosts in found.items()],
            "left_out": left_out, "picture": str(path),
        }  # fmt: skip
        print(json.dumps(summary, indent=2))
    else:
        _print_table(found, left_out, path)


def _check_path(out: Path) -> None:
    if out.suffix not in (".png", ".svg"):
        raise ValueError(f"--out {out}: a picture of maps ends in .png or .svg")
    check_place("--out", out)


def _open(
    network: str, options: dict[str, str], weights: str | None, given: GivenShapes,
    until: str | None,
) -> "tuple[Source, bool]":  # fmt: skip
    """Return the network, with ImageNet weights where they are bundled; and if it has random ones.

    Those are said: their maps are no trained network's.
    """
    from depthwise.sources.opening import open  # noqa: PLC0415
    from depthwise.sources.spec import is_untrained  # noqa: PLC0415
    from depthwise.weights import IMAGENET  # noqa: PLC0415

    if network in IMAGENET and not options:
        weights = weights or WEIGHTS
    shapes, named = given
    source = open(network, *shapes, kwargs=named, settings=options, weights=weights, until=until)
    say_taken(source)
    is_random = is_untrained(network, options, weights)
    if is_random:
        say(
            f"{network} has random weights: its maps, and the ghosts among them, are not those of "
            "a trained network; give --weights"
        )
    return source, is_random


def _choose_layers(
    source: "Source", network: str, name: str | None
) -> "tuple[list[MapLayer], list[str]]":
    """Return the layers to look at, and those left out with the reason. Raises ValueError."""
    from depthwise.analysis.feature_maps import convolution_layers, find_layer  # noqa: PLC0415
    from depthwise.analysis.ghosts import why_not  # noqa: PLC0415

    if name is not None:
        layer = find_layer(source.traced, name)
        if reason := why_not(layer.shape[1:]):
            raise ValueError(f"layer {in_line(name)} gives {reason}")
        return [layer], []
    layers = convolution_layers(source.traced)
    reasons = {layer: why_not(layer.shape[1:]) for layer in layers}
    usable = [layer for layer in layers if not reasons[layer]]
    if not usable:
        least = why_not(layers[0].shape[1:]) if layers else "no maps"
        raise ValueError(f"{network} has no convolution to look at: the first gives {least}")
    return usable, [f"{layer.name}: {reason}" for layer, reason in reasons.items() if reason]


def _prepare(source: "Source", network: str, image: Path) -> "np.ndarray":
    """Return the photograph as the network takes it. Raises ValueError where it takes none."""
    import numpy as np  # noqa: PLC0415

    match list(source.traced.inputs.values()):
        case [only] if len(only.shape) == 4 and only.shape[1] in (1, 3):
            (count, channels, height, width), element = only.shape, only.element.numpy
        case inputs:
            taken = " and ".join(map(str, inputs)) or "nothing"
            raise ValueError(f"{network} takes {taken}: look feeds one image, (1, 3 or 1, H, W)")
    if element.kind != "f":
        raise ValueError(
            f"{network} takes {element}: look feeds images as floating-point numbers, normalised"
        )
    side = max(height, width)
    pixels = preprocessing_of(source, network, side).apply(image).numpy()
    top, left = (side - height) // 2, (side - width) // 2
    pixels = pixels[:, :, top : top + height, left : left + width]
    if channels == 1:
        pixels = np.tensordot(np.array(LUMINANCE, np.float32), pixels, (0, 1))[:, None]
    return np.repeat(pixels, count, 0).astype(element)


def _look(
    layers: "Sequence[MapLayer]", maps: "Sequence[np.ndarray]", tolerance: float, display: Display
) -> "Found":
    """Return the ghosts of each layer. Raises ValueError for maps that are no finite numbers."""
    from depthwise.analysis.ghosts import find_ghosts  # noqa: PLC0415

    found = {}
    for number, (layer, its) in enumerate(zip(layers, maps, strict=True), 1):
        display.update(f"comparing the {len(its)} maps of {layer.name}, {number} of {len(layers)}")
        try:
            found[layer] = find_ghosts(its, tolerance)
        except ValueError as error:
            raise ValueError(f"layer {in_line(layer.name)}: {error}") from None
    return found


def _as_json(layer: "MapLayer", ghosts: "Ghosts") -> dict:
    height, width = layer.shape[2:]
    return {
        "layer": layer.name, "kind": layer.kind, "value": layer.value, "height": height,
        "width": width, **ghosts.to_dict(),
    }  # fmt: skip


def _print_table(found: "Found", left_out: list[str], path: Path) -> None:
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415
    from depthwise.analysis.ghosts import KERNEL_SIZE  # noqa: PLC0415

    by_filter = f"{KERNEL_SIZE}x{KERNEL_SIZE}"
    tolerance = next(iter(found.values())).tolerance
    columns = (
        Column("layer", kind="name", least=20, most=44),
        Column("kind", 4, "word"),
        Column("pixels", 3),
        Column("maps"),
        Column("intrinsic"),
        Column("affine", 2, note="affine: ghosts s * a + t of an intrinsic map a"),
        Column(by_filter, 2, note=f"{by_filter}: ghosts that a filter of that size makes of one"),
        Column("dead", 2, note="dead: maps that are constant"),
        Column("cheap %", note="cheap: ghosts and dead maps"),
        Column("s", note=f"s: maps / intrinsic maps; of a ghost, {tolerance:.3g} of its deviation "
                         "is left at most"),
    )  # fmt: skip
    rows = [
        (
            layer.name, layer.kind, "x".join(map(str, layer.shape[2:])), str(ghosts.maps),
            str(len(ghosts.intrinsic)), str(ghosts.affine),
            str(len(ghosts.ghosts) - ghosts.affine), str(len(ghosts.dead)),
            f"{100 * ghosts.cheap_share:.1f}", f"{ghosts.ratio:.2f}" if ghosts.ratio else "",
        )
        for layer, ghosts in found.items()
    ]  # fmt: skip
    screen().print(FittedTable(columns, rows))
    if left_out:
        screen().print(Text(f"left out: {counted(len(left_out), 'layer')}, as {left_out[0]}"))
    print(f"drawn: {in_line(str(path))}")
