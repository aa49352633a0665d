"""`dw.train` and `dw.resume`: labelled images and a network to a run."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from depthwise.escaping import in_text, is_text, kind_of
from depthwise.layers import add_branches
from depthwise.sources.run_folder import RunRecord
from depthwise.sources.spec import is_untrained
from depthwise.training.adapt import FittedNetwork, fit_network
from depthwise.training.augment import Appearance, layout_of
from depthwise.training.compiled import compiled
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.opening import open_dataset
from depthwise.training.data.squares import Prepared, prepare
from depthwise.training.defaults import fit_recipe
from depthwise.training.distill import Distillation
from depthwise.training.distributed import Replicas, World, joined
from depthwise.training.feed import Feed
from depthwise.training.keeper import Follower, Keeper, Onlooker, Unseen
from depthwise.training.learner import Learner, judge
from depthwise.training.loop import fit
from depthwise.training.losses import CrossEntropy, Loss
from depthwise.training.mixing import Mixing
from depthwise.training.optimizer import make_optimizer, parameter_groups
from depthwise.training.order import Order
from depthwise.training.pace import Pace
from depthwise.training.precision import MixedPrecision, fastest, say_slow, step_times
from depthwise.training.quantised import check_quantised, quantised
from depthwise.training.recipe import Recipe
from depthwise.training.resolution import usual_side
from depthwise.training.result import RunResult, SplitResult, write_result
from depthwise.training.run import Run
from depthwise.training.schedule import Moment
from depthwise.training.state import Progress, part, restore
from depthwise.training.teacher import Teacher, open_teacher
from depthwise.training.trial import check_trainable
from depthwise.weights import Preprocessing

FEW = 4  # images by which a precision is timed that may be far too slow for a batch


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """What a run learns from and what its epochs are compared on, as squares of pixels.

    The test images are in `dataset` alone: they are decoded when all is decided.
    """

    dataset: Dataset
    train: Prepared
    validation: Prepared

    @classmethod
    def of(cls, dataset: Dataset, side: int) -> "TrainingImages":
        """Decode them, to squares of `side` pixels. Raises ValueError where too many are broken."""
        return cls(dataset, prepare(dataset.train, side), prepare(dataset.validation, side))

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

    Where several processes call it that torchrun or Ray Train has started, they train one network:
    see docs/scaling.md.

    Args:
        network: A name of `dw.list_models()`, timm:NAME, torchvision:NAME, package.module:factory
            or path/file.py:factory; run:DIRECTORY goes on from a run's best weights,
            slimmed:DIRECTORY, quantized:DIRECTORY and the file of a network from its own; or a
            module, of which a copy is trained. Its classifier gets the images' classes; its stem
            and its resolution are fitted to the images where `settings` and the recipe do not say
            them.
        data: A folder, a file or the name of a set, as `open_dataset` takes it; or a set.
        recipe: How to train; None for the usual way.
        directory: Where the run is kept, which no other run may be in.
        settings: The network's options.
        weights: A checkpoint, "imagenet" or "random"; None takes bundled weights if there are any.
        onlooker: Who is shown how it goes, and may stop it.

    Returns:
        The run: its best weights are those of the epoch with the highest validation accuracy.

    Raises:
        ValueError: Images, a name, an option, weights, a teacher or a directory that is of no use.
        Unsupported: A module that cannot be captured: the run could not be opened without it.
        Diverged: The loss became infinite or no number.
        TooLarge: The device's memory does not hold a few images.
        LostPeer: Another process of the training ended.
        OSError: The directory cannot be written to.
    """
    began = time.perf_counter()
    _check_types(network, recipe, settings)
    recipe, folder, onlooker = recipe or Recipe(), Path(directory), onlooker or Unseen()
    with joined() as world:
        world.tell(lambda: Run.check_free(folder))
        _check_together(world, recipe)
        dataset = data if isinstance(data, Dataset) else open_dataset(data, seed=recipe.seed)
        fitted = fit_network(
            network, dict(settings or {}), weights, len(dataset.classes),
            usual_side(dataset.train), recipe.resolution, recipe.seed,
        )  # fmt: skip
        given = network if isinstance(network, nn.Module) and not recipe.quantize else None
        if recipe.frozen and _is_random(fitted):
            raise ValueError(
                f"frozen={recipe.frozen}: the weights of {fitted.network} are random, and a "
                "classifier alone learns nothing from them: leave out frozen, or name weights"
            )
        check_quantised(fitted, recipe, _is_random(fitted))
        branch(fitted.net, recipe)
        known = open_teacher(recipe, dataset.classes)
        images = TrainingImages.of(dataset, fitted.preprocessing.resize)
        fitted = fitted.measured(images.train)
        how, pretrained = fitted.preprocessing, bool(fitted.weights)
        recipe = fit_recipe(recipe, how.crop, len(images.train.labels), pretrained, world.size)
        look = Appearance.of(how, recipe)
        if recipe.quantize:
            fitted = quantised(fitted, look, images.train, onlooker.say)
        check_trainable(
            fitted.network, fitted.net, recipe, look, images.train, len(dataset.classes)
        )
        recipe = choose_precision(world, fitted.net, recipe, how, images.train, onlooker)
        teacher = Teacher(known, how, dataset.classes) if known else None
        accuracy = _accuracy(world, teacher, look, images.validation, dataset.classes)
        if accuracy is not None:
            onlooker.say(f"the teacher, {recipe.teacher}: validation accuracy {accuracy:.2%}")
        record = _record(fitted, images, accuracy, recipe.quantize)
        run = world.tell(lambda: Run.begin(folder, record, recipe, fitted.graph)).holding(given)
        with _alone(world, run):
            world.tell(lambda: Run.check_free(folder))  # nor did another training end meanwhile
            _learn(world, run, fitted.net, images, onlooker, teacher, began)
        return run


