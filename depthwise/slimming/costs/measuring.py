"""How far a slimmed network is from the original: on the scores, and in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from depthwise.bench.worker import time_runs
from depthwise.calibration.divergence import check_numbers, divergence
from depthwise.calibration.images import resized_for
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import compile_graph
from depthwise.compiler.verification.references.choose import reference_of
from depthwise.graph import Graph
from depthwise.graph.exporters.torch import to_module
from depthwise.runtime.library import Library
from depthwise.sources.source import graph_source

AT_ONCE = 64  # images
FEW = 64  # images by which one change is looked at
ROUNDS = 9  # turns that each library has
TURN = 0.15  # seconds of runs in a turn
FEWEST, MOST = 3, 500  # runs in a turn


class Divergence:
    """The divergence of graphs from an original, by what they return for held-out images."""

    def __init__(self, original: Graph, images: Tensor, scores: bool):
        self._images, self._scores = images, scores
        self._original = run_graph(original, images)
        check_numbers(self._original)

    def __call__(self, graph: Graph, quickly: bool = False) -> float:
        """Return the distance of a graph, on all of the images or quickly on a few."""
        count = min(FEW, len(self._images)) if quickly else len(self._images)
        found = run_graph(graph, self._images[:count])
        return divergence(found, self._original, self._scores)


def run_graph(graph: Graph, images: Tensor) -> Tensor:
    """Return the first output of a graph for images (N, C, H, W), made as large as it takes them.

    In double precision, so that a difference of two runs has digits.
    """
    return run_module(to_module(graph).eval(), resized_for(graph, images))


def run_module(net: nn.Module, images: Tensor) -> Tensor:
    """Return what a module says of images; the first value where it returns several."""
    found = []
    with torch.inference_mode():
        for part in images.split(AT_ONCE):
            result = net(part)
            found.append(result if isinstance(result, Tensor) else next(iter(result)))
    return torch.cat(found).double()


@dataclass(frozen=True)
class Timing:
    """Milliseconds of libraries that took turns, each the median over the turns."""

    milliseconds: tuple[float, ...]
    ratios: tuple[float, ...]
    """How many times as long as each the first one took: medians over the turns."""


def compile_draft(graph: Graph, options: CompileOptions) -> Library:
    """Compile a graph on one thread, verified as every network is."""
    return compile_graph(graph, reference_of(graph_source(graph)), options)


def take_turns(libraries: Sequence[Library]) -> Timing:
    """Time libraries in turns, on random inputs."""
    random = np.random.default_rng(0)
    runs = []
    for library in libraries:
        inputs = [
            random.standard_normal(tensor.shape, np.float32)
            for tensor in library.manifest.network.inputs
        ]
        runs.append(lambda library=library, inputs=inputs: library.run(inputs)[0])
    counts = [min(MOST, max(FEWEST, int(TURN / median(time_runs(run, FEWEST))))) for run in runs]
    turns = [
        [median(time_runs(run, count)) for run, count in zip(runs, counts, strict=True)]
        for _ in range(ROUNDS)
    ]
    return Timing(
        tuple(1e3 * median(turn[place] for turn in turns) for place in range(len(runs))),
        tuple(median(turn[0] / turn[place] for turn in turns) for place in range(len(runs))),
    )
