"""Our own compiled library, opened without PyTorch."""

from pathlib import Path

import numpy as np

from depthwise.bench.peers import FILES, INPUT, Form, RunOnce
from depthwise.runtime.library import load


def open_network(case: Path, threads: int) -> RunOnce:  # noqa: ARG001  (compiled in)
    """Return a function that runs the library on the input."""
    return open_library(case, "library")


def open_library(case: Path, form: Form) -> RunOnce:
    """Return a function that runs one of our libraries on the input."""
    library = load(case / FILES[form])
    inputs = [np.load(case / INPUT)]
    return lambda: library.run(inputs)[0]