def resume(
    directory: str | PathLike[str], data: str | PathLike[str] | Dataset | None = None, *,
    net: nn.Module | None = None, onlooker: Onlooker | None = None,
) -> Run:  # fmt: skip
    """Go on with a run that was stopped or killed, as if it had not been.

    Args:
        directory: Of the run.
        data: Its images, where they were given as a set and not by name, or have been moved.
        net: Its network, where that was given as a module.
        onlooker: Who is shown how it goes, and may stop it.

    Raises:
        ValueError: There is no run, or its images are not what they were.
        Diverged, TooLarge, OSError: As `train`.
    """
    began = time.perf_counter()
    with joined() as world:
        run = world.tell(lambda: Run.open(directory)).holding(net)
        _check_together(world, run.recipe)
        record = run.record
        dataset = run.images(data)
        images = TrainingImages.of(dataset, record.preprocessing.resize)
        learning = run.begun()
        branch(learning, run.recipe)
        known, how = open_teacher(run.recipe, record.classes), record.preprocessing
        teacher = Teacher(known, how, record.classes) if known else None
        with _alone(world, run):
            _learn(world, run, learning, images, onlooker or Unseen(), teacher, began)
        return run


@contextmanager
def _alone(world: World, run: Run) -> Iterator[None]:
    """Let no other training be in a run's directory. Raises ValueError where one is."""
    with ExitStack() as held:
        world.tell(lambda: held.enter_context(run.alone()))
        yield


def _check_types(network: object, recipe: object, settings: object) -> None:
    """Raise ValueError for arguments of `train` that are of no use, before they are used."""
    if not isinstance(network, str | nn.Module):
        raise ValueError(f"network is {kind_of(network)}: a name or a module is accepted")
    if not isinstance(recipe, Recipe | None):
        raise ValueError(
            f"recipe is {kind_of(recipe)}: a Recipe is accepted, as in Recipe(epochs=3) or "
            "Recipe.read(path)"
        )
    if not isinstance(settings, Mapping | None):
        raise ValueError(f"settings is {kind_of(settings)}: a dict of options is accepted")


