"""The plan: which kernels run in which order, on which buffers; `planning` makes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from depthwise.compiler.constants import Constants
from depthwise.compiler.lowering.algorithms import Algorithms
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import Buffer, TensorView
from depthwise.compiler.schedule.arena import Arena
from depthwise.compiler.schedule.partition import Group
from depthwise.compiler.schedule.steps import Steps
from depthwise.compiler.schedule.threads import Parts
from depthwise.graph import Graph
from depthwise.runtime.target import Target


@dataclass(frozen=True)
class Plan:
    """What runs in which order, on which buffers, with the arena's places and the packed weights.

    A region is done before the next begins; its parts are done at once, each by a thread.
    """

    graph: Graph
    constants: Constants
    regions: tuple[Parts, ...]
    buffers: tuple[Buffer, ...]
    arena: Arena
    weights: np.ndarray
    views: Mapping[str, TensorView]  # where each value of the graph lies
    threads: int = 1
    algorithms: Algorithms = field(default_factory=dict)  # how each convolution is computed
    whole: Steps = field(default_factory=lambda: Steps((), ()))  # before any was streamed
    groups: tuple[Group, ...] = ()  # of these: what was streamed
    nanoseconds: float = 0.0  # about how long it takes: to rank ways to divide it, no prediction

    @property
    def target(self) -> Target:
        """The target whose instructions it is made of."""
        return self.constants.target

    @property
    def steps(self) -> tuple[KernelCall, ...]:
        """The steps in the order in which one thread does all of them."""
        return tuple(step for region in self.regions for part in region for step in part)
