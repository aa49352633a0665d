"""torch.compile with its default back end, which writes C++; weights are frozen into it."""

from pathlib import Path

import numpy as np
import torch
from torch._inductor import config

from depthwise.bench.peers import INPUT, Opened
from depthwise.bench.peers.eager import load_module, run_module


def open_network(case: Path, threads: int, precision: str) -> Opened:
    """Return the compiled program, all of it converted to the precision."""
    config.freezing = True  # folds BatchNorm and lays weights out: its fastest way
    module = torch.compile(load_module(case, threads, precision), fullgraph=True)
    opened = run_module(module, precision)
    opened.give(np.load(case / INPUT))
    opened.run()
    return opened
