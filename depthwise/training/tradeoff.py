"""What width and resolution cost in accuracy: one training for each combination of the two.

The multipliers are those of MobileNets (Howard et al., arXiv:1704.04861, section 3.3): the width
(alpha there) makes every layer's channels fewer, the resolution (rho) the image's sides shorter.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Self

from depthwise.analysis import Cost, cost
from depthwise.compiler.pipeline import compile_source
from depthwise.runtime.library import Library, load
from depthwise.sources.source import torch_source
from depthwise.sources.spec import is_run
from depthwise.training.adapt import FittedNetwork, fit_network
from depthwise.training.begin import resume, train
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.opening import open_dataset
from depthwise.training.defaults import fit_recipe
from depthwise.training.keeper import Onlooker
from depthwise.training.recipe import Recipe
from depthwise.training.resolution import SMALLEST, usual_side
from depthwise.training.result import SplitResult
from depthwise.training.run import Run

LIBRARY = "library"  # of a run: the folder with its network, compiled


@dataclass(frozen=True)
class TradeoffRequest:
    """What is trained, and on what.

    Attributes:
        network: As `train` takes it.
        data: A folder, a file or the name of a set.
        recipe: How to train each.
        settings: The network's other options.
        weights: As `train` takes them.
    """

    network: str
    data: str
    recipe: Recipe
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str | PathLike[str] | None = None


@dataclass(frozen=True, eq=False)
class Combination:
    """A network of one width at one resolution.

    Attributes:
        width: The multiplier of channels; None for a network that is taken as it is.
        share: The multiplier of the resolution.
        side: The resolution that this comes to, in pixels.
        settings: The network's options, with its width, as they were fitted to the images.
        weights: What its first weights are called; empty where they are random.
        cost: What it costs at that resolution.
    """

    width: float | None
    share: float
    side: int
    settings: Mapping[str, Any]
    weights: str
    cost: Cost

    @property
    def name(self) -> str:
        """What its runs are called, without their seed: width-0.5-160px."""
        width = "" if self.width is None else f"width-{self.width:g}-"
        return f"{width}{self.side}px"


class Tradeoff:
    """The trainings of all combinations, each a run in a directory of its own.

    Attributes:
        combinations: In the order in which they are trained: the largest first, then always the one
            that is least like those before, so that a few of them show the whole.
        seeds: Of the trainings of each combination.
    """

    def __init__(
        self, request: TradeoffRequest, directory: Path, combinations: Sequence[Combination],
        datasets: Mapping[int, Dataset],
    ):  # fmt: skip
        self.request, self.directory = request, directory
        self.combinations, self.seeds = combinations, tuple(datasets)
        self._datasets = datasets

    @classmethod
    def plan(
        cls, request: TradeoffRequest, directory: str | PathLike[str], widths: Sequence[float],
        shares: Sequence[float], seeds: int = 1,
    ) -> Self:  # fmt: skip
        """Build and count every combination, and train none.

        Args:
            request: What to train.
            directory: Where the runs are kept; those that are there are taken.
            widths: What the network's option `width` is to be; none leaves it alone.
            shares: Of the resolution that the network and the images have by themselves, above 0,
                and at most 1.
            seeds: How often each is trained: with the recipe's seed and those after it.

        Raises:
            ValueError: Images, a width, a resolution or weights that cannot be used, or a run in
                the directory that is of something else.
        """
        _check("width", widths, math.inf)
        _check("resolution", shares, 1)
        numbers = range(request.recipe.seed, request.recipe.seed + seeds)
        for number in numbers:
            Recipe.of({"seed": number}, "--seeds: ")
        datasets = {number: open_dataset(request.data, seed=number) for number in numbers}
        dataset = datasets[numbers[0]]
        grid = _Grid(request, len(dataset.classes), usual_side(dataset.train))
        found = [[grid.combine(width, share) for share in shares] for width in widths or [None]]
        planned = cls(request, Path(directory), _in_order(found), datasets)
        for combination in planned.combinations:
            for seed in planned.seeds:
                planned._check_run(combination, seed)
        return planned

    @property
    def left(self) -> list[tuple[Combination, int]]:
        """The combinations that are to be trained yet, and with which seeds: each once first."""
        return [
            (each, seed)
            for seed in self.seeds
            for each in self.combinations
            if self.result(each, seed) is None
        ]

    def run_directory(self, combination: Combination, seed: int) -> Path:
        """Return where a training is kept."""
        return self.directory / f"{combination.name}-seed-{seed}"

    def learn(self, combination: Combination, seed: int, onlooker: Onlooker | None = None) -> Run:
        """Train a combination, or go on with its training. Raises what `train` does."""
        folder, dataset = self.run_directory(combination, seed), self._datasets[seed]
        if is_run(folder):
            return resume(folder, dataset, onlooker=onlooker)
        return train(
            self.request.network, dataset, self._recipe(combination, seed), directory=folder,
            settings=_asked(self.request.settings, combination.width),
            weights=self.request.weights, onlooker=onlooker,
        )  # fmt: skip

    def result(self, combination: Combination, seed: int) -> SplitResult | None:
        """Return how right a training was on the test split, or on validation where there is none.

        None where it is not finished.
        """
        folder = self.run_directory(combination, seed)
        if not is_run(folder):
            return None
        found = Run.open(folder).result
        return None if found is None else found.test or found.validation

    @property
    def has_results(self) -> bool:
        """Whether any training is finished."""
        return any(self.result(each, seed) for each in self.combinations for seed in self.seeds)

    @property
    def split(self) -> str:
        """Which images the accuracy is of."""
        return "validation" if self._datasets[self.seeds[0]].test is None else "test"

    def library(self, combination: Combination) -> Library:
        """Return the network of the first finished training, compiled for this machine's CPU.

        It is kept beside the run. Raises what compiling does.
        """
        done = [seed for seed in self.seeds if self.result(combination, seed)]
        assert done, f"{combination.name} was not trained yet"
        folder = self.run_directory(combination, done[0])
        try:
            return load(folder / LIBRARY)
        except ValueError:  # none yet, one for another CPU, or a damaged one
            net = Run.open(folder).network()
            shape = (1, 3, combination.side, combination.side)
            made = compile_source(torch_source(net, [shape]))
            shutil.rmtree(folder / LIBRARY, ignore_errors=True)  # no damaged one is saved over
            made.save(folder / LIBRARY)
            return made

    def _recipe(self, combination: Combination, seed: int) -> Recipe:
        changes = {"resolution": combination.side, "seed": seed}
        return self.request.recipe.model_copy(update=changes)

    def _check_run(self, combination: Combination, seed: int) -> None:
        """Raise ValueError where a combination's directory holds a run of something else."""
        folder, dataset = self.run_directory(combination, seed), self._datasets[seed]
        if not is_run(folder):
            return
        run = Run.open(folder)
        recipe = fit_recipe(
            self._recipe(combination, seed), combination.side, run.record.images["train"],
            bool(combination.weights),
        )  # fmt: skip
        asked: dict[str, Any] = {
            "network": self.request.network, "settings": combination.settings,
            "weights": combination.weights, "data": dataset.name, "classes": dataset.classes,
        } | recipe.model_dump()  # fmt: skip
        kept = run.record.model_dump() | run.recipe.model_dump()
        for name, value in asked.items():
            if kept[name] != value and value != "auto":
                raise ValueError(
                    f"{folder} was trained with {name} {kept[name]}, and {value} is asked for: "
                    "choose another --out, or take the same"
                )


