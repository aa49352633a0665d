"""Images to calibrate on: from whatever holds them to tensors, prepared as weights want them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthwise.calibration.images import as_tensor
from depthwise.escaping import counted, kind_of
from depthwise.graph import Graph
from depthwise.progress import track
from depthwise.training.data.assembling import listed
from depthwise.training.data.dataset import Dataset, ImageSource, ImageSplit
from depthwise.training.data.decode import IMAGE_SUFFIXES, decode_framed
from depthwise.training.data.opening import open_dataset
from depthwise.training.data.squares import MOST_BROKEN, or_why_not
from depthwise.training.framing import Framed, choose_framing, has_border
from depthwise.weights import Preprocessing, WeightsRecord, imagenet_preprocessing

HELD_OUT = 0.2  # of the images, to measure on
JUDGED = 2000  # validation images, at most, on which accuracy is told
MEASURED = 256  # images that tell how they are to be prepared
LOOSE = "a folder of images alone, without labels"
FEWEST = 16  # images that anything can be told from

Matched = tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]  # places, classes and notes


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """Images that a network is slimmed or quantised with, as it takes them: float32, (N, C, H, W).

    Attributes:
        said: What they are called.
        images: What statistics are taken on, and weights fitted.
        held: Others, on which it is measured what came of it.
        validation: Images that nothing is chosen on, with the places of their classes among the
            network's scores; None where there are no labels.
        dataset: What to train on; None where there is none.
        classes: The names of the scores' classes; empty where they are not known.
        preprocessing: How an image becomes what the network takes; None where that is not known.
        notes: Sentences on what was found.
    """

    said: str
    images: Tensor
    held: Tensor
    validation: tuple[Tensor, np.ndarray] | None = None
    dataset: Dataset | None = None
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()


def gather(
    data: Any, graph: Graph, known: WeightsRecord | None, count: int, seed: int = 0,
    needs_classes: bool = True,
) -> CalibrationData:  # fmt: skip
    """Return images from whatever was given.

    Args:
        data: Labelled images as `dw.train` takes them, a folder of images without labels, an array
            of images as the network takes them, or such an array and the numbers of the classes.
        graph: The network.
        known: What its weights record, if anything, of classes and images.
        count: How many images to take, at most.
        seed: Of which are taken.
        needs_classes: Whether labelled images of other classes than the network's are refused;
            else they are taken as images without labels.

    Raises ValueError for what cannot be used.
    """
    if count < FEWEST:
        raise ValueError(
            f"calibrating on {counted(count, 'image')}: at least {FEWEST} are needed, and some "
            "hundred do better"
        )
    if isinstance(data, np.ndarray | Tensor):
        return _of_arrays(data, None, graph, count, seed)
    if isinstance(data, tuple) and len(data) == 2:
        return _of_arrays(data[0], np.asarray(data[1]), graph, count, seed)
    _check_takes_images(graph)
    if isinstance(data, str | PathLike):
        loose = loose_images(Path(fspath(data)))
        if loose:
            return _of_files(_Files(loose), str(data), graph, known, count, seed)
        data = open_dataset(data, seed=seed, beside=LOOSE)
    if not isinstance(data, Dataset):
        raise ValueError(
            f"data is {kind_of(data)}: give images as dw.train takes them, a folder of images, an "
            "array of images as the network takes them, or (images, classes)"
        )
    matched = _match(data, graph, known)
    if not isinstance(matched, str):
        return _of_dataset(data, matched, graph, known, count, seed)
    if needs_classes:
        raise ValueError(matched)
    found = _of_files(data.train.images, data.name, graph, known, count, seed)
    return replace(found, notes=(f"accuracy is not told: {matched}", *found.notes))


def _check_takes_images(graph: Graph) -> None:
    shapes = [type_.shape for type_ in graph.inputs.values()]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3 or shapes[0][2] != shapes[0][3]:
        raise ValueError(
            f"the network takes {' and '.join(map(str, shapes))}: images are prepared for (1, 3, "
            "SIDE, SIDE); for others give an array of them"
        )


def _of_arrays(
    images: Any, labels: np.ndarray | None, graph: Graph, count: int, seed: int
) -> CalibrationData:
    x = as_tensor(graph, images)
    _check_enough(len(x), "the array")
    order = np.random.default_rng(seed).permutation(len(x))
    judged = 0 if labels is None else min(JUDGED, int(HELD_OUT * len(x)))
    fit, held = _parted(x[torch.from_numpy(order[judged:][:count])])
    found = CalibrationData(f"{len(x):,} images", fit, held)
    if labels is None:
        return found
    scores = _score_count(graph)
    if scores is None:
        raise ValueError(
            "classes of the images are given, and the network returns no vector of scores of "
            "classes: give the images alone"
        )
    _check_classes(labels, len(x), scores)
    chosen = order[:judged]
    return replace(found, validation=(x[torch.from_numpy(chosen)], labels[chosen]))


def _check_classes(labels: np.ndarray, images: int, most: int) -> None:
    whole = labels.shape == (images,) and labels.dtype.kind in "iu"
    if not whole or labels.min() < 0 or labels.max() >= most:
        raise ValueError(
            f"classes of {images} images, as an array of {labels.dtype} and the shape "
            f"{labels.shape}: {images} whole numbers from 0 to {most - 1} are accepted"
        )


def _of_files(
    images: ImageSource, said: str, graph: Graph, known: WeightsRecord | None, count: int, seed: int
) -> CalibrationData:
    order = _drawn(len(images), count, seed)
    how, notes = _choose(images, order, graph, known)
    x, left_out = read_all(images, order, how)
    _check_enough(len(x), said)
    fit, held = _parted(x)
    classes = known.class_names if known else ()
    return CalibrationData(said, fit, held, None, None, classes, how, (*notes, *left_out))


def _of_dataset(
    data: Dataset, matched: Matched, graph: Graph, known: WeightsRecord | None, count: int,
    seed: int,
) -> CalibrationData:  # fmt: skip
    places, classes, notes = matched
    found = _of_files(data.train.images, data.name, graph, known, count, seed)
    how, split = found.preprocessing, data.validation
    assert how is not None
    chosen = _drawn(len(split.labels), JUDGED, seed)
    x, left_out = read_all(split.images, chosen, how, skipped := [])
    kept = np.setdiff1d(np.arange(len(chosen)), skipped)
    if has_border(how):
        data = _with_borders(data, how)
    return replace(
        found, validation=(x, places[split.labels[chosen[kept]]]), dataset=data, classes=classes,
        notes=(*notes, *found.notes, *left_out),
    )  # fmt: skip


def _match(data: Dataset, graph: Graph, known: WeightsRecord | None) -> Matched | str:
    """Return the place of each class among the scores, the scores' names, and notes.

    Where the images have other classes than the network, return that in words.
    """
    count, own = _score_count(graph), data.classes
    names = known.class_names if known else ()
    if names and set(own) <= set(names):
        return np.array([names.index(each) for each in own]), names, ()
    advice = "give images of its classes, or a folder of images alone, without classes"
    if names:
        strange = [each for each in own if each not in names]
        return (
            f"{data.name} has classes that the network does not know: {listed(strange)}; it knows "
            f"{listed(names)}: {advice}"
        )
    if count != len(own):
        scores = f"{count} scores" if count else "no scores of classes"
        return f"{data.name} has {len(own)} classes, the network {scores}: {advice}"
    note = f"its weights do not record classes: they are taken to be {listed(own)}, in this order"
    return np.arange(len(own)), own, (note,)


def _score_count(graph: Graph) -> int | None:
    """Return how many classes a network gives scores of, None where it gives none."""
    shapes = [graph.type(output.value).shape for output in graph.outputs]
    return shapes[0][1] if len(shapes) == 1 and len(shapes[0]) == 2 else None


def _with_borders(data: Dataset, how: Preprocessing) -> Dataset:
    """Return images that have their borders: training enlarges small ones."""

    def bordered(split: ImageSplit) -> ImageSplit:
        return ImageSplit(Framed(split.images, how), split.labels)

    test = bordered(data.test) if data.test else None
    return replace(
        data, train=bordered(data.train), validation=bordered(data.validation), test=test
    )


def _choose(
    images: ImageSource, order: np.ndarray, graph: Graph, known: WeightsRecord | None
) -> tuple[Preprocessing, tuple[str, ...]]:
    """Return how images are prepared, by some of them that can be read."""
    if known is not None:
        return choose_framing(graph, known, ())
    usual = imagenet_preprocessing(next(iter(graph.inputs.values())).shape[-1])

    def decodable(content: bytes | np.ndarray, name: str) -> tuple[bytes | np.ndarray, str]:
        decode_framed(content, name, usual)  # as it is in each of the ways that are tried
        return content, name

    read = [or_why_not(images, index, decodable) for index in map(int, order[:MEASURED])]
    some = [each for each in read if not isinstance(each, str)]
    if not some:
        raise ValueError(f"none of {counted(len(read), 'image')} can be read: {read[0]}")
    return choose_framing(graph, known, some)


def read_all(
    images: ImageSource, order: Sequence[int] | np.ndarray, how: Preprocessing,
    skipped: list[int] | None = None,
) -> tuple[Tensor, tuple[str, ...]]:  # fmt: skip
    """Return images as the network takes them, and a sentence for each that cannot be read.

    The places of those are added to `skipped`. Raises ValueError where they are many.
    """
    pixels, left_out = [], []
    for place, index in enumerate(track(list(map(int, order)), "reading images")):
        found = or_why_not(images, index, partial(decode_framed, how=how))
        if isinstance(found, str):
            left_out.append(found)
            if skipped is not None:
                skipped.append(place)
        else:
            pixels.append(found)
    if len(left_out) > MOST_BROKEN * len(order):
        raise ValueError(
            f"{len(left_out)} of {len(order)} images cannot be read, and over {MOST_BROKEN:.0%} "
            f"are not left out: {left_out[0]}"
        )
    return how.normalised(torch.from_numpy(np.stack(pixels))), tuple(left_out)


def loose_images(folder: Path) -> list[Path]:
    """Return the images of a folder that has no folders of images; none for any other."""
    if not folder.is_dir():
        return []
    inside = [each for each in folder.iterdir() if each.is_dir() and each.name[0] != "."]
    if inside:
        return []
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES)


class _Files:
    """Images that are files."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = paths

    def __len__(self) -> int:
        """How many there are."""
        return len(self._paths)

    def name(self, index: int) -> str:
        """Return the path of one."""
        return str(self._paths[index])

    def read(self, index: int) -> bytes:
        """Return the bytes of one."""
        return self._paths[index].read_bytes()


def _drawn(total: int, count: int, seed: int) -> np.ndarray:
    """Return the places of up to `count` images, in an order that is drawn."""
    return np.random.default_rng(seed).permutation(total)[:count]


def _parted(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return images to fit with, and others to measure on."""
    held = max(1, round(HELD_OUT * len(x)))
    return x[held:], x[:held]


def _check_enough(count: int, said: str) -> None:
    if count < FEWEST:
        raise ValueError(
            f"{said} has {counted(count, 'image')}: at least {FEWEST} are needed, and some hundred "
            "do better"
        )
