"""Sets of images that are known by name."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from depthwise.files.atomic import workspace
from depthwise.files.cache import cache_directory
from depthwise.training.data.arrays import ArrayImages
from depthwise.training.data.assembling import LabelledImages, assemble
from depthwise.training.data.cifar import TEST_FILES, TRAIN_FILES, read_batches
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.idx import read_idx
from depthwise.training.data.mosaic import FASHION, LabelledPixels, read_bundled

CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where its dataset-fashion-mnist puts them


def open_named(name: str, seed: int = 0) -> Dataset:
    """Open a set by its name.

    What its authors call its training images is split into those to learn from and those to choose
    on, each class in the same proportion; their test images are the test split.

    Args:
        name: One of `NAMED`.
        seed: What the split depends on.

    Raises:
        ValueError: No such name; or files that are damaged, or neither here nor to be had.
    """
    if name not in NAMED:
        raise ValueError(f"no set of images is named {name!r}: there are {', '.join(NAMED)}")
    classes, read = NAMED[name]
    parts = {}
    for split, (pixels, labels) in zip(("train", "test"), read(), strict=True):
        where = f"{name}'s {split} images"
        _check(where, pixels, labels, len(classes))
        images = ArrayImages(where, pixels, np.arange(len(labels)))
        parts[split] = LabelledImages(images, [classes[label] for label in labels])
    return assemble(name, parts, seed=seed, classes=classes)


def read_fashion_mnist(folder: Path, part: str) -> LabelledPixels:
    """Return Fashion-MNIST's images and labels of `train` or `t10k`, from its IDX files.

    Raises ValueError where a file is missing or damaged.
    """
    pixels = read_idx(_find_idx(folder, f"{part}-images-idx3-ubyte"), axes=3)
    labels = read_idx(_find_idx(folder, f"{part}-labels-idx1-ubyte"), axes=1)
    return pixels, labels.astype(np.int64)


def _read_fashion() -> tuple[LabelledPixels, LabelledPixels]:
    files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k")
             for kind in ("images-idx3", "labels-idx1")]  # fmt: skip
    folder = DEBIAN
    if not all(_idx_names(folder, file) for file in files):
        folder = _kept("fashion-mnist", _download_fashion)
    return read_fashion_mnist(folder, "train"), read_fashion_mnist(folder, "t10k")


def _read_cifar10() -> tuple[LabelledPixels, LabelledPixels]:
    folder = _kept("cifar-10-batches-py", _download_cifar10)
    return read_batches(folder, TRAIN_FILES), read_batches(folder, TEST_FILES)


def _download_fashion(folder: Path) -> Path:
    from torchvision.datasets import FashionMNIST  # noqa: PLC0415

    return Path(FashionMNIST(folder, download=True).raw_folder)


def _download_cifar10(folder: Path) -> Path:
    from torchvision.datasets import CIFAR10 as Downloader  # noqa: N811, PLC0415

    return folder / Downloader(folder, download=True).base_folder


def _kept(name: str, download: Callable[[Path], Path]) -> Path:
    """Return a folder of the cache, downloaded whole or not at all where there is none yet."""
    kept = cache_directory() / "datasets" / name
    if kept.is_dir():
        return kept
    try:
        with workspace(kept.parent, ".downloading-") as folder:
            download(folder).rename(kept)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        if not kept.is_dir():  # else another process came first
            said = " ".join(str(error).split())
            raise ValueError(
                f"there is no {kept} yet, and it could not be downloaded: {said}; "
                f"{_ELSEWHERE[name].format(kept=kept)}, or train on `bundled`, which needs no "
                "network"
            ) from None
    return kept


def _idx_names(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]


def _find_idx(folder: Path, name: str) -> Path:
    found = _idx_names(folder, name)
    if not found:
        raise ValueError(f"{folder} has neither {name} nor {name}.gz: put it there")
    return found[0]


def _check(what: str, pixels: np.ndarray, labels: np.ndarray, classes: int) -> None:
    if len(pixels) != len(labels):
        raise ValueError(f"{what}: {len(pixels)} of them, but {len(labels)} labels")
    if not pixels.size:
        raise ValueError(f"{what}: there are none")
    if (wrong := np.flatnonzero((labels < 0) | (labels >= classes))).size:
        raise ValueError(
            f"{what}: image {wrong[0]} has label {labels[wrong[0]]}, outside 0 to {classes - 1}"
        )


_ELSEWHERE = {
    "fashion-mnist": "install Debian's package dataset-fashion-mnist, or put its four files "
    "train- and t10k-images-idx3-ubyte.gz, train- and t10k-labels-idx1-ubyte.gz into {kept}",
    "cifar-10-batches-py": "unpack cifar-10-python.tar.gz, from https://www.cs.toronto.edu/~kriz/, "
    "so that {kept} holds its files",
}

NAMED = {
    "bundled": (FASHION, read_bundled),
    "fashion-mnist": (FASHION, _read_fashion),
    "cifar10": (CIFAR10, _read_cifar10),
}
