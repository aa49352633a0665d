"""A network that was slimmed: a module, a graph, and the record of what was done."""

from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from depthwise.files.atomic import replace_text
from depthwise.graph import Graph
from depthwise.graph.exporters.torch import to_module
from depthwise.report.slimming_record import SlimmingRecord, StepRecord, say_cost
from depthwise.sources.slimmed_folder import SlimmedRecord, freeze, write_slimmed
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
        return freeze(to_module(self.graph), self.record.frozen)

    @property
    def description(self) -> SlimmedRecord:
        """What stands beside the graph in its directory."""
        return SlimmedRecord(
            network=self.record.network, classes=self.classes,
            preprocessing=self.preprocessing, frozen=self.record.frozen,
        )  # fmt: skip

    def save(self, directory: str | PathLike[str]) -> None:
        """Keep the network in a directory, which is then one as slimmed:DIRECTORY.

        Raises OSError where it cannot be written, ValueError where a quantised network is there.
        """
        folder = Path(directory)
        write_slimmed(folder, self.graph, self.description)
        replace_text(folder / RECORD, self.record.model_dump_json(indent=1) + "\n")

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """Every change that was made, in order."""
        return self.record.steps

    def __str__(self) -> str:
        """Return what it came to, in a sentence."""
        found, before, after = self.record, self.record.before, self.record.after
        parts = [
            " to ".join(say_cost(measure, getattr(each, measure)) for each in (before, after))
            for measure in ("macs", "parameters", "milliseconds")
        ]
        parts[-1] += "" if after.measured else " (estimated)"
        if before.accuracy is not None and after.accuracy is not None:
            parts.append(f"accuracy {before.accuracy:.2%} to {after.accuracy:.2%}")
        parts.append(f"{after.names}: {after.agreement:.1%}")
        return f"{found.network}: {', '.join(parts)}"
