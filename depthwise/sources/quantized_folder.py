"""What quantisation leaves, as a network: quantized.json beside the graph with its integers."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from depthwise.graph import NO_KWARGS, Graph, open_graph
from depthwise.quantization.simulation import IntegerSimulator
from depthwise.sources.network_folder import GRAPH, FolderKind, FolderRecord, known_of
from depthwise.sources.source import Arrays, GraphSource, graph_source
from depthwise.sources.spec import QUANTIZED_RECORD

KIND = FolderKind("quantized", QUANTIZED_RECORD, "quantize")


class QuantizedRecord(FolderRecord):
    """What a quantised network is of: quantized.json."""


def write_quantized(directory: Path, graph: Graph, record: QuantizedRecord) -> None:
    """Write a quantised network; one that is there is replaced. Raises OSError where it cannot."""
    KIND.write(directory, graph, record)


class QuantizedSource(GraphSource):
    """A quantised network, computed in integers where it is run."""

    @cached_property
    def simulator(self) -> IntegerSimulator:
        """What computes it."""
        return IntegerSimulator(self.given)

    def run(self, inputs: Arrays) -> Arrays:
        """Return what the network computes in integers."""
        values = self.simulator.values(*inputs)
        return [values[output.value] for output in self.simulator.integers.outputs]


def open_quantized(
    directory: Path, shapes: Sequence[Any] = (), kwargs: Mapping[str, Any] = NO_KWARGS
) -> QuantizedSource:
    """Return a quantised network with its integers, its classes and its images.

    Args:
        directory: Where it is.
        shapes: Of its inputs: those that it was quantised with, or none.
        kwargs: The same by name.

    Raises ValueError where there is none, a damaged one, or one of other shapes.
    """
    record = read_quantized(directory)
    return quantized_source(open_graph(directory / GRAPH), record, shapes, kwargs)


def read_quantized(directory: Path) -> QuantizedRecord:
    """Read what a quantised network is of. Raises ValueError where there is none, or a damaged one.

    Its graph's file is there then, and is the one that the record was written with.
    """
    return KIND.read(directory, QuantizedRecord)


def quantized_source(
    graph: Graph, record: QuantizedRecord, shapes: Sequence[Any] = (),
    kwargs: Mapping[str, Any] = NO_KWARGS,
) -> QuantizedSource:  # fmt: skip
    """Return a quantised network as a source. Raises ValueError for shapes that it is not for."""
    name = f"{Path(record.network.rpartition(':')[2]).name}_int8"
    source = graph_source(graph, shapes, kwargs, name)
    return QuantizedSource(source.name, source.shapes, graph, known=known_of(record, graph))