def _check_together(world: World, recipe: Recipe) -> None:
    """Raise ValueError for a recipe by which the processes of a world cannot train."""
    world.share(recipe.batch or world.size)
    if recipe.compile and world.size > 1:
        raise ValueError(
            "compile is for one process: PyTorch's compiler does not take BatchNorm's statistics "
            "over several; leave it out"
        )


def _learn(
    world: World, run: Run, net: nn.Module, images: TrainingImages, onlooker: Onlooker,
    teacher: Teacher | None, began: float,
) -> None:  # fmt: skip
    """Train from where the run's directory stands until the schedule ends, or until stopped.

    What has passed since `began`, by the clock, is a part of the time that the run may take.
    """
    recipe = run.recipe
    assert recipe.batch is not None
    run.check_images(images.dataset.classes, images.counts)  # those of the first process
    if world.tell(lambda: run.exists and run.result is not None):
        return
    share = world.share(recipe.batch)
    world.meet()
    learner = _learner(world, net, recipe, run.record.preprocessing, teacher)
    progress = _restore(world, run, learner)
    progress.seconds += time.perf_counter() - began
    order = Order(recipe.seed, len(images.train.labels), recipe.batch)
    follower = Follower(progress, onlooker, world)
    with closing(Keeper(run, progress, onlooker, world) if world.leads else follower) as keeper:
        pace = Pace(recipe, order, progress, world)
        keeper.begin(learner)
        if not pace.is_over:
            feed = Feed(images.train, order, world.device, share, Mixing.of(recipe))
            fit(learner, feed, images.validation, pace, keeper)
    if run.record.module and progress.epoch:
        world.tell(run.keep_graph)
    if pace.is_over:
        world.tell(lambda: _finish(run, progress, images, world.device))


def _finish(run: Run, progress: Progress, images: TrainingImages, device: torch.device) -> None:
    """Judge the best weights: on what they were chosen by, and once on what nothing was."""
    from depthwise.training.pictures import write_pictures  # noqa: PLC0415  (matplotlib is slow)

    record, test = run.record, images.dataset.test
    net, look = run.network().to(device), Appearance.of(record.preprocessing, run.recipe)
    splits = [images.validation, *([prepare(test, record.preprocessing.resize)] if test else [])]
    found = [judge(net, look, each, record.classes) for each in splits]
    results = [SplitResult.of(each) for each in found]
    write_pictures(run.directory, found[0], images.validation, look)
    if record.quantize:
        run.keep_integers()
    write_result(
        run.directory,
        RunResult(
            epoch=progress.best_epoch, seconds=progress.seconds, validation=results[0],
            test=results[1] if test else None,
        ),
    )  # fmt: skip


def _learner(
    world: World, net: nn.Module, recipe: Recipe, how: Preprocessing, teacher: Teacher | None = None
) -> Learner:
    """Return a network together with what changes its weights."""
    assert recipe.learning_rate is not None
    assert recipe.weight_decay is not None
    net = net.to(world.device, memory_format=layout_of(recipe))  # type: ignore[call-overload]
    loss: Loss = CrossEntropy(recipe.label_smoothing)
    groups = parameter_groups(net, recipe.weight_decay, recipe.layer_decay)
    if teacher:
        loss = Distillation(teacher, net, how.crop, recipe)
        groups += parameter_groups(loss.weights, recipe.weight_decay) if loss.weights else []
    optimizer = make_optimizer(recipe.optimizer, groups, recipe.learning_rate, recipe.momentum)
    precision = MixedPrecision(recipe.precision, world.device)
    model = Replicas(net, world, compiled(net) if recipe.compile else net)
    return Learner(net, model, optimizer, precision, Appearance.of(how, recipe), recipe, loss)


