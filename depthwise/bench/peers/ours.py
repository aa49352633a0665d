"""Our own compiled library, opened without PyTorch."""

from pathlib import Path

import numpy as np

from depthwise.bench.peers import Opened, library_path
from depthwise.runtime.library import Library, load


def open_network(case: Path, threads: int, precision: str) -> Opened:  # noqa: ARG001  (compiled in)
    """Return the library of a precision."""
    return open_library(library_path(case, precision))


def open_library(path: Path) -> Opened:
    """Return one of our libraries."""
    return opened_library(load(path))


def opened_library(library: Library) -> Opened:
    """Return a library as a comparison runs it."""
    inputs: list[np.ndarray] = []

    def give(x: np.ndarray) -> None:
        inputs[:] = [x]

    return Opened(give, lambda: library.run(inputs)[0])
