"""`depthwise draw`: a network, or one convolution with its windows, as a picture."""

import json
from pathlib import Path
from typing import Annotated

import typer

from depthwise.cli.arguments import GivenShapes, check_elements, parse_settings, parse_shapes
from depthwise.cli.files import check_place, writing_file
from depthwise.cli.options import NETWORK_HELP, AsJson, Settings, Shapes, Until
from depthwise.cli.screen import waiting
from depthwise.escaping import in_file_name, in_line

OF_CONV = "For `draw conv`: "


def draw(
    network: Annotated[
        str, typer.Argument(help=f"{NETWORK_HELP} Or the word conv, with a --kind.")
    ],
    kind: Annotated[
        str | None, typer.Option(help=f"{OF_CONV}standard, depthwise, separable, ghost, ...")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help=f"{OF_CONV}the image's height and width; 5.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help=f"{OF_CONV}input channels; --set in_channels.")
    ] = None,
    out_channels: Annotated[int | None, typer.Option(help=f"{OF_CONV}output channels.")] = None,
    kernel: Annotated[int | None, typer.Option(help=f"{OF_CONV}its height and width.")] = None,
    stride: Annotated[int | None, typer.Option(help=f"{OF_CONV}the window's steps.")] = None,
    padding: Annotated[
        int | None, typer.Option(help=f"{OF_CONV}zeros on each side; keeps the size if left out.")
    ] = None,
    dilation: Annotated[int | None, typer.Option(help=f"{OF_CONV}the taps' distance.")] = None,
    groups: Annotated[int | None, typer.Option(help=f"{OF_CONV}the groups of channels.")] = None,
    at: Annotated[
        str | None, typer.Option(help=f"{OF_CONV}row,column of the output element to mark.")
    ] = None,
    shape: Shapes = None,
    settings: Settings = None,
    until: Until = None,
    out: Annotated[
        Path | None, typer.Option(help="The .svg to write; NETWORK.svg where left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a network's blocks, or how a convolution slides its window, as SVG."""
    options = parse_settings(settings)
    flags = {
        "in_channels": channels, "out_channels": out_channels, "kernel_size": kernel,
        "stride": stride,
        "padding": padding, "dilation": dilation, "groups": groups,
    }  # fmt: skip
    given = {name: str(value) for name, value in flags.items() if value is not None}
    spec = f"conv:{kind or 'standard'}" if network == "conv" else network
    is_conv = spec.startswith("conv:")
    if not is_conv and (given or kind or size or at):
        raise ValueError(f"{network}: --kind, --size, --kernel and the like are for `draw conv`")
    if is_conv and until:
        raise ValueError(f"--until {until}: a single convolution has no part to end with")
    if network.startswith("conv:") and kind:
        raise ValueError(f"--kind {kind}: {network} names the kind already")
    path = _path(out, spec)
    given_shapes = parse_shapes(shape)
    with waiting(f"drawing {spec}"):
        if is_conv:
            svg = _draw_conv(spec, {**options, **given}, size, given_shapes, at)
        else:
            svg = _draw_network(spec, options, given_shapes, until)
    with writing_file("--out", path) as new:
        new.write_text(svg, encoding="utf-8")
    print(json.dumps({"picture": str(path)}) if as_json else f"drawn: {in_line(str(path))}")


def _path(out: Path | None, spec: str) -> Path:
    """Return where the picture goes. Raises ValueError where it cannot."""
    path = out or Path(f"{in_file_name(Path(spec).name, '_')}.svg")
    if path.suffix != ".svg":
        raise ValueError(f"--out {path}: a picture ends in .svg")
    check_place("--out", path)
    return path


def _draw_network(spec: str, options: dict[str, str], given: GivenShapes, until: str | None) -> str:
    from depthwise.report.network_picture import network_picture  # noqa: PLC0415
    from depthwise.sources.opening import describe  # noqa: PLC0415

    shapes, named = given
    source = describe(spec, *shapes, kwargs=named, settings=options, until=until)
    return network_picture(source.traced, spec)


def _draw_conv(
    spec: str, options: dict[str, str], size: int | None, given: GivenShapes, at: str | None
) -> str:
    from depthwise.families.single import CONVOLUTIONS  # noqa: PLC0415
    from depthwise.report.conv_picture import conv_picture  # noqa: PLC0415
    from depthwise.sources.opening import describe  # noqa: PLC0415

    kind = spec.removeprefix("conv:")
    shapes, named = given
    source = describe(spec, *shapes, kwargs=named, settings=options)
    if size and (shapes or named):
        raise ValueError("--size and --shape both say how large the image is: leave one out")
    if size:
        square = (*source.shapes[0][:2], size, size)
        check_elements(f"--size {size}", square)
        source = source.at([square])
    title = f"{kind.replace('_', ' ').capitalize()} convolution"
    about = CONVOLUTIONS.find(kind).summary.replace("`", "")
    return conv_picture(source.traced, title, about, _parse_place(at))


def _parse_place(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"--at {text}: expected a row and a column from 0, as in --at 2,2")
    return int(parts[0]), int(parts[1])
