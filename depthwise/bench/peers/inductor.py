"""torch.compile with its default back end, which writes C++; weights are frozen into it."""

from pathlib import Path

import torch
from torch._inductor import config

from depthwise.bench.peers import RunOnce
from depthwise.bench.peers.eager import load_module, run_module


def open_network(case: Path, threads: int) -> RunOnce:
    """Return a function that runs the compiled program on the input."""
    config.freezing = True  # folds BatchNorm and lays weights out: its fastest way
    module = torch.compile(load_module(case, threads), fullgraph=True)
    run = run_module(module, case)
    run()
    return run