@dataclass(frozen=True)
class _Grid:
    """What all combinations share: the network, and images of so many classes and pixels."""

    request: TradeoffRequest
    classes: int
    images: int

    def combine(self, width: float | None, share: float) -> Combination:
        """Build and count one. Raises ValueError where the network does not take it."""
        usual = self._fit(width, None).preprocessing.crop
        side = round(usual * share)
        if side < SMALLEST:
            raise ValueError(
                f"--resolution {share:g}: of {usual} pixels, that leaves {side}; at least "
                f"{SMALLEST} are accepted"
            )
        fitted = self._fit(width, side)
        try:
            found = cost(fitted.net.eval(), (1, 3, side, side))
        except Exception as error:
            raise ValueError(
                f"{self.request.network} does not take images of {side} pixels, --resolution "
                f"{share:g} of its {usual}: {error}"
            ) from None
        return Combination(width, share, side, fitted.settings, fitted.weights, found)

    def _fit(self, width: float | None, side: int | None) -> FittedNetwork:
        asked = self.request
        try:
            return fit_network(
                asked.network, _asked(asked.settings, width), asked.weights, self.classes,
                self.images, side, asked.recipe.seed,
            )  # fmt: skip
        except ValueError as error:
            if width is None:
                raise
            raise ValueError(f"--width {width:g}: {error}") from None


def _asked(settings: Mapping[str, Any], width: float | None) -> dict[str, Any]:
    """Return a network's options with its width. 1 is said, too: it has no other weights then."""
    return dict(settings) | ({} if width is None else {"width": width})


def _check(option: str, values: Sequence[float], most: float) -> None:
    for value in values:
        if not 0 < value <= most or value == math.inf:
            accepted = f"above 0, at most {most:g}" if most < math.inf else "above 0"
            raise ValueError(f"--{option} {value:g}: a multiplier is accepted, {accepted}")
        if values.count(value) > 1:
            raise ValueError(f"--{option} {value:g}: it is there twice")


def _in_order(rows: Sequence[Sequence[Combination]]) -> list[Combination]:
    """Return a grid's combinations, each as far from all before it as any that is left."""
    for row in rows:
        for each, other in pairwise(row):
            if each.side == other.side:
                raise ValueError(
                    f"--resolution {each.share:g} and {other.share:g} are both {each.side} pixels"
                )
    places = {
        (down / max(1, len(rows) - 1), across / max(1, len(row) - 1)): each
        for down, row in enumerate(rows)
        for across, each in enumerate(row)
    }
    left = list(places)
    order = [max(left, key=lambda place: places[place].cost.macs)]
    left.remove(order[0])
    while left:
        order.append(max(left, key=lambda place: min(math.dist(place, each) for each in order)))
        left.remove(order[-1])
    return [places[place] for place in order]
