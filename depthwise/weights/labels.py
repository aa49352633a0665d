"""Names of a user's own classes: from a file, from a checkpoint, or from the folders of images.

A training run hands its names on in its checkpoint, under one of KEYS beside the tensors.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depthwise.weights.read import read_checkpoint, read_metadata

# As torchvision, Hugging Face, timm, Ultralytics and OpenMMLab write them, in small letters.
KEYS = (
    "labels", "label_names", "classes", "class_names", "names", "idx_to_class", "index_to_class",
    "idx_to_label", "id2label", "class_to_idx", "class_to_index", "label2id",
)  # fmt: skip
AROUND = ("meta", "metadata", "config", "args", "hyper_parameters", "hparams")
PARTS = {"train", "val", "valid", "validation", "test"}  # folders that are no classes
NAME_COLUMNS = ("name", "label", "class", "class_name", "label_name")
NUMBER_COLUMNS = ("id", "index", "idx", "class_id", "label_id", "number")


def read_label_file(path: Path) -> tuple[str, ...]:
    """Return the names in a file: a line each, JSON (a list, or names by number), or CSV.

    Raises ValueError where there is no file, or none of these in it.
    """
    if not path.is_file():
        raise ValueError(f"--labels {path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"--labels {path}: expected text in UTF-8") from None
    match path.suffix.lower():
        case ".json":
            names = _from_json(path, text)
        case ".csv" | ".tsv":
            names = _from_table(path, text)
        case _:
            names = [line.strip() for line in text.strip().splitlines()]
    if not names:
        raise ValueError(f"--labels {path}: no names in it")
    if "" in names:
        raise ValueError(f"--labels {path}: the name of class {names.index('')} is empty")
    return tuple(names)


def labels_of_checkpoint(path: Path) -> tuple[str, ...]:
    """Return the names that a checkpoint has beside its tensors; () where it has none.

    Raises ValueError for a file that cannot be read as a checkpoint.
    """
    if path.suffix == ".safetensors":
        return _search({key: _parsed(text) for key, text in read_metadata(path).items()})
    return _search(read_checkpoint(path))


def labels_of_folders(folder: Path) -> tuple[str, ...]:
    """Return the names of a folder's folders, sorted as torchvision's ImageFolder numbers them.

    Returns () where they are parts of a data set, such as train and val.
    """
    found = {each.name for each in folder.iterdir() if each.is_dir()}
    names = sorted(name for name in found if not name.startswith("."))
    return () if {name.lower() for name in names} <= PARTS else tuple(names)


def _search(entries: Mapping[Any, Any]) -> tuple[str, ...]:
    by_name = {str(key).lower(): value for key, value in entries.items()}
    for key in KEYS:
        if names := _names(by_name.get(key)):
            return tuple(names)
    for key in AROUND:
        if isinstance(inner := by_name.get(key), Mapping) and (names := _search(inner)):
            return names
    return ()


def _names(found: Any) -> list[str]:
    """Return the names of a list, of {number: name} or of {name: number}; [] of anything else."""
    if isinstance(found, Mapping):
        pairs = list(found.items())
        if all(isinstance(value, int) for _, value in pairs):
            pairs = [(number, name) for name, number in pairs]
        by_number = {str(number): name for number, name in pairs}
        if by_number.keys() != {str(number) for number in range(len(pairs))}:
            return []
        found = [by_number[str(number)] for number in range(len(pairs))]
    if not isinstance(found, list | tuple):
        return []
    # Keras' file of ImageNet's classes has ["n01440764", "tench"] for each
    names = [each[-1] if isinstance(each, list | tuple) and each else each for each in found]
    texts = [name for name in names if isinstance(name, str)]
    return texts if len(texts) == len(names) else []


def _from_json(path: Path, text: str) -> list[str]:
    found = _parsed(text)
    names = _names(found) or (list(_search(found)) if isinstance(found, Mapping) else [])
    if not names:
        raise ValueError(
            f'--labels {path}: expected a list of names, or names by number from 0, as {{"0": '
            '"cat", "1": "dog"}, or {"cat": 0, "dog": 1}'
        )
    return names


def _from_table(path: Path, text: str) -> list[str]:
    """Return the names of a table: of one column, or by the column of their numbers."""
    rows = [row for row in csv.reader(text.splitlines(), delimiter=_comma(path, text)) if row]
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    name = next((i for i, cell in enumerate(head) if cell in NAME_COLUMNS), None)
    number = next((i for i, cell in enumerate(head) if cell in NUMBER_COLUMNS), None)
    if name is not None:
        rows = rows[1:]
    elif len(head) == 1:
        name = 0
    else:
        number, name = (0, 1) if head[:1] == ["0"] else (1, 0)
    try:
        if number is None:
            return [row[name].strip() for row in rows]
        names = _names({int(row[number]): row[name].strip() for row in rows})
    except (ValueError, IndexError):
        names = []
    if len(names) != len(rows):
        raise ValueError(
            f"--labels {path}: expected a column of names, or of numbers from 0 and of names, "
            "under a head such as id,name"
        )
    return names


def _comma(path: Path, text: str) -> str:
    first = text.partition("\n")[0]
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if ";" in first and "," not in first else ","


def _parsed(text: str) -> Any:
    """Return what JSON says; None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None
