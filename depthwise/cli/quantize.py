"""`depthwise quantize`: a trained network in eight bits."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthwise.cli.arguments import parse_settings, parse_shapes
from depthwise.cli.files import writing
from depthwise.cli.options import AsJson, NetworkName, Seed, Settings, Shapes, Weights
from depthwise.cli.screen import say, say_taken, screen, waiting
from depthwise.escaping import in_file_name, in_json, in_line

if TYPE_CHECKING:
    from depthwise.analysis.fitted import FittedTable
    from depthwise.precision.quantized import Quantized
    from depthwise.precision.record import CurveFigures

WORST = 8  # layers that are shown
PICTURE = "curve.png"


def quantize(
    network: NetworkName,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images like those that it is for: labelled, as `depthwise train` takes them, a "
            "folder of images alone, or bundled."
        ),
    ] = None,
    observer: Annotated[
        str | None,
        typer.Option(
            help="How ranges are drawn: minmax, percentile, mse or entropy; else what is best on "
            "held-out images."
        ),
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option(
            help="In which share of held-out images the class must stay the same, as 0.99: layers "
            "that rounding hurts are kept in float32 until it is met."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="The path of a module to keep in float32; repeat for more."),
    ] = None,
    curve: Annotated[
        bool,
        typer.Option(
            "--curve",
            help="Keep layers out of eight bits one after the other, those first that gain most "
            "for a microsecond; compile, time and judge each stage; --agreement then takes the "
            "fastest that meets it.",
        ),
    ] = False,
    kept: Annotated[
        int | None,
        typer.Option(min=0, help="Take the curve's point with so many layers kept."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="How many images to calibrate on, at most.")
    ] = None,
    shape: Shapes = None,
    settings: Settings = None,
    weights: Weights = None,
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option(help="The network's directory; else NETWORK-int8.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute a trained network in eight bits, judged on images."""
    directory = out or Path(in_file_name(f"{network}-int8"))
    with waiting(f"opening {network}"):
        from depthwise.precision.options import QuantizationOptions  # noqa: PLC0415
        from depthwise.precision.quantize import quantize as run  # noqa: PLC0415
        from depthwise.precision.request import NO_DATA  # noqa: PLC0415
        from depthwise.sources.opening import open  # noqa: PLC0415
        from depthwise.sources.quantized_folder import KIND as QUANTIZED  # noqa: PLC0415

        if data is None:
            raise ValueError(NO_DATA)
        QUANTIZED.check_free(directory)  # before the wait, not after it
        options = QuantizationOptions(
            observer=observer, agreement=agreement, keep=tuple(keep or ()), curve=curve,
            kept=kept, images=samples, seed=seed or 0,
        )  # fmt: skip
        shapes, named = parse_shapes(shape)
        source = open(
            network, *shapes, kwargs=named, settings=parse_settings(settings), weights=weights
        )
        say_taken(source)
    with waiting("quantising"):
        found = run(source, data=data, options=options, tell=say)
    with writing("--out", directory):
        found.save(directory)
        if curve:
            from depthwise.precision.curve_picture import curve_picture  # noqa: PLC0415

            curve_picture(found.record, directory / PICTURE)
    if as_json:
        print(in_json(found.record.model_dump_json(indent=2)))
        return
    screen().print(_steps(found))
    screen().print(_layers(found))
    if found.record.curve:
        screen().print(_curve(found.record.curve))
        said = f"{directory / PICTURE} shows the curve; any of its points may be given as --kept"
        screen().print(in_line(said))
    screen().print(in_line(str(found)))
    screen().print(in_line(f"{directory}: a network as quantized:{directory}"))


def _steps(found: "Quantized") -> "FittedTable":
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415

    note = "nats: divergence of what it returns from that in float32, on held-out images"
    same = () if found.record.agreement is None else (Column("same class"),)
    columns = (
        Column("step", kind="word"), Column("nats", note=note), *same, Column("dB"),
        Column("", kind="word"), Column("s"),
    )  # fmt: skip
    rows = [
        (
            step.name, f"{step.nats:.2g}", *_same_class(step.agreement), f"{step.decibels:.1f}",
            "" if step.taken else "taken back", f"{step.seconds:.1f}",
        )
        for step in found.record.steps
    ]  # fmt: skip
    return FittedTable(columns, rows)


def _same_class(agreement: float | None) -> tuple[str, ...]:
    """Return the cell of the column, which networks have that give classes."""
    return () if agreement is None else (f"{agreement:.2%}",)


def _layers(found: "Quantized") -> "FittedTable":
    """Return the layers that rounding hurts most."""
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415

    note = "dB: signal to quantisation noise of what a layer gives; the layers with least of it"
    columns = (
        Column("layer", kind="name"), Column("alone, dB", note=note), Column("after all, dB"),
    )  # fmt: skip
    worst = sorted(found.record.layers, key=lambda each: each.own)[:WORST]
    rows = [(each.path or each.layer, f"{each.own:.1f}", f"{each.all:.1f}") for each in worst]
    return FittedTable(columns, rows)


def _curve(curve: "CurveFigures") -> "FittedTable":
    """Return what is gained for how much time, point by point, and float32 beside it."""
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415

    how = f"one image on one thread of {curve.target}, compiled, all in turns"
    note = f"ms: {how}{f'; {curve.disturbed}' if curve.disturbed else ''}"
    same = () if curve.whole.agreement is None else (Column("same class"),)
    columns = (
        Column(f"kept in {curve.kept_in}"), Column("the last of these", kind="name"),
        Column("ms", note=note), Column("nats"), *same, Column("right"),
    )  # fmt: skip
    rows = [
        (
            f"{point.kept} *" if point.kept == curve.chosen else str(point.kept), point.layer,
            f"{point.milliseconds:.3f}", f"{point.nats:.2g}", *_same_class(point.agreement),
            _share(point.right, curve.judged),
        )
        for point in (*curve.points, curve.whole)
    ]  # fmt: skip
    return FittedTable(columns, rows)


def _share(right: int | None, judged: int | None) -> str:
    return f"{right / judged:.2%}" if judged and right is not None else ""
