"""A network in a directory: its graph with weights, and beside it the record of what it is of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from depthwise import __version__
from depthwise.files.atomic import replace_text
from depthwise.files.cache import hash_file
from depthwise.files.record import Record, first_fault
from depthwise.graph import Graph, save_graph
from depthwise.sources.spec import QUANTIZED_RECORD, SLIMMED_RECORD
from depthwise.weights import Preprocessing
from depthwise.weights.classes import usual_names

GRAPH = "network.safetensors"
RECORDS = {"slimmed": SLIMMED_RECORD, "quantized": QUANTIZED_RECORD}  # of each adjective
FORMAT = 1


class FolderRecord(Record):
    """What a network is of that was made of another."""

    format: Literal[1] = FORMAT
    depthwise: str = __version__
    network: str
    """What the network was called that it was made of, as `dw.open` takes it."""
    classes: tuple[str, ...] = ()
    """The classes' names in the order of the scores; empty where they are not known."""
    preprocessing: Preprocessing | None = None
    """What is done to an image; None where that is not known."""
    hash: str = ""
    """Of the graph's file, by `hash_file`; set when the record is written."""


class KnownClasses(Record):
    """What a record says of the network's images, where it says all of it."""

    preprocessing: Preprocessing
    class_names: tuple[str, ...]


Kept = TypeVar("Kept", bound=FolderRecord)


@dataclass(frozen=True)
class FolderKind:
    """What such directories are called.

    Attributes:
        adjective: What the network in it is.
        record: The name of the record's file.
        verb: The verb of the command line that writes them.
    """

    adjective: str
    record: str
    verb: str

    def write(self, directory: Path, graph: Graph, record: FolderRecord) -> None:
        """Write a network; one that is there is replaced. Raises OSError where it cannot.

        Raises ValueError where another kind of network is there, which would be lost.
        """
        self.check_free(directory)
        directory.mkdir(parents=True, exist_ok=True)
        save_graph(graph, directory / GRAPH)
        record = record.model_copy(update={"hash": hash_file(directory / GRAPH)})
        replace_text(directory / self.record, record.model_dump_json(indent=1) + "\n")

    def read(self, directory: Path, kind: type[Kept]) -> Kept:
        """Read what a network is of. Raises ValueError where there is none, or a damaged one.

        Its graph's file is there then, and is the one that the record was written with.
        """
        path, graph = directory / self.record, directory / GRAPH
        if not path.is_file():
            raise ValueError(
                f"{directory} is no {self.adjective} network: it has no {self.record}, as "
                f"`depthwise {self.verb}` writes"
            )
        try:
            record = kind.model_validate_json(path.read_bytes())
        except ValidationError as error:
            why = f"{first_fault(error)} (or another version of depthwise wrote it)"
            raise self.damaged(path, why) from None
        except OSError as error:
            raise self.damaged(path, str(error.strerror)) from None
        if not graph.is_file():
            raise self.damaged(graph, "it is not there")
        if hash_file(graph) != record.hash:
            raise self.damaged(graph, f"it is not the network that {self.record} was written with")
        return record

    def check_free(self, directory: Path) -> None:
        """Raise ValueError for a directory that holds another kind of network, or is a file."""
        if directory.exists() and not directory.is_dir():
            raise ValueError(f"{directory} is a file: give the name of a directory")
        for other, record in RECORDS.items():
            if record != self.record and (directory / record).is_file():
                raise ValueError(
                    f"{directory} holds a {other} network: give another directory for the "
                    f"{self.adjective} one"
                )

    def damaged(self, path: Path, why: str) -> ValueError:
        """Return the error for a file that is not as it was left."""
        return ValueError(
            f"{path} is damaged: {why}; put a whole copy in its place, or {self.verb} the network "
            "again"
        )


def known_of(record: FolderRecord, graph: Graph) -> KnownClasses | None:
    """Return what is known of images, with the usual names of classes where none are recorded.

    None where nobody knows what is done to images.
    """
    if record.preprocessing is None:
        return None
    names = record.classes or usual_names(graph.type(graph.outputs[0].value).shape[-1])
    return KnownClasses(preprocessing=record.preprocessing, class_names=names)
