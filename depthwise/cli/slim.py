"""`depthwise slim`: a trained network made to meet a budget."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthwise.cli import stopping
from depthwise.cli.arguments import parse_settings, parse_shapes
from depthwise.cli.files import writing, writing_file
from depthwise.cli.options import (
    AsJson,
    NetworkName,
    Seed,
    Settings,
    Shapes,
    TargetName,
    Weights,
)
from depthwise.cli.screen import say, say_taken, screen, waiting
from depthwise.cli.slimming_options import BUDGET_HELP, Mimic, Mirror, Recover
from depthwise.cli.training_display import showing
from depthwise.compiler.options import CompileOptions
from depthwise.escaping import in_file_name, in_json, in_line

if TYPE_CHECKING:
    from depthwise.analysis.fitted import FittedTable
    from depthwise.report.slimming_record import Figures, TradeoffCurve
    from depthwise.slimming.slim import Slimming
    from depthwise.slimming.slimmed import Slimmed

PICTURE = "layers.png"
NAMES = ("multiply-adds", "parameters", "weights", "arena", "time")


def slim(
    network: NetworkName,
    budget: Annotated[str | None, typer.Option(help=f"{BUDGET_HELP} Else 50%.")] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Keep this share of the channels of every layer, in place of a budget."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images like those that it is for: labelled, as `depthwise train` takes them, or "
            "a folder of images alone; without any, some are synthesised."
        ),
    ] = None,
    recover: Recover = None,
    mimic: Mimic = "0s",
    mirror: Mirror = True,
    curve: Annotated[
        bool, typer.Option("--curve", help="Show what each cost would do, and stop there.")
    ] = False,
    moves: Annotated[
        str | None,
        typer.Option(help="What may be done, as in channels,ghost; else everything."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="How many images to calibrate on, at most.")
    ] = None,
    shape: Shapes = None,
    settings: Settings = None,
    weights: Weights = None,
    target: TargetName = CompileOptions.target,
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option(help="The network's directory; else NETWORK-slim.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a trained network meet a budget, keeping what it knows."""
    directory = out or Path(in_file_name(f"{network}-slim"))
    with waiting(f"opening {network}"):
        from depthwise.slimming.request import (  # noqa: PLC0415
            EVERY,
            SlimmingOptions,
            SlimmingRequest,
            asked_budget,
        )
        from depthwise.slimming.slim import Slimming  # noqa: PLC0415
        from depthwise.sources.opening import open  # noqa: PLC0415

        if alpha is not None and (moves is not None or curve):
            raise ValueError("--alpha narrows all layers alike: leave out --moves and --curve")
        chosen = tuple(name.strip() for name in moves.split(",")) if moves is not None else EVERY
        options = SlimmingOptions(
            chosen, samples, CompileOptions(target), mimic=mimic, mirror=mirror,
            recover=recover, seed=seed or 0, alpha=alpha,
        )  # fmt: skip
        asked = asked_budget(budget, options)
        shapes, named = parse_shapes(shape)
        source = open(
            network, *shapes, kwargs=named, settings=parse_settings(settings), weights=weights
        )
        say_taken(source)
        slimming = Slimming(SlimmingRequest(source, asked, data, options), directory)
    if curve:
        _show_curve(slimming, directory, as_json)
        return
    found = _slim(slimming, directory)
    if as_json:
        print(in_json(found.record.model_dump_json(indent=2)))
        return
    screen().print(_steps(found))
    screen().print(_layers(found))
    screen().print(_figures(found))
    screen().print(in_line(f"{directory / PICTURE} shows each layer before and after"))
    screen().print(in_line(f"{directory}: a network as slimmed:{directory}"))


def _slim(slimming: "Slimming", directory: Path) -> "Slimmed":
    """Slim, saying how it goes; where that is stopped, say how to go on."""
    from depthwise.report.layers_picture import layers_picture  # noqa: PLC0415  (it is slow)

    try:
        with writing("--out", directory):
            with waiting("slimming"):
                found = slimming.run(say)
            if slimming.recovers:
                with showing(directory) as onlooker:
                    found = slimming.recover(found, onlooker)
                say(str(found.record.recovery))
            slimming.save(found)
            layers_picture(found.record, directory / PICTURE)
    except (stopping.Stopped, KeyboardInterrupt) as stop:
        if directory.is_dir():
            stop.add_note(f"{shlex.quote(str(directory))}: the same command again goes on there")
        raise
    return found


