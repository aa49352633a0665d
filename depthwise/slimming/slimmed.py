"""A network that was slimmed: a module, a graph, and the record of what was done."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from depthwise.analysis.units import in_seconds
from depthwise.graph import Graph
from depthwise.graph.exporters.torch import to_module
from depthwise.slimming.budget import say
from depthwise.slimming.record import SlimmingRecord, StepRecord
from depthwise.weights import Preprocessing

if TYPE_CHECKING:
    from torch import nn

RECORD = "slimming.json"


@dataclass(frozen=True, eq=False)
class Slimmed:
    """A slimmed network.

    Attributes:
        graph: The network, as `dw.open` takes it.
        record: What was done, what it cost and what came of it.
        classes: The names of its classes, where they are known.
        preprocessing: How an image becomes its input, where that is known.
    """

    graph: Graph
    record: SlimmingRecord
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    @cached_property
    def module(self) -> "nn.Module":
        """The network as an ordinary module of PyTorch's, which can be trained."""
        return to_module(self.graph)

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """Every change that was made, in order."""
        return self.record.steps

    def __str__(self) -> str:
        """Return what it came to, in a sentence."""
        found, before, after = self.record, self.record.before, self.record.after
        parts = [
            f"{found.network}: {say('macs', before.macs)} to {say('macs', after.macs)}",
            f"{say('parameters', before.parameters)} to {say('parameters', after.parameters)}",
        ]
        times = [in_seconds(1e-3 * each.milliseconds) for each in (before, after)]
        parts.append(f"{times[0]} to {times[1]}{'' if after.measured else ' (estimated)'}")
        if before.accuracy is not None and after.accuracy is not None:
            parts.append(f"accuracy {before.accuracy:.2%} to {after.accuracy:.2%}")
        parts.append(f"the same class in {after.agreement:.1%}")
        return ", ".join(parts)
