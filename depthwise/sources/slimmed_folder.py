"""What slimming leaves, as a network: slimmed.json beside the graph with its weights."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthwise.graph import NO_KWARGS, Graph, open_graph
from depthwise.graph.exporters.torch import to_module
from depthwise.sources.network_folder import GRAPH, FolderKind, FolderRecord, known_of
from depthwise.sources.source import Source, torch_source
from depthwise.sources.spec import SLIMMED_RECORD

if TYPE_CHECKING:
    from torch import nn

KIND = FolderKind("slimmed", SLIMMED_RECORD, "slim")


class SlimmedRecord(FolderRecord):
    """What a slimmed network is of: slimmed.json."""

    frozen: tuple[str, ...] = ()
    """The weights that are not to be trained."""


def write_slimmed(directory: Path, graph: Graph, record: SlimmedRecord) -> None:
    """Write a slimmed network; one that is there is replaced. Raises OSError where it cannot."""
    KIND.write(directory, graph, record)


def read_slimmed(directory: Path) -> SlimmedRecord:
    """Read what a slimmed network is of. Raises ValueError where there is none, or a damaged one.

    Its graph's file is there then, and is the one that the record was written with.
    """
    return KIND.read(directory, SlimmedRecord)


def freeze(net: "nn.Module", names: Collection[str]) -> "nn.Module":
    """Let the parameters of these names be trained no more, and return the module."""
    for name, parameter in net.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    return net


def open_slimmed(
    directory: Path, shapes: Sequence[Any] = (), kwargs: Mapping[str, Any] = NO_KWARGS
) -> Source:
    """Return a slimmed network with its weights, its classes and its images.

    Args:
        directory: Where it is.
        shapes: Of its inputs; left out, those that it was slimmed with.
        kwargs: The same by name.

    Raises ValueError where there is none, or a damaged one.
    """
    record = read_slimmed(directory)
    graph = open_graph(directory / GRAPH)
    usual = [type_.shape for type_ in graph.inputs.values()]
    given = shapes if shapes or kwargs else usual
    net = freeze(to_module(graph).eval(), record.frozen)
    if "network" not in net._modules:  # by which sources know their names
        net.network = f"{Path(record.network.rpartition(':')[2]).name}_slimmed"  # type: ignore
    return replace(torch_source(net, given, kwargs), known=known_of(record, graph))