def _show_curve(slimming: "Slimming", directory: Path, as_json: bool) -> None:
    """Print and draw what each cost would do."""
    from depthwise.report.slimming_picture import curve_picture  # noqa: PLC0415

    with waiting("pricing all changes"):
        found = slimming.curve()
        picture = directory / "curve.png"
        with writing("--out", directory):
            directory.mkdir(parents=True, exist_ok=True)
        with writing_file("--out", picture) as new:
            curve_picture(found, (), new)
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    screen().print(_curve(found))
    screen().print(in_line(f"{picture} shows the same; any cost may be given as a --budget"))


def _curve(found: "TradeoffCurve") -> "FittedTable":
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415
    from depthwise.report.slimming_record import say_cost  # noqa: PLC0415

    note = (
        "nats: estimated divergence of the scores, of one choice of changes, each measured alone; "
        "in rounds, with weights fitted again, less is lost and lower costs are reached"
    )
    columns = (
        Column("cost"), Column("% of it"), Column("nats", note=note), Column("changes"),
    )  # fmt: skip
    rows = [
        (
            say_cost(found.measure, point.cost), f"{100 * point.cost / found.original:.1f}",
            f"{point.damage:.2g}", str(point.steps),
        )
        for point in found.points
    ]  # fmt: skip
    return FittedTable(columns, rows)


def _steps(found: "Slimmed") -> "FittedTable":
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415
    from depthwise.analysis.units import in_seconds  # noqa: PLC0415

    columns = (
        Column("round"), Column("move", kind="word"), Column("module", kind="name"),
        Column("what became of it", kind="name"), Column("nats"), Column("time saved", 1),
    )  # fmt: skip
    rows = [
        (
            str(each.number), step.move, step.place, step.words, f"{step.damage:.2g}",
            in_seconds(1e-3 * max(0.0, step.milliseconds)),
        )
        for each in found.record.rounds
        for step in each.steps
    ]  # fmt: skip
    return FittedTable(columns, rows)


def _layers(found: "Slimmed") -> "FittedTable":
    """Return the layers that are others now, before and after."""
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415
    from depthwise.analysis.units import in_seconds, in_units  # noqa: PLC0415

    columns = (
        Column("module", kind="name"), Column("gave", kind="word"), Column("gives", kind="word"),
        Column("MACs before"), Column("after"), Column("time before", 1), Column("after", 1),
    )  # fmt: skip
    rows = []
    for layer in found.record.layers:
        now = layer.after
        if now == layer.before:
            continue
        shapes = ["x".join(map(str, each.shape)) if each else "" for each in (layer.before, now)]
        macs = [in_units(each.macs) if each else "" for each in (layer.before, now)]
        times = [
            in_seconds(1e-3 * each.milliseconds) if each else "" for each in (layer.before, now)
        ]
        rows.append((layer.path, *shapes, *macs, *times))
    return FittedTable(columns, rows)


def _figures(found: "Slimmed") -> "FittedTable":
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415
    from depthwise.report.slimming_record import MEASURES, say_cost  # noqa: PLC0415

    before, after = found.record.before, found.record.after
    ratios = {"milliseconds": found.record.ratio}
    rows: list[tuple[str, ...]] = []
    for name, measure in zip(NAMES, MEASURES, strict=True):
        costs = [getattr(each, measure) for each in (before, after)]
        ratio = ratios.get(measure) or costs[0] / max(costs[1], 1e-12)
        rows.append((name, *(say_cost(measure, cost) for cost in costs), f"{ratio:.2f}x"))
    rows += _rightness(before, after)
    how = "measured in turns" if after.measured else "an estimate"
    note = f"time: one image, one thread, {how}"
    columns = (Column("", kind="word"), Column("before"), Column("after"), Column("", note=note))
    return FittedTable(columns, rows)


def _rightness(before: "Figures", after: "Figures") -> list[tuple[str, str, str, str]]:
    """Return rows on what it still knows."""
    rows = []
    if before.accuracy is not None and after.accuracy is not None:
        lost = f"{100 * (after.accuracy - before.accuracy):+.2f} points"
        shown = (f"{each.accuracy:.2%}" for each in (before, after))
        rows.append((f"right of {after.images:,}", *shown, lost))
    return [*rows, (after.names, "", f"{after.agreement:.2%}", "")]
