"""PyTorch as it comes: one operator after the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401  (brings operators that programs may hold)
from torch.utils._pytree import tree_leaves

from depthwise.bench.peers import FILES, INPUT, RunOnce


def open_network(case: Path, threads: int) -> RunOnce:
    """Return a function that runs the exported program's module on the input."""
    return run_module(load_module(case, threads), case)


def load_module(case: Path, threads: int) -> torch.nn.Module:
    """Return the module of the exported program."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    return torch.export.load(case / FILES["program"]).module(check_guards=False)


def run_module(module: Callable[[torch.Tensor], Any], case: Path) -> RunOnce:
    """Return a function that runs a module on the input."""
    x = torch.from_numpy(np.load(case / INPUT))

    def run() -> np.ndarray:
        with torch.inference_mode():
            (y,) = tensors_of(module(x))
            return y.numpy()

    return run


def tensors_of(result: Any) -> list[torch.Tensor]:
    """Return the tensors in what a network returns."""
    return [y for y in tree_leaves(result) if isinstance(y, torch.Tensor)]
