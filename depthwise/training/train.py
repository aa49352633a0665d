"""`dw.train` and `dw.resume`: labelled images and a network to a run."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from depthwise.sources.run_folder import RunRecord
from depthwise.training.adapt import FittedNetwork, fit_network
from depthwise.training.augment import Appearance
from depthwise.training.data.dataset import Dataset, ImageSplit
from depthwise.training.data.decode import shorter_side
from depthwise.training.data.opening import open_dataset
from depthwise.training.data.squares import Prepared, prepare
from depthwise.training.defaults import fit_recipe
from depthwise.training.feed import Feed
from depthwise.training.keeper import Keeper, Onlooker, Unseen
from depthwise.training.learner import Learner, judge
from depthwise.training.loop import fit
from depthwise.training.optimizer import make_optimizer, parameter_groups
from depthwise.training.order import Order
from depthwise.training.pace import Pace
from depthwise.training.precision import Precision, fastest
from depthwise.training.recipe import Recipe
from depthwise.training.result import RunResult, SplitResult, write_result
from depthwise.training.run import Run
from depthwise.training.state import Progress, part, read_state, restore
from depthwise.weights import Preprocessing

LOOKED_AT = 64  # images whose size tells what resolution is usual


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """What a run learns from and what its epochs are compared on, as squares of pixels."""

    train: Prepared
    validation: Prepared

    @classmethod
    def of(cls, dataset: Dataset, side: int) -> "TrainingImages":
        """Decode them, to squares of `side` pixels. Raises ValueError where too many are broken."""
        return cls(prepare(dataset.train, side), prepare(dataset.validation, side))

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each split."""
        return {"train": len(self.train.labels), "validation": len(self.validation.labels)}

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence for each image that cannot be read."""
        return (*self.train.left_out, *self.validation.left_out)


def train(
    network: str | nn.Module, data: str | PathLike[str] | Dataset, recipe: Recipe | None = None, *,
    directory: str | PathLike[str], settings: Mapping[str, Any] | None = None,
    weights: str | PathLike[str] | None = None, onlooker: Onlooker | None = None,
) -> Run:  # fmt: skip
    """Train a network to name what is in images.

    Args:
        network: A name of `dw.list_models()`, timm:NAME, torchvision:NAME, package.module:factory
            or path/file.py:factory; run:DIRECTORY goes on from a run's best weights; or a module,
            of which a copy is trained. Its classifier gets the images' classes; its stem and its
            resolution are fitted to the images where `settings` and the recipe do not say them.
        data: A folder, a file or the name of a set, as `open_dataset` takes it; or a set.
        recipe: How to train; None for the usual way.
        directory: Where the run is kept, which no other run may be in.
        settings: The network's options.
        weights: A checkpoint, "imagenet" or "random"; None takes bundled weights if there are any.
        onlooker: Who is shown how it goes, and may stop it.

    Returns:
        The run: its best weights are those of the epoch with the highest validation accuracy.

    Raises:
        ValueError: Images, a name, an option, weights or a directory that cannot be used.
        Unsupported: A module that cannot be captured: the run could not be opened without it.
        Diverged: The loss became infinite or no number.
        OSError: The directory cannot be written to.
    """
    recipe, folder = recipe or Recipe(), Path(directory)
    Run.check_free(folder)
    dataset = data if isinstance(data, Dataset) else open_dataset(data, seed=recipe.seed)
    fitted = fit_network(
        network, dict(settings or {}), weights, len(dataset.classes),
        usual_side(dataset.train), recipe.resolution, recipe.seed,
    )  # fmt: skip
    images = TrainingImages.of(dataset, fitted.preprocessing.resize)
    fitted = fitted.measured(images.train)
    how, pretrained = fitted.preprocessing, bool(fitted.weights)
    recipe = fit_recipe(recipe, how.crop, len(images.train.labels), pretrained)
    recipe = choose_precision(fitted.net, recipe, how, images.train)
    run = Run.begin(folder, _record(fitted, dataset, images), recipe)
    _learn(run, fitted.net, images, dataset.test, onlooker or Unseen())
    return run


def resume(
    directory: str | PathLike[str], data: Dataset | None = None, *,
    net: nn.Module | None = None, onlooker: Onlooker | None = None,
) -> Run:  # fmt: skip
    """Go on with a run that was stopped or killed, as if it had not been.

    Args:
        directory: Of the run.
        data: Its images, where they were given as a set and not by name.
        net: Its network, where that was given as a module.
        onlooker: Who is shown how it goes, and may stop it.

    Raises:
        ValueError: There is no run, or its images are not what they were.
        Diverged, OSError: As `train`.
    """
    run = Run.open(directory)
    record = run.record
    dataset = data or open_dataset(record.data, seed=run.recipe.seed)
    images = TrainingImages.of(dataset, record.preprocessing.resize)
    run.check_images(dataset.classes, images.counts)
    _learn(run, run.begun(net), images, dataset.test, onlooker or Unseen())
    return run


def _learn(
    run: Run, net: nn.Module, images: TrainingImages, test: ImageSplit | None, onlooker: Onlooker
) -> None:
    """Train from where the run's directory stands until the schedule ends, or until stopped."""
    recipe = run.recipe
    assert recipe.batch is not None
    device = _device()
    learner = _learner(net.to(device), recipe, run.record.preprocessing)
    progress = _restore(run, learner)
    order = Order(recipe.seed, len(images.train.labels), recipe.batch)
    keeper = Keeper(run, progress, recipe.batch, onlooker)
    pace = Pace(recipe, order, progress)
    if not run.exists:
        keeper.save(learner)
        run.enter()
    if not pace.is_over:
        feed = Feed(images.train, order, device, slice(None))
        fit(learner, feed, images.validation, pace, keeper)
    if run.record.module and progress.epoch:
        run.keep_graph(net)
    if pace.is_over and run.result is None:
        best = run.network(net if run.record.module else None).to(device)
        _finish(run, best, progress, images.validation, test)


