"""What slimming leaves, as a network: slimmed.json beside the graph with its weights."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from depthwise import __version__
from depthwise.files.atomic import replace_text
from depthwise.files.cache import hash_file
from depthwise.files.record import Record, first_fault
from depthwise.graph import NO_KWARGS, Graph, open_graph, save_graph
from depthwise.graph.exporters.torch import to_module
from depthwise.sources.source import Source, torch_source
from depthwise.sources.spec import SLIMMED_RECORD, is_slimmed
from depthwise.weights import Preprocessing
from depthwise.weights.classes import usual_names

if TYPE_CHECKING:
    from torch import nn

GRAPH = "network.safetensors"
FORMAT = 1


class SlimmedRecord(Record):
    """What a slimmed network is of: slimmed.json."""

    format: Literal[1] = FORMAT
    depthwise: str = __version__
    network: str
    """What the network was called that was slimmed, as `dw.open` takes it."""
    classes: tuple[str, ...] = ()
    """The classes' names in the order of the scores; empty where they are not known."""
    preprocessing: Preprocessing | None = None
    """What is done to an image; None where that is not known."""
    frozen: tuple[str, ...] = ()
    """The weights that are not to be trained."""
    hash: str = ""
    """Of the graph's file, by `hash_file`; set when the record is written."""


class KnownClasses(Record):
    """What a slimmed network's record says of its images, where it says all of it."""

    preprocessing: Preprocessing
    class_names: tuple[str, ...]


def write_slimmed(directory: Path, graph: Graph, record: SlimmedRecord) -> None:
    """Write a slimmed network; one that is there is replaced. Raises OSError where it cannot."""
    directory.mkdir(parents=True, exist_ok=True)
    save_graph(graph, directory / GRAPH)
    record = record.model_copy(update={"hash": hash_file(directory / GRAPH)})
    replace_text(directory / SLIMMED_RECORD, record.model_dump_json(indent=1) + "\n")


def read_slimmed(directory: Path) -> SlimmedRecord:
    """Read what a slimmed network is of. Raises ValueError where there is none, or a damaged one.

    Its graph's file is there then, and is the one that the record was written with.
    """
    path, graph = directory / SLIMMED_RECORD, directory / GRAPH
    if not is_slimmed(directory):
        raise ValueError(
            f"{directory} is no slimmed network: it has no {SLIMMED_RECORD}, as `depthwise slim` "
            "writes"
        )
    try:
        record = SlimmedRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise damaged(
            path, f"{first_fault(error)} (or another version of depthwise wrote it)"
        ) from None
    except OSError as error:
        raise damaged(path, str(error.strerror)) from None
    if not graph.is_file():
        raise damaged(graph, "it is not there")
    if hash_file(graph) != record.hash:
        raise damaged(graph, f"it is not the network that {SLIMMED_RECORD} was written with")
    return record


def freeze(net: "nn.Module", names: Collection[str]) -> "nn.Module":
    """Let the parameters of these names be trained no more, and return the module."""
    for name, parameter in net.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    return net


def damaged(path: Path, why: str) -> ValueError:
    """Return the error for a file that is not as slimming left it."""
    return ValueError(
        f"{path} is damaged: {why}; put a whole copy in its place, or slim the network again"
    )


def known_of(record: SlimmedRecord, graph: Graph) -> KnownClasses | None:
    """Return what is known of images, with the usual names of classes where none are recorded.

    None where nobody knows what is done to images.
    """
    if record.preprocessing is None:
        return None
    names = record.classes or usual_names(graph.type(graph.outputs[0].value).shape[-1])
    return KnownClasses(preprocessing=record.preprocessing, class_names=names)


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
