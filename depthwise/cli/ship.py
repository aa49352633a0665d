"""`depthwise ship`: from a network to a verified library and a report, in one command."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from depthwise.cli.arguments import default_directory, parse_settings, parse_shapes
from depthwise.cli.files import writing
from depthwise.cli.labels import LabelFile, find_labels
from depthwise.cli.options import (
    NETWORK,
    NETWORK_HELP,
    WEIGHTS,
    AgreementGoal,
    AsJson,
    CheckPlan,
    CompilerName,
    Directory,
    Optimize,
    PrecisionName,
    Settings,
    Shapes,
    StoredName,
    SystemName,
    TargetName,
    Threads,
    Tune,
    TuneFor,
    Until,
    Weights,
)
from depthwise.cli.screen import name_left_out, say, say_taken, screen, waiting
from depthwise.cli.slimming_options import BUDGET_HELP, Mimic, Mirror, Recover, slimming_plan
from depthwise.cli.stopping import Stopped
from depthwise.cli.training_display import showing
from depthwise.compiler.options import CompileOptions, Precision
from depthwise.escaping import in_json

if TYPE_CHECKING:
    from depthwise.report.record import Report
    from depthwise.shipping import CurrentNetwork, Request, Stage
    from depthwise.training.data.dataset import Dataset
    from depthwise.training.keeper import Onlooker


def ship(
    network: Annotated[
        str | None,
        typer.Argument(help=f"{NETWORK_HELP} Without any, {NETWORK} with its ImageNet weights."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="A folder of images to verify with and to name; else two are bundled."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled images to judge it on, as `depthwise train` takes them; else those of "
            "a run. To slim it, or to compute in int8, a folder of images alone will do."
        ),
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="Train it on --data for so long before all else, as in 1h.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help=f"Slim it before it is compiled. {BUDGET_HELP}")
    ] = None,
    recover: Recover = None,
    mimic: Mimic = "0s",
    mirror: Mirror = True,
    shape: Shapes = None,
    settings: Settings = None,
    weights: Weights = None,
    until: Until = None,
    labels: LabelFile = None,
    target: TargetName = CompileOptions.target,
    cc: CompilerName = CompileOptions.cc,
    threads: Threads = CompileOptions.threads,
    optimize: Optimize = CompileOptions.optimize,
    tune: Tune = CompileOptions.tune,
    tune_for: TuneFor = CompileOptions.tune_for,
    check_plan: CheckPlan = CompileOptions.check_plan,
    system: SystemName = CompileOptions.system,
    precision: PrecisionName = CompileOptions.precision,
    agreement: AgreementGoal = None,
    stored_weights: StoredName = CompileOptions.stored_weights,
    out: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Train, slim, compile, verify and time a network: a directory with its library and a report.

    Each stage is cached as soon as it is done: the same command again goes on where it stopped.
    """
    name, chosen = network or NETWORK, weights or (None if network else WEIGHTS)
    options = parse_settings(settings)
    with waiting(f"opening {name}"):
        from depthwise import shipping  # noqa: PLC0415
        from depthwise.precision.compiling import own_precision  # noqa: PLC0415
        from depthwise.precision.quantising import check_data  # noqa: PLC0415
        from depthwise.precision.request import PrecisionRequest  # noqa: PLC0415
        from depthwise.runtime.artifact import check_replaceable  # noqa: PLC0415

        asked = PrecisionRequest(
            precision, None if precision in get_args(Precision) else data, agreement, say
        )
        build = CompileOptions(
            target, threads, optimize, tune, tune_for, cc, check_plan, system, own_precision(asked),
            stored_weights,
        )  # fmt: skip
        directory = out or default_directory(name, build.chosen.full_name)
        with writing("--out", directory):
            check_replaceable(directory)
        opened = _open(name, options, chosen, shape, labels, images, until)
        found, left_out = _find_images(images, name, opened)
        usable, broken = _sort_out(found, opened)
        seconds, loose = _seconds(train, data, until), bool(budget) or asked.calibrates
        forgiving = asked.calibrates and not budget  # images then need no classes
        given = _given_images(data, name, opened, seconds, loose, forgiving)
        labelled = None if isinstance(given, str) else given
        if asked.calibrates and data is None:
            asked = replace(asked, data=labelled)  # a run's own
        check_data(opened.source, asked)
        plan = slimming_plan(budget, given, build, mimic=mimic, recover=recover, mirror=mirror)
        command = _command(
            network,
            [("--shape", text) for text in shape or ()],
            [("--set", text) for text in settings or ()],
            [("--until", until), ("--images", images), ("--data", data), ("--weights", weights)],
            [("--labels", labels), ("--out", out), ("--train", train), ("--budget", budget)],
            [("--recover", recover), ("--mimic", None if mimic == "0s" else mimic)],
            [] if mirror else [("--no-mirror", "")],
            [("--precision", precision)] if asked.calibrates else [],
            [("--agreement", agreement)],
            _options_that_differ(build),
        )
        request = shipping.Request(
            name,
            build,
            directory,
            command,
            options,
            chosen or "",
            usable,
            left_out,
            broken,
            labelled,
            train=seconds,
            asked=asked,
            resolution=opened.side if shape else None,
            slim=plan,
            say=say,
        )
    with _saying_what_is_cached(directory):
        report = _run(request, opened)
    if as_json:
        print(in_json(report.model_dump_json(indent=2)))
    else:
        from depthwise.shipping.summary import summary  # noqa: PLC0415

        screen().print(summary(report, directory))