def _finish(
    run: Run, net: nn.Module, progress: Progress, validation: Prepared, test: ImageSplit | None
) -> None:
    """Judge the best weights: on what they were chosen by, and once on what nothing was."""
    from depthwise.training.pictures import write_pictures  # noqa: PLC0415  (matplotlib takes a second)

    record, look = run.record, Appearance.of(run.record.preprocessing, run.recipe)
    splits = [validation, *([prepare(test, record.preprocessing.resize)] if test else [])]
    found = [judge(net, look, each, record.classes) for each in splits]
    results = [SplitResult.of(each) for each in found]
    write_pictures(run.directory, found[0], validation, look)
    write_result(
        run.directory,
        RunResult(
            epoch=progress.best_epoch, seconds=progress.seconds, validation=results[0],
            test=results[1] if test else None,
        ),
    )  # fmt: skip


def _learner(net: nn.Module, recipe: Recipe, how: Preprocessing) -> Learner:
    """Return a network together with what changes its weights."""
    assert recipe.learning_rate is not None
    assert recipe.weight_decay is not None
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = parameter_groups(net, recipe.weight_decay, recipe.layer_decay)
    optimizer = make_optimizer(recipe.optimizer, groups, recipe.learning_rate, recipe.momentum)
    look = Appearance.of(how, recipe)
    precision = Precision(recipe.precision, next(net.parameters()).device)
    return Learner(net, net, optimizer, precision, look, recipe)


def choose_precision(
    net: nn.Module, recipe: Recipe, how: Preprocessing, images: Prepared
) -> Recipe:
    """Return the recipe with the precision in which the network learns fastest here."""
    if recipe.precision != "auto":
        return recipe
    assert recipe.batch is not None
    device = _device()
    order = Order(recipe.seed, len(images.labels), recipe.batch)
    batch = next(Feed(images, order, device, slice(None)).since(0))

    def step_in(name: str) -> Callable[[], object]:
        trial = recipe.model_copy(update={"precision": name})
        learner = _learner(copy.deepcopy(net).to(device), trial, how)
        return lambda: learner.learn(batch, 1.0, Progress())

    return recipe.model_copy(update={"precision": fastest(step_in)[0]})


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _restore(run: Run, learner: Learner) -> Progress:
    """Return where a run stands, its network and its optimizer put back there."""
    found = read_state(run.directory) if run.exists else None
    if found is None:
        return Progress()
    progress, tensors = found
    restore(learner.net, learner.optimizer, tensors)
    learner.average.restore(part(tensors, "average."))
    learner.precision.scale = progress.scale
    return progress


def usual_side(split: ImageSplit) -> int:
    """Return the pixels of the shorter side that images of a split usually have: the median.

    Raises ValueError where none of those that are looked at can be read.
    """
    sides, broken = [], ""
    places = np.linspace(0, len(split.images) - 1, LOOKED_AT).astype(int)
    for index in map(int, np.unique(places)):
        name = split.images.name(index)
        try:
            sides.append(shorter_side(split.images.read(index), name))
        except ValueError as error:  # it will be left out, and that said
            broken = str(error)
    if not sides:
        raise ValueError(f"none of {len(np.unique(places))} images can be read: {broken}")
    return int(np.median(sides))


def _record(fitted: FittedNetwork, dataset: Dataset, images: TrainingImages) -> RunRecord:
    return RunRecord(
        network=fitted.network, settings=fitted.settings, module=fitted.is_module,
        weights=fitted.weights, data=dataset.name, classes=dataset.classes,
        preprocessing=fitted.preprocessing, images=images.counts,
        notes=(*dataset.notes, *images.left_out),
    )  # fmt: skip
