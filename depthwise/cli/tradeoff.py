"""`depthwise tradeoff`: what a network's width and the images' resolution cost in accuracy."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthwise.cli import stopping
from depthwise.cli.arguments import parse_settings
from depthwise.cli.files import writing_file
from depthwise.cli.options import (
    NETWORK_HELP,
    AsJson,
    Epochs,
    RecipeFile,
    Seed,
    Settings,
    TimeLimit,
    Weights,
)
from depthwise.cli.screen import say, screen, waiting
from depthwise.cli.training_display import showing
from depthwise.escaping import in_file_name, in_json, in_line
from depthwise.progress import say_duration

if TYPE_CHECKING:
    from depthwise.analysis.fitted import FittedTable
    from depthwise.training.tradeoff import Tradeoff, TradeoffRequest
    from depthwise.training.tradeoff_points import Point, Points

AGAIN = "the same command goes on with it"


def tradeoff(
    data: Annotated[
        str, typer.Argument(help="Labelled images, as `depthwise train` takes them.")
    ] = "bundled",
    network: Annotated[str, typer.Option(help=NETWORK_HELP)] = "mobilenet_v1",
    width: Annotated[
        str | None,
        typer.Option(
            help="Multipliers of the channels, as in 1,.75,.5; else the network as it is."
        ),
    ] = None,
    resolution: Annotated[
        str, typer.Option(help="Multipliers of the resolution, as in 1,.857,.714,.571.")
    ] = "1",
    time: TimeLimit = None,
    epochs: Epochs = None,
    seed: Seed = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Trainings of each, with this many seeds.")
    ] = 1,
    settings: Settings = None,
    weights: Weights = None,
    recipe: RecipeFile = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder of all runs; else DATA-NETWORK-tradeoff.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a network at several widths and resolutions; draw accuracy against cost."""
    widths = [] if width is None else parse_multipliers("--width", width)
    shares = parse_multipliers("--resolution", resolution)
    changes = {"time": time, "epochs": epochs, "seed": seed}
    directory = out or Path(in_file_name(f"{Path(data).stem}-{network}-tradeoff"))
    with waiting(f"counting {network} at each width and resolution"):
        from depthwise.training.recipe import Recipe  # noqa: PLC0415
        from depthwise.training.tradeoff import Tradeoff, TradeoffRequest  # noqa: PLC0415

        given = {name: value for name, value in changes.items() if value is not None}
        how = Recipe.read(recipe, **given) if recipe else Recipe.of(given)
        asked = TradeoffRequest(network, data, how, parse_settings(settings), weights)
        planned = Tradeoff.plan(asked, directory, widths, shares, seeds)
    _train_all(planned, asked)
    found = _measure(planned)
    if as_json:
        print(in_json(json.dumps(_record(planned, found), indent=2)))
        return
    screen().print(_table(found))
    screen().print(in_line(f"{directory / 'tradeoff.png'} and tradeoff.csv show the same"))


def parse_multipliers(option: str, text: str) -> list[float]:
    """Return the numbers of a text such as 1,.75,.5."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{option} {text}: expected multipliers, as in {option} 1,.75,.5")
    return found


def _train_all(planned: "Tradeoff", asked: "TradeoffRequest") -> None:
    """Train whatever is not finished, and draw what there is after each.

    Where one diverges, that is said, and the others are trained. Raises Diverged where all do.
    """
    from depthwise.training.divergence import Diverged  # noqa: PLC0415

    left = planned.left
    limit = asked.recipe.time
    if left:
        time = f", {say_duration(limit * len(left))} at most" if limit else ""
        say(f"{len(left)} trainings of {len(planned.combinations) * len(planned.seeds)} left{time}")
    for number, (combination, seed) in enumerate(left, 1):
        say(f"{number} of {len(left)}: {combination.name}, seed {seed}")
        try:
            with showing(planned.directory) as onlooker:
                planned.learn(combination, seed, onlooker)
            _measure(planned)
        except Diverged as error:
            say(f"{planned.run_directory(combination, seed)}: {error}")
            if number == len(left) and not planned.has_results:
                raise
        except (stopping.Stopped, KeyboardInterrupt) as stop:
            stop.add_note(AGAIN)
            raise


def _measure(planned: "Tradeoff") -> "Points":
    """Measure what is finished; write it as a table and a picture."""
    with waiting("compiling and timing what is trained"):
        from depthwise.report.tradeoff_picture import tradeoff_picture  # noqa: PLC0415
        from depthwise.training.tradeoff_points import measure  # noqa: PLC0415

        found = measure(planned)
        with writing_file("--out", planned.directory / "tradeoff.csv") as new:
            new.write_text(found.csv(), encoding="utf-8")
        with writing_file("--out", planned.directory / "tradeoff.png") as new:
            tradeoff_picture(found, new)
    return found


def _table(found: "Points") -> "FittedTable":
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415

    busy = f"; NO MEASUREMENT, {found.disturbed}" if found.disturbed else ""
    times = f"time: of the compiled library, one image, one thread, {found.processor}{busy}"
    columns = (
        Column("width"), Column("pixels"), Column("MACs"), Column("parameters"),
        Column("time", note=times),
        Column("accuracy", note=f"accuracy: on the {found.split} split, % of {_images(found)}"),
        Column("95 %", 2, note="95 %: Wilson's interval"),
        Column("deviation", 1, note="deviation: from training to training, in points"),
    )  # fmt: skip
    several = any(point.spread is not None for point in found.points)
    count = len(columns) if several else len(columns) - 1
    return FittedTable(columns[:count], [_row(point)[:count] for point in found.points])


def _images(found: "Points") -> str:
    return f"{found.points[0].images:,} images"


def _row(point: "Point") -> list[str]:
    from depthwise.analysis.units import in_seconds, in_units  # noqa: PLC0415

    asked, (low, high) = point.combination, point.interval
    return [
        "" if asked.width is None else f"{asked.width:g}", str(asked.side),
        in_units(asked.cost.macs), in_units(asked.cost.params),
        in_seconds(point.milliseconds / 1000), f"{100 * point.accuracy:.2f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        "" if point.spread is None else f"{100 * point.spread:.2f}",
    ]  # fmt: skip


def _record(planned: "Tradeoff", found: "Points") -> dict[str, Any]:
    return {"directory": str(planned.directory), "points": found.rows()}
