"""PyTorch as it comes: one operator after the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401  (brings operators that programs may hold)
from torch.utils._pytree import tree_leaves

from depthwise.bench.peers import FILES, Opened


def open_network(case: Path, threads: int, precision: str) -> Opened:
    """Return the exported program's module, all of it converted to the precision."""
    return run_module(load_module(case, threads, precision), precision)


def load_module(case: Path, threads: int, precision: str) -> torch.nn.Module:
    """Return the module of the exported program."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    module = torch.export.load(case / FILES["program"]).module(check_guards=False)
    return module.to(getattr(torch, precision))


def run_module(module: Callable[[torch.Tensor], Any], precision: str) -> Opened:
    """Return a module that is given float32, and returns it, whatever it computes in."""
    given: list[torch.Tensor] = []

    def give(x: np.ndarray) -> None:
        given[:] = [torch.from_numpy(x)]

    def run() -> np.ndarray:
        with torch.inference_mode():
            (y,) = tensors_of(module(given[0].to(getattr(torch, precision))))
            return y.float().numpy()

    return Opened(give, run)


def tensors_of(result: Any) -> list[torch.Tensor]:
    """Return the tensors in what a network returns."""
    return [y for y in tree_leaves(result) if isinstance(y, torch.Tensor)]
