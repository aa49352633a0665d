"""`dw.evaluate`: how right a run or a compiled library is on labelled images."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from depthwise.compiler.verification.verify import TOLERANCE
from depthwise.cores import usable_cores
from depthwise.progress import report_progress
from depthwise.runtime.library import load
from depthwise.runtime.manifest import NAME as MANIFEST
from depthwise.sources.quantized_folder import open_quantized
from depthwise.sources.run_folder import open_run
from depthwise.sources.slimmed_folder import open_slimmed
from depthwise.sources.spec import (
    QUANTIZED,
    QUANTIZED_RECORD,
    RECORD,
    RUN,
    SLIMMED,
    SLIMMED_RECORD,
    is_quantized,
    is_run,
    is_slimmed,
    run_directory,
)
from depthwise.training.classifier import (
    ImageClassifier,
    classifier_of_library,
    classifier_of_network,
)
from depthwise.training.data.assembling import listed
from depthwise.training.data.dataset import Dataset, ImageSource, ImageSplit
from depthwise.training.data.decode import decode_framed
from depthwise.training.data.opening import open_dataset
from depthwise.training.data.squares import MOST_BROKEN, in_order, or_why_not
from depthwise.training.evaluation import Evaluation
from depthwise.training.result import SplitResult
from depthwise.training.run import Run
from depthwise.weights import Preprocessing

AT_ONCE = 32  # images that a classifier is given
AHEAD = 4  # images a core that are decoded before they are asked for

SplitName = Literal["validation", "test"]


@dataclass(frozen=True)
class Agreement:
    """Whether two classifiers name the same class in each image.

    Attributes:
        images: How many were compared.
        equal: In how many both name the same.
        ties: In how many others the two classes' scores are as good as the same: they differ by
            less than a library may differ from its network.
        different: What the rest is called.
    """

    images: int
    equal: int
    ties: int
    different: tuple[str, ...]

    @classmethod
    def of(cls, reference: Evaluation, other: Evaluation) -> "Agreement":
        """Compare what two say of the same images."""
        rows = np.arange(len(reference.labels))
        equal = reference.predictions == other.predictions
        scores = reference.scores
        margin = scores[rows, reference.predictions] - scores[rows, other.predictions]
        tied = ~equal & (margin <= TOLERANCE * np.abs(scores).max(1))
        different = tuple(str(reference.names[row]) for row in rows[~equal & ~tied])
        return cls(len(rows), int(equal.sum()), int(tied.sum()), different)

    def __str__(self) -> str:
        """Return it in words."""
        parts = [f"the same class in {self.equal:,} of {self.images:,} images"]
        if self.ties:
            parts.append(f"{self.ties:,} ties")
        if self.different:
            more = len(self.different) - 1
            rest = f" and {more:,} more" if more else ""
            parts.append(f"ANOTHER CLASS in {self.different[0]}{rest}")
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Judgement:
    """How right something is on a split of labelled images.

    Attributes:
        name: What was judged.
        data: What the images are called.
        split: Which of them: "validation" or "test".
        found: The scores of each image, beside its true class.
        seconds: What computing the scores took, decoding left out.
        left_out: A sentence for each image that cannot be read.
        pixels: Returns an image as it was seen, by its place among those that were judged: uint8,
            (H, W, 3).
        against: The name of what it was compared with; empty where with nothing.
        agreement: Whether both name the same class in each image.
    """

    name: str
    data: str
    split: SplitName
    found: Evaluation
    seconds: float
    left_out: tuple[str, ...]
    pixels: Callable[[int], np.ndarray]
    against: str = ""
    agreement: Agreement | None = None

    @property
    def result(self) -> SplitResult:
        """The accuracy and that of each class, with intervals."""
        return SplitResult.of(self.found)

    def beside(self, other: "Judgement") -> "Judgement":
        """Return the same with how far another judgement of the same images agrees."""
        agreement = Agreement.of(other.found, self.found)
        return replace(self, against=other.name, agreement=agreement)

    def draw(self, directory: str | PathLike[str]) -> None:
        """Write confusion.png, classes.png and mistakes.png to a directory. Raises OSError."""
        from depthwise.training.pictures import (  # noqa: PLC0415
            worst_mistakes,
            write_judgement,
        )

        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        images = [self.pixels(int(place)) for place in worst_mistakes(self.found)]
        write_judgement(self.found, images, folder)

    @property
    def images_per_second(self) -> float:
        """How many images are named in a second, decoding left out."""
        return len(self.found.labels) / self.seconds


def evaluate(
    what: "str | PathLike[str] | Run", data: str | PathLike[str] | Dataset | None = None, *,
    split: SplitName = "validation", against: "str | PathLike[str] | Run | None" = None,
) -> Judgement:  # fmt: skip
    """Judge a run or a compiled library on labelled images. Classes are matched by their names.

    Args:
        what: The directory of a run or of a library; or a run.
        data: Images, as `dw.train` takes them; None takes those of the run.
        split: Which of them: "validation" or "test".
        against: Another run or library, to tell whether both name the same class in each image: a
            library is held against the run that it was made of.

    Returns:
        The scores of each image, accuracy with its interval, by class, and images a second.

    Raises:
        ValueError: What is neither a run nor a library, images that cannot be used, or a class of
            theirs that it does not know.
    """
    compared = [what, *([against] if against is not None else [])]
    classifiers = [open_classifier(each) for each in compared]
    runs = [Run.open(each) for each in map(_directory, compared) if is_run(each)]
    if runs:
        data = runs[0].images(data)
    elif data is None:
        raise ValueError(f"{what} is no run, which would know its images: give data")
    elif not isinstance(data, Dataset):
        data = open_dataset(data)
    own, *others = judge_classifiers(classifiers, data, split)
    return own.beside(others[0]) if others else own


def open_classifier(what: "str | PathLike[str] | Run") -> ImageClassifier:
    """Open the directory of a run or of a library. Raises ValueError for any other."""
    directory = _directory(what)
    if is_run(directory):
        return classifier_of_network(open_run(directory), f"{RUN}{directory}")
    if is_slimmed(directory):
        return classifier_of_network(open_slimmed(directory), f"{SLIMMED}{directory}")
    if is_quantized(directory):
        return classifier_of_network(open_quantized(directory), f"{QUANTIZED}{directory}")
    if (directory / MANIFEST).is_file():
        return classifier_of_library(load(directory), directory)
    raise ValueError(
        f"{directory} is neither a run (there is no {RECORD} in it, as `depthwise train` writes) "
        f"nor a slimmed network (no {SLIMMED_RECORD}) nor a quantised one (no {QUANTIZED_RECORD}) "
        f"nor a compiled library (no {MANIFEST})"
    )


def _directory(what: "str | PathLike[str] | Run") -> Path:
    return what.directory if isinstance(what, Run) else run_directory(what)


def judge_classifiers(
    classifiers: Sequence[ImageClassifier], data: Dataset, split: SplitName
) -> list[Judgement]:
    """Return what each of some classifiers says of the images of a split, which are decoded once.

    Raises ValueError where there is no such split, where classes are not those of a classifier, and
    where too many images cannot be read.
    """
    images = data.validation if split == "validation" else data.test
    if images is None:
        raise ValueError(f"{data.name} has no test images: choose the validation split")
    places = [match_classes(data, images, each) for each in classifiers]
    judges = [Judge(each) for each in classifiers]
    framings = tuple(dict.fromkeys(judge.framing for judge in judges))
    kept: list[int] = []
    left_out: list[str] = []
    for indices, pixels in _batches(images.images, framings, left_out):
        for judge in judges:
            judge.see(pixels[judge.framing])
        kept += indices
    if len(left_out) > MOST_BROKEN * len(images.labels):
        raise ValueError(
            f"{len(left_out)} of {len(images.labels)} images cannot be read, and over "
            f"{MOST_BROKEN:.0%} are not left out: {left_out[0]}"
        )
    names, labels = [images.images.name(index) for index in kept], images.labels[kept]

    def judgement(judge: Judge, places: np.ndarray) -> Judgement:
        def pixels_of(place: int) -> np.ndarray:
            content, name = images.images.read(kept[place]), names[place]
            return decode_framed(content, name, judge.framing).transpose(1, 2, 0)

        who, scores = judge.classifier, np.concatenate(judge.scores)
        found = Evaluation(who.classes, places[labels], scores, names)
        found.check_numbers(who.name, "it names no class in these")
        return Judgement(
            who.name, data.name, split, found, judge.seconds, tuple(left_out), pixels_of
        )

    return list(map(judgement, judges, places))


class Judge:
    """A classifier, what it said of the images so far, and how long it took.

    Attributes:
        classifier: The classifier.
        framing: Which pixels of an image it sees.
        scores: Of batches of images, (N, classes).
        seconds: What computing them took.
    """

    def __init__(self, classifier: ImageClassifier):
        self.classifier, self.framing = classifier, classifier.preprocessing.framing
        self.scores: list[np.ndarray] = []
        self.seconds = 0.0

    def see(self, pixels: np.ndarray) -> None:
        """Take the scores of a batch of images, uint8 (N, 3, S, S)."""
        images = self.classifier.preprocessing.normalised(torch.from_numpy(pixels)).numpy()
        start = time.perf_counter()
        self.scores.append(self.classifier.scores(images))
        self.seconds += time.perf_counter() - start


def match_classes(data: Dataset, split: ImageSplit, classifier: ImageClassifier) -> np.ndarray:
    """Return the place of each class of the images among those of a classifier, by its name.

    A class without images in the split has none, which is -1. Raises ValueError for a class that
    the classifier does not know, or of which it has two.
    """
    places = np.full(len(data.classes), -1)
    used = [data.classes[label] for label in np.unique(split.labels)]
    unknown = [name for name in used if name not in classifier.classes]
    if unknown:
        raise ValueError(
            f"{data.name} has classes that {classifier.name} does not know: {listed(unknown)}; "
            f"it knows {listed(classifier.classes)}"
        )
    for name in used:
        if classifier.classes.count(name) > 1:
            raise ValueError(f"{classifier.name} has two classes that are called {name!r}")
        places[data.classes.index(name)] = classifier.classes.index(name)
    return places


def _batches(
    images: ImageSource, framings: Sequence[Preprocessing], left_out: list[str]
) -> Iterator[tuple[list[int], dict[Preprocessing, np.ndarray]]]:
    """Yield indices and pixels of some images, uint8 (N, 3, S, S); note those left out."""
    indices: list[int] = []
    pixels: list[tuple[np.ndarray, ...]] = []

    def batch() -> tuple[list[int], dict[Preprocessing, np.ndarray]]:
        rows = map(np.stack, zip(*pixels, strict=True))
        return indices, dict(zip(framings, rows, strict=True))

    for index, seen in enumerate(_decoded(images, framings)):
        if isinstance(seen, str):
            left_out.append(seen)
            continue
        indices.append(index)
        pixels.append(seen)
        if len(indices) == AT_ONCE:
            yield batch()
            indices, pixels = [], []
    if indices:
        yield batch()


def _decoded(
    images: ImageSource, framings: Sequence[Preprocessing]
) -> Iterator[tuple[np.ndarray, ...] | str]:
    """Yield of each image the pixels of each framing, or a sentence on what is wrong with it."""

    def frame(content: bytes | np.ndarray, name: str) -> tuple[np.ndarray, ...]:
        return tuple(decode_framed(content, name, how) for how in framings)

    total = len(images)
    with (
        report_progress(f"judging {total} images", total, pace="judging") as advance,
        ThreadPoolExecutor(usable_cores(), "decoding") as pool,
    ):
        decode = partial(or_why_not, images, decode=frame)
        for seen in in_order(pool, decode, range(total), AHEAD * usable_cores()):
            yield seen
            advance(1)
