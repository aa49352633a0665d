"""Files that hold a whole network: which front end reads which, by the end of the file's name."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthwise.graph import NO_KWARGS, Shape, open_graph
from depthwise.sources.onnx_file import onnx_source
from depthwise.sources.source import Source, graph_source, torch_source

ZIP = b"PK\x03\x04"  # what a zip archive begins with, as torch.export.save writes one
HEAD = 9  # bytes that tell a kind of file


@dataclass(frozen=True)
class FileFormat:
    """A kind of file: its ending, what writes it, and how it is opened.

    It is opened at shapes where it can be, and ended with a module or a value where that is asked.

    `is_fixed` tells that a file holds the shapes of its inputs, which cannot be changed.
    """

    suffix: str
    writer: str
    open: Callable[[Path, Sequence[Shape], Mapping[str, Any], str | None], Source]
    is_fixed: bool


def open_file(
    path: Path,
    shapes: Sequence[Shape],
    kwargs: Mapping[str, Any] = NO_KWARGS,
    until: str | None = None,
) -> Source:
    """Return the network in a file.

    Raises ValueError for a file that is missing, damaged, or of another kind than its name says,
    and for shapes that it cannot have.
    """
    known = FORMATS.get(path.suffix.lower())
    if known is None:
        accepted = ", ".join(f"{each.suffix} ({each.writer})" for each in FORMATS.values())
        raise ValueError(f"{path}: no front end reads such a file; a network's file is {accepted}")
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder: a network comes in one file; a compiled library is opened by "
            "dw.load"
        )
    _check_kind(path, known)
    if (shapes or kwargs) and known.is_fixed:
        raise ValueError(
            f"{path} was exported for its own shapes: leave out --shape, or in Python the shapes"
        )
    return known.open(path, shapes, kwargs, until)


def _check_kind(path: Path, known: FileFormat) -> None:
    """Raise ValueError where the first bytes of a file are those of another kind."""
    if not path.is_file():
        return  # what reads it says so, and what to give
    with path.open("rb") as file:
        head = file.read(HEAD)
    found = _kind(path, head)
    if found and found != known.suffix:
        raise ValueError(
            f"{path} is named as what {known.writer} writes, and holds what "
            f"{FORMATS[found].writer} does: name it {path.with_suffix(found).name}"
        )


def _kind(path: Path, head: bytes) -> str:
    """Return the ending that a file with these first bytes has; empty where they do not tell."""
    if head.startswith(ZIP):
        return _archive_kind(path)
    if len(head) == HEAD and head[7] == 0 and head[8:] == b"{":  # the length of JSON, and JSON
        return ".safetensors"
    return ""


def _archive_kind(path: Path) -> str:
    """Return the ending of an archive of PyTorch's; empty where it holds weights, or is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except zipfile.BadZipFile:
        return ""
    if "constants.pkl" in names:
        return ".pt"
    return ".pt2" if "archive_format" in names else ""


def _open_program(path: Path, _: Any, __: Any, until: str | None) -> Source:
    from depthwise.graph.frontends.torch.pt2 import load_program  # noqa: PLC0415

    source = torch_source(load_program(path), ())
    return source.until(until) if until is not None else source


def _open_torchscript(
    path: Path, shapes: Sequence[Shape], kwargs: Mapping[str, Any], until: str | None
) -> Source:
    from depthwise.graph.frontends.torch.torchscript_file import load_torchscript  # noqa: PLC0415

    source = torch_source(load_torchscript(path), shapes, kwargs)
    return source.until(until) if until is not None else source


def _open_graph(path: Path, _: Any, __: Any, until: str | None) -> Source:
    source = graph_source(open_graph(path), name=path.stem)
    return source.until(until) if until is not None else source


FORMATS = {
    each.suffix: each
    for each in (
        FileFormat(".pt2", "torch.export.save", _open_program, is_fixed=True),
        FileFormat(".pt", "torch.jit.save", _open_torchscript, is_fixed=False),
        FileFormat(".safetensors", "dw.save_graph", _open_graph, is_fixed=True),
        FileFormat(".onnx", "an exporter to ONNX", onnx_source, is_fixed=False),
    )
}
