"""The files of CIFAR-10's Python version: https://www.cs.toronto.edu/~kriz/cifar.html.

They are pickles, which could run any code: these are read with the few names that arrays need.
"""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILES = ("test_batch",)
_SIDE = 32
_REBUILD = np.empty(0).__reduce__()[0]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _REBUILD,
    ("numpy._core.multiarray", "_reconstruct"): _REBUILD,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return _ALLOWED[module, name]


def read_batches(folder: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of some files in one row.

    Args:
        folder: What holds the files, `cifar-10-batches-py`.
        names: `TRAIN_FILES` or `TEST_FILES`.

    Returns:
        The pixels, (N, 32, 32, 3) of uint8, and the labels, (N,) of int64.

    Raises:
        ValueError: A file cannot be read, is damaged, or holds something else.
    """
    batches = [_read_batch(folder / name) for name in names]
    pixels, labels = zip(*batches, strict=True)
    return np.concatenate(pixels), np.concatenate(labels)


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="latin1").load()
    except Exception as error:  # damaged pickles raise errors of any type
        raise ValueError(f"{path} cannot be read: {error}; replace it by a whole one") from None
    pixels = batch.get("data") if isinstance(batch, dict) else None
    row = 3 * _SIDE * _SIDE
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 2):
        raise ValueError(f"{path} is no batch of CIFAR-10: it has no `data` of bytes (N, {row})")
    if pixels.shape[1] != row:
        raise ValueError(f"{path} is no batch of CIFAR-10: {pixels.shape[1]} bytes an image")
    labels = batch.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{path} is no batch of CIFAR-10: it has no list of whole `labels`")
    planes = pixels.reshape(-1, 3, _SIDE, _SIDE)
    return planes.transpose(0, 2, 3, 1), np.array(labels, np.int64)
