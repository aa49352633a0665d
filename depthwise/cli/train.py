"""`depthwise train`: labelled images to a network that names what is in them."""

import json
import shlex
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from depthwise.cli import stopping
from depthwise.cli.arguments import parse_settings
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
from depthwise.cli.processes import LOST_PEER, is_one_of_several, is_watched, launch, leads
from depthwise.cli.screen import screen
from depthwise.cli.training_display import clock, showing
from depthwise.errors import DepthwiseError
from depthwise.escaping import in_file_name, in_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from depthwise.training import Run
    from depthwise.training.keeper import Onlooker

DEFAULT, BUNDLED = "mobilenet_v3_small", "bundled"
UNTOUCHED = {"network": DEFAULT}  # options that are never None
BESIDE_RECIPE = {
    "data", "network", "settings", "weights", "recipe", "out", "resume", "processes", "as_json",
}  # fmt: skip


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A folder with a folder of images for each class, a .csv of path,label, shards as "
            "train-{000..009}.tar, a folder of datasets, or bundled, fashion-mnist, cifar10; "
            "without it, the bundled images."
        ),
    ] = None,
    network: Annotated[str, typer.Option(help=NETWORK_HELP)] = DEFAULT,
    settings: Settings = None,
    weights: Weights = None,
    recipe: RecipeFile = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's directory; else DATA-NETWORK.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with a run that was stopped; with DATA if it was moved."
        ),
    ] = None,
    time: TimeLimit = None,
    epochs: Epochs = None,
    batch: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Pixels along an image's sides.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adamw.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest one.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of SGD; AdamW's first beta.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Not of biases and norms.")] = None,
    schedule: Annotated[str | None, typer.Option(help="one-cycle or cosine.")] = None,
    warmup: Annotated[
        float | None, typer.Option(help="The share of steps in which the learning rate rises.")
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(help="The share of a label that all classes get.")
    ] = None,
    average: Annotated[
        float | None,
        typer.Option(
            help="Decay of the weights' moving average, else fitted to the steps; 0: none."
        ),
    ] = None,
    clip: Annotated[float | None, typer.Option(help="The largest norm of the gradients.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16, fp16, or auto: the fastest here.")
    ] = None,
    channels_last: Annotated[
        bool | None, typer.Option("--channels-last/--channels-first", help="Images in memory.")
    ] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="By PyTorch's compiler.")
    ] = None,
    progressive: Annotated[
        float | None, typer.Option(help="The first resolution, as a share of the last.")
    ] = None,
    augment: Annotated[str | None, typer.Option(help="none, light or rand.")] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Whether images are mirrored when it learns: not where left and right differ.",
        ),
    ] = None,
    mixup: Annotated[float | None, typer.Option(help="The alpha of MixUp.")] = None,
    cutmix: Annotated[float | None, typer.Option(help="The alpha of CutMix.")] = None,
    frozen: Annotated[
        float | None,
        typer.Option(help="The share of the training in which only the classifier learns."),
    ] = None,
    layer_decay: Annotated[
        float | None, typer.Option(help="A block's learning rate, as a share of the next one's.")
    ] = None,
    branches: Annotated[
        int | None, typer.Option(help="Convolutions for each one while training, folded into it.")
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(help="int8: a trained network learns to be computed in eight bits."),
    ] = None,
    frozen_norms: Annotated[
        float | None,
        typer.Option(
            help="The share at the end in which the statistics of BatchNorms stand still."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Learn from it, too: a run, imagenet, timm:NAME, NETWORK@CHECKPOINT."),
    ] = None,
    teacher_share: Annotated[
        float | None, typer.Option(help="The share of the loss that its scores have.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="What scores are divided by to be compared.")
    ] = None,
    feature_share: Annotated[
        float | None, typer.Option(help="The share of the loss that its feature maps have.")
    ] = None,
    seed: Seed = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="How many train together on this machine, a GPU or CPUs each."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a network on labelled images, within a time."""
    given = {name: value for name, value in locals().items() if value is not None}
    changes = {name: value for name, value in given.items() if name not in BESIDE_RECIPE}
    images = BUNDLED if data is None else data
    directory = out or Path(in_file_name(f"{Path(images).stem}-{network}"))
    learn = partial(_train, images, network, settings, weights, recipe, changes, directory)
    if resume:
        from depthwise.sources.spec import run_directory  # noqa: PLC0415

        _refuse_beside_resume(given)
        directory = run_directory(str(resume))
        learn = partial(_resume, directory, data)
    if processes and processes > 1 and not is_one_of_several():
        raise typer.Exit(launch(processes, lambda: _go_on(directory)))
    run = _show(directory, learn)
    if not leads():
        return
    if as_json:
        print(json.dumps(_record(run), indent=2))
    else:
        screen().print(Text(in_line(_summary(run))), soft_wrap=True)


def _refuse_beside_resume(given: dict[str, Any]) -> None:
    beside = (
        {*given}
        - {"resume", "data", "processes", "as_json"}
        - {k for k, v in UNTOUCHED.items() if given[k] == v}
    )
    if beside:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(beside))
        raise ValueError(f"--resume goes on as the run began: leave out {named}")


def _train(
    data: str, network: str, settings: list[str] | None, weights: str | None, recipe: Path | None,
    changes: dict[str, Any], directory: Path, onlooker: "Onlooker",
) -> "Run":  # fmt: skip
    from depthwise.training import Recipe, train  # noqa: PLC0415

    chosen = Recipe.read(recipe, **changes) if recipe else Recipe.of(changes)
    return train(
        network, data, chosen, directory=directory, settings=parse_settings(settings),
        weights=weights, onlooker=onlooker,
    )  # fmt: skip


def _resume(directory: Path, data: str | None, onlooker: "Onlooker") -> "Run":
    from depthwise.training import resume  # noqa: PLC0415

    return resume(directory, data, onlooker=onlooker)


def _show(directory: Path, learn: "Callable[[Onlooker], Run]") -> "Run":
    """Train while it is shown; where it is stopped, say how to go on."""
    try:
        with showing(directory) as onlooker:
            run = learn(onlooker)
        if leads() and run.result is None:  # another process received the signal
            raise stopping.Stopped(signal.SIGTERM)
        return run
    except (stopping.Stopped, KeyboardInterrupt) as stop:
        if said := _go_on(directory):
            stop.add_note(said)
        raise
    except DepthwiseError as error:
        from depthwise.training.distributed import LostPeer  # noqa: PLC0415

        if isinstance(error, LostPeer) and is_watched():
            raise typer.Exit(LOST_PEER) from error
        raise


def _go_on(directory: Path) -> str:
    """Return how to go on with a run; nothing where there is none."""
    from depthwise.sources.spec import is_run  # noqa: PLC0415

    if not is_run(directory):
        return ""
    return f"go on with: depthwise train --resume {shlex.quote(str(directory))}"


def _summary(run: "Run") -> str:
    result = run.result
    assert result is not None
    parts = [f"{run.directory}: validation accuracy {result.validation}"]
    if result.test:
        parts.append(f"test accuracy {result.test}")
    if run.record.teacher_accuracy is not None:
        parts.append(f"its teacher's validation accuracy {run.record.teacher_accuracy:.2%}")
    parts.append(f"the weights of epoch {result.epoch}, after {clock(result.seconds)}")
    return "; ".join(parts)


def _record(run: "Run") -> dict[str, Any]:
    result = run.result
    assert result is not None
    return {
        "directory": str(run.directory),
        "run": run.record.model_dump(mode="json"),
        "recipe": run.recipe.model_dump(mode="json"),
        "result": result.model_dump(mode="json"),
    }
