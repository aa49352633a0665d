"""A CSV file that names images and their classes: path,label or path,label,split."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthwise.errors import nearest
from depthwise.escaping import counted
from depthwise.training.data.assembling import SPLIT_NAMES, listed
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.labelled_files import LabelledFile, dataset_of_files

SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"
# What people call the columns, in small letters.
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image",
             "image_path", "img", "img_path"),
    "label": ("label", "class", "class_name", "category", "target"),
    "split": ("split", "set", "subset", "partition"),
}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """Where a row has what: the places of its cells."""

    path: int
    label: int
    split: int | None


@dataclass(frozen=True)
class LabelRow:
    """A line of the file: its number, from 1, and its cells."""

    line: int
    cells: list[str]


def is_label_file(path: str) -> bool:
    """Tell whether a path is that of a file such as this module reads."""
    return os.path.isfile(path) and path.lower().endswith(SUFFIXES)


def open_labels(path: str, seed: int) -> Dataset:
    """Return the images that a CSV file names, relative to its own folder.

    Columns are known by a first line of names, which may be missing where they are path, label
    and, if there is one, split. Raises ValueError where they are no set to train on.
    """
    rows = _rows(path)
    if not rows:
        raise ValueError(f"{path} is empty: it needs a line path,label for each image")
    folder = os.path.dirname(path)
    columns, rows = _columns(path, folder, rows)
    found: dict[str, list[LabelledFile]] = {split: [] for split in ("train", "validation", "test")}
    for row in rows:
        file = LabelledFile(os.path.join(folder, row.cells[columns.path]), row.cells[columns.label])
        found[_split(path, row, columns)].append(file)
    _refuse_missing(path, rows, columns, folder)
    _refuse_two_labels(path, found)
    return dataset_of_files(path, found, seed)


def _rows(path: str) -> list[LabelRow]:
    """Return the lines of a CSV file that are not empty."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = next((sign for sign in DELIMITERS if sign in first), ",")
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows = [LabelRow(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from None
    return [row for row in rows if any(row.cells)]


def _columns(path: str, folder: str, rows: list[LabelRow]) -> tuple[Columns, list[LabelRow]]:
    """Return the columns, and the rows without that of their names."""
    first = [cell.lower() for cell in rows[0].cells]
    places = {
        name: next((place for place, cell in enumerate(first) if cell in called), None)
        for name, called in COLUMNS.items()
    }
    known = any(place is not None for place in places.values())
    if known and not os.path.isfile(os.path.join(folder, rows[0].cells[0])):
        if places["path"] is None or places["label"] is None:
            missing = "path" if places["path"] is None else "label"
            raise ValueError(
                f"{path} has the columns {', '.join(rows[0].cells)}, and none of them is called "
                f"{missing}"
            )
        columns, rows = Columns(places["path"], places["label"], places["split"]), rows[1:]
    else:
        columns = Columns(0, 1, 2 if len(first) > 2 else None)
    width = 1 + max(columns.path, columns.label, columns.split or 0)
    needed = "a path and a label" if columns.split is None else "a path, a label and a split"
    for row in rows:
        if len(row.cells) < width or not row.cells[columns.path] or not row.cells[columns.label]:
            raise ValueError(
                f"line {row.line} of {path} is {','.join(row.cells)}: {needed} are needed"
            )
    return columns, rows


def _split(path: str, row: LabelRow, columns: Columns) -> str:
    if columns.split is None:
        return "train"
    text = row.cells[columns.split]
    if text.lower() not in SPLIT_NAMES:
        raise ValueError(
            f"line {row.line} of {path} has the split {text!r}: accepted are train, validation and "
            f"test ({nearest(text.lower(), SPLIT_NAMES)})"
        )
    return SPLIT_NAMES[text.lower()]


def _refuse_missing(path: str, rows: Sequence[LabelRow], columns: Columns, folder: str) -> None:
    named = [(row.line, row.cells[columns.path]) for row in rows]
    missing = [
        f"{name} (line {line})"
        for line, name in named
        if not os.path.isfile(os.path.join(folder, name))
    ]
    if missing:
        raise ValueError(
            f"{path} names {counted(len(missing), 'file')} of {len(rows)} that are not there: "
            f"{listed(missing)}; paths are relative to {folder or os.curdir}"
        )


def _refuse_two_labels(path: str, found: dict[str, list[LabelledFile]]) -> None:
    labels: dict[str, str] = {}
    for file in (file for files in found.values() for file in files):
        before = labels.setdefault(os.path.normpath(file.path), file.label)
        if before != file.label:
            raise ValueError(f"{path} says that {file.path} is {before} and {file.label}: keep one")