def _command(network: str | None, *options: list[tuple[str, object]]) -> str:
    """Return what asks for the same again; options of None are left out."""
    given = [(name, str(value)) for pairs in options for name, value in pairs if value is not None]
    return shlex.join(["depthwise", "ship", *filter(None, [network, *chain(*given)])])


def _options_that_differ(build: CompileOptions) -> list[tuple[str, object]]:
    """Return the options of the command that are not their defaults."""
    given = []
    for field in fields(build):
        value, option = getattr(build, field.name), field.name.replace("_", "-")
        if value != field.default:
            flag = f"--{option}" if value else f"--no-{option}"
            given.append((flag, "") if isinstance(value, bool) else (f"--{option}", value))
    return given


def _open(
    network: str, options: dict[str, str], weights: str | None, shape: list[str] | None,
    labels: Path | None, images: Path | None, until: str | None,
) -> "CurrentNetwork":  # fmt: skip
    """Return the network with its weights, and the names of its classes where there are any."""
    import torch  # noqa: PLC0415

    from depthwise.bench.exported_model import settle  # noqa: PLC0415
    from depthwise.shipping import CurrentNetwork  # noqa: PLC0415
    from depthwise.sources.opening import open  # noqa: PLC0415
    from depthwise.sources.source import TorchSource  # noqa: PLC0415
    from depthwise.sources.spec import is_untrained  # noqa: PLC0415

    torch.manual_seed(0)  # the same random weights every time
    shapes, named = parse_shapes(shape)
    opened = open(network, *shapes, kwargs=named, settings=options, weights=weights, until=until)
    say_taken(opened)
    untrained = is_untrained(network, options, weights)
    if untrained and isinstance(opened, TorchSource) and opened.exported and opened.takes_one:
        settle(opened.exported, opened.shapes[0])
    return CurrentNetwork(opened, untrained, find_labels(labels, weights, images, opened))


def _find_images(
    folder: Path | None, name: str, network: "CurrentNetwork"
) -> tuple[tuple[Path, ...], int]:
    """Return the images to verify with and to classify, and how many more there are."""
    from depthwise.shipping.request import find_images  # noqa: PLC0415
    from depthwise.weights import PHOTOGRAPHS  # noqa: PLC0415

    if network.side is None:
        if folder:
            taken = " and ".join("x".join(map(str, shape)) for shape in network.source.shapes)
            raise ValueError(f"--images {folder}: {name} takes {taken}, and no photograph")
        return (), 0
    return find_images(folder) if folder else (PHOTOGRAPHS, 0)