def _accuracy(
    world: World, teacher: Teacher | None, look: Appearance, data: Prepared,
    classes: tuple[str, ...],
) -> float | None:  # fmt: skip
    """Return the share of images that a teacher names rightly; None where it knows other names."""
    if teacher is None or not teacher.knows:
        return None
    there = teacher.to(world.device)

    def find() -> float:
        found = judge(there, look, data, classes)
        found.check_numbers("the teacher", "nothing can be learned from it")
        return found.accuracy

    return world.tell(find)


def _is_random(fitted: FittedNetwork) -> bool:
    """Tell whether a network begins with random weights; those of a module are its user's."""
    if fitted.is_module:
        return False
    return is_untrained(fitted.network, fitted.settings, fitted.weights)


def branch(net: nn.Module, recipe: Recipe) -> None:
    """Give a network the branches that it has while it is trained by a recipe."""
    if recipe.branches > 1:
        torch.manual_seed(recipe.seed)
        add_branches(net, recipe.branches)


def choose_precision(
    world: World, net: nn.Module, recipe: Recipe, how: Preprocessing, images: Prepared,
    onlooker: Onlooker,
) -> Recipe:  # fmt: skip
    """Return the recipe with the precision in which the network learns fastest here.

    One that the recipe names stays; where it is slow, the onlooker hears of it. The first process
    finds it by itself, with its share of a batch.
    """
    if recipe.precision == "fp32":
        return recipe
    if recipe.quantize and recipe.precision == "auto":  # bf16 rounds what uint8 tells apart
        return recipe.model_copy(update={"precision": "fp32"})
    assert recipe.batch is not None
    order = Order(recipe.seed, len(images.labels), recipe.batch)
    share = world.share(recipe.batch)
    batch = next(Feed(images, order, world.device, share, Mixing.of(recipe)).since(0))
    alone = World(0, 1, world.device)
    few = next(batch.parts(-(-len(batch.labels) // FEW)))

    def step_in(name: str, of_few: bool) -> Callable[[], object]:
        trial = recipe.model_copy(update={"precision": name})
        learner = _learner(alone, copy.deepcopy(net), trial, how)
        return lambda: learner.learn(few if of_few else batch, Moment(1.0, None), Progress())

    if recipe.precision == "auto":
        times = world.tell(lambda: step_times(step_in))
        return recipe.model_copy(update={"precision": fastest(times)})
    times = world.tell(lambda: step_times(step_in, [recipe.precision]))
    if world.leads and (said := say_slow(recipe.precision, times)):
        onlooker.say(said)
    return recipe


def _restore(world: World, run: Run, learner: Learner) -> Progress:
    """Return where a run stands, its network and its optimizer put back there."""
    found = world.tell(lambda: run.read_state() if run.exists else None)
    if found is None:
        return Progress()
    progress, tensors = found
    restore(learner.learning, learner.optimizer, tensors)
    learner.average.restore(part(tensors, "average."))
    learner.precision.restore(progress.scale, progress.since_overflow)
    return progress


def _record(
    fitted: FittedNetwork,
    images: TrainingImages,
    teacher_accuracy: float | None,
    quantize: str | None,
) -> RunRecord:
    dataset = images.dataset
    for name in (dataset.name, fitted.network, fitted.weights):
        if not is_text(name):
            raise ValueError(f"{in_text(name)} is not in UTF-8, as a run's record is: rename it")
    return RunRecord(
        network=fitted.network, settings=fitted.settings, module=fitted.is_module,
        weights=fitted.weights, data=dataset.name, classes=dataset.classes,
        preprocessing=fitted.preprocessing, images=images.counts,
        notes=tuple(map(in_text, (*dataset.notes, *images.left_out))),
        teacher_accuracy=teacher_accuracy, quantize=quantize or "",
        kept=tuple(sorted(fitted.encoding.kept)) if fitted.encoding else (),
    )  # fmt: skip