def _seconds(train: str | None, data: str | None, until: str | None) -> float | None:
    """Return how long a network is trained first. Raises ValueError for what is no time."""
    from depthwise.training import Recipe  # noqa: PLC0415

    if train is None:
        return None
    if data is None:
        raise ValueError("--train needs labelled images to train on: give --data")
    if until is not None:
        raise ValueError(
            f"--until {until}: a network is trained as a whole: leave out --train or --until"
        )
    return Recipe.of({"time": train}).time


def _given_images(
    data: str | None, name: str, network: "CurrentNetwork", train: float | None, loose: bool,
    forgiving: bool,
) -> "Dataset | str | None":  # fmt: skip
    """Return the labelled images that are given; where `loose` ones do, else the path of those.

    Raises ValueError where these cannot be used; if `forgiving`, not for other classes.
    """
    from depthwise.training.calibration_data import LOOSE, loose_images  # noqa: PLC0415
    from depthwise.training.data.opening import open_dataset  # noqa: PLC0415

    if data and train:  # to whose classes the network is fitted
        return open_dataset(data)
    if data and loose and (network.side is None or loose_images(Path(data))):
        return data
    return _find_data(data, name, network, LOOSE if loose else "", forgiving)


def _find_data(
    data: str | None, name: str, network: "CurrentNetwork", beside: str, forgiving: bool
) -> "Dataset | None":
    """Return the labelled images to judge a network on: those that are given, else a run's own.

    `beside` is what else is accepted. Raises ValueError where those that are given cannot be used.
    """
    from depthwise.sources.spec import parse_spec  # noqa: PLC0415
    from depthwise.training.classifier import classifier_of_network  # noqa: PLC0415
    from depthwise.training.data.opening import open_dataset  # noqa: PLC0415
    from depthwise.training.judging import match_classes  # noqa: PLC0415
    from depthwise.training.run import Run  # noqa: PLC0415

    spec = parse_spec(name)
    run = Run.open(spec.name) if spec.front_end == "run" else None
    place = data or (run.record.data if run else None)
    if place is None or network.side is None:
        return None
    try:
        found = open_dataset(place, seed=run.recipe.seed if run else 0, beside=beside)
        match_classes(
            found, found.validation, classifier_of_network(network.source, name, network.labels)
        )
    except ValueError as error:
        if data and not forgiving:
            raise
        say(f"{name} is not judged on its images: {error}")
        return None
    return found


def _sort_out(
    found: tuple[Path, ...], network: "CurrentNetwork"
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return the images that can be read, and why each other one cannot; say so on the screen."""
    if network.preprocessing is None:
        return (), ()
    opened = list(network.preprocessing.apply_each(found))
    broken = tuple(str(found) for _, found in opened if isinstance(found, ValueError))
    usable = tuple(path for path, found in opened if not isinstance(found, ValueError))
    name_left_out(broken, len(usable))
    return usable, broken


def _run(request: "Request", network: "CurrentNetwork") -> "Report":
    from depthwise.shipping import asked, ship  # noqa: PLC0415

    stages = [stage.name for stage in asked(request)]
    with waiting("shipping", total=len(stages)) as display:

        def on_stage(stage: "Stage", cached: bool) -> None:
            number = stages.index(stage.name)
            doing = f"{stage.doing}{' (cached)' if cached else ''}"
            display.update(doing, done=number)
            if not sys.stderr.isatty():
                say(f"{number + 1} of {len(stages)}: {doing}")

        @contextmanager
        def training(folder: Path) -> "Iterator[Onlooker]":
            with display.hidden(), showing(folder) as onlooker:
                yield onlooker

        return ship(replace(request, showing=training), network, on_stage)


@contextmanager
def _saying_what_is_cached(directory: Path) -> Iterator[None]:
    """Where a stage cannot be finished, say where the finished ones are."""
    advice = f"what was finished is kept in {directory}: the same command again goes on there"
    try:
        yield
    except (Stopped, KeyboardInterrupt) as stop:
        if directory.is_dir():
            stop.add_note(advice)
        raise
    except OSError as error:
        where = error.filename or directory
        kept = f"; {advice}" if directory.is_dir() else ""
        raise ValueError(f"{where}: {error.strerror}{kept}") from None
