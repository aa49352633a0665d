"""Folders of the package `datasets` of Hugging Face: what it saved to disk, and parquet files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from depthwise.files.cache import cache_directory
from depthwise.progress import report_progress
from depthwise.training.data.assembling import SPLIT_NAMES, LabelledImages, assemble
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.folder import entries_of
from depthwise.training.data.labels_csv import COLUMNS
from depthwise.training.data.table_images import TableImages

# What people call columns whose types say nothing of images and classes.
IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp")
LABELS = (*COLUMNS["label"], "labels", "cls")


def is_hub(data: str) -> bool:
    """Whether a path is a parquet file, a folder of them, or what `save_to_disk` wrote."""
    return data.endswith(".parquet") or _is_saved(data) or _has_parquet(data)


def open_hub(data: str, seed: int) -> Dataset:
    """Return the images that the package `datasets` finds at a path, with the splits it has there.

    Parquet files are copied into the cache, so that any row can be read: as large as they are.
    Raises ValueError where there is no such package, or no column of images and one of classes.
    """
    library = _library(data)
    found, orders, notes = {}, {}, []
    for name, rows in _load(library, data).items():
        split = SPLIT_NAMES.get(name.lower())
        where = f"the split {name} of {data}"
        if split is None or split in found:
            notes.append(f"not used: {where}")
            continue
        part, order = _read_split(library, where, rows)
        if not part.labels and split != "train":
            notes.append(f"not used: {where}, which has no labels")
            continue
        if not part.labels:
            raise ValueError(f"{where} has no labels")
        found[split], orders[split] = part, order
    return assemble(data, found, seed=seed, classes=orders.get("train"), notes=notes)


def _read_split(library: Any, where: str, rows: Any) -> tuple[LabelledImages, Sequence[str]]:
    """Return a table's images, without labels where no row has one, and its classes in order."""
    table = rows.with_format("arrow")[:]
    files = [file["filename"] for file in rows.cache_files]
    images = _images(where, table, _image_column(library, where, rows.features), files)
    column = _label_column(library, where, rows.features)
    labels = table[column].to_pylist()
    if not any(map(_is_known, labels)):
        labels = []
    names = getattr(rows.features[column], "names", None)
    for row, label in enumerate(labels):
        _check_label(images, row, label, names)
    order = names or [str(label) for label in sorted(set(labels))]
    return LabelledImages(images, [names[each] if names else str(each) for each in labels]), order


def _library(data: str) -> Any:
    try:
        return import_module("datasets")
    except ImportError:
        raise ValueError(
            f"{data} is read by the package datasets, which is not installed: "
            "pip install 'depthwise[data]'"
        ) from None


def _load(library: Any, data: str) -> dict[str, Any]:
    """Return what the package finds: a table for each split."""
    try:
        with report_progress(f"opening {data}", 1), _without_bars(library):
            if _is_saved(data):
                found = library.load_from_disk(data)
            else:
                kept = str(cache_directory() / "hub")
                if os.path.isdir(data):
                    found = library.load_dataset(data, cache_dir=kept)
                else:
                    found = library.load_dataset("parquet", data_files=data, cache_dir=kept)
    except Exception as error:  # whatever the package and those below it raise for bad files
        raise ValueError(f"{data} cannot be opened by the package datasets: {error}") from None
    return dict(found) if isinstance(found, dict) else {"train": found}


@contextmanager
def _without_bars(library: Any) -> Iterator[None]:
    """Have the package draw no bars of its own."""
    shown = not library.are_progress_bars_disabled()
    library.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bars()


def _image_column(library: Any, where: str, features: Any) -> str:
    typed = [name for name, kind in features.items() if isinstance(kind, library.Image)]
    return _only(where, "images", typed or [n for n in IMAGES if n in features], "image", features)


def _label_column(library: Any, where: str, features: Any) -> str:
    typed = [name for name, kind in features.items() if isinstance(kind, library.ClassLabel)]
    return _only(where, "classes", typed or [n for n in LABELS if n in features], "label", features)


def _only(where: str, what: str, names: list[str], usual: str, features: Any) -> str:
    """Return the one column, or the one with the usual name."""
    if usual in names or len(names) == 1:
        return usual if usual in names else names[0]
    raise ValueError(
        f"{where} has {'no column' if not names else 'several columns'} of {what}, of its columns "
        f"{', '.join(names or features)}: rename the one that is meant to {usual} "
        f"(`rename_column`, then `save_to_disk`)"
    )


def _images(where: str, table: Any, column: str, files: Sequence[str]) -> TableImages:
    """Return a column's images: bytes, or structures of bytes and a path."""
    compute = import_module("pyarrow.compute")
    encoded, paths = table[column], None
    fields = [field.name for field in getattr(encoded.type, "fields", ())]
    if "bytes" in fields:
        paths = compute.struct_field(encoded, "path") if "path" in fields else None
        encoded = compute.struct_field(encoded, "bytes")
    if str(encoded.type) not in ("binary", "large_binary"):
        raise ValueError(
            f"{where}: the column {column} holds {encoded.type}; expected encoded images, as "
            "`datasets.Image` keeps them"
        )
    sizes = compute.fill_null(compute.binary_length(encoded), 0).to_numpy()
    return TableImages(where, encoded, paths, sizes, files, np.arange(len(encoded)))


def _is_known(label: Any) -> bool:
    """Whether a label says a class: null and negative numbers stand for none."""
    return label is not None and (not isinstance(label, int) or label >= 0)


def _check_label(images: TableImages, row: int, label: Any, names: Sequence[str] | None) -> None:
    if not _is_known(label):
        raise ValueError(f"{images.name(row)} has no label")
    if names is not None:
        fits, expected = label < len(names), f"0 to {len(names) - 1}"
    else:
        fits = isinstance(label, str | int) and not isinstance(label, bool)
        expected = "the number or name of one class"
    if not fits:
        raise ValueError(f"{images.name(row)} has the label {label!r}: expected {expected}")


def _is_saved(data: str) -> bool:
    """Whether `save_to_disk` wrote a folder, of several splits or of one table."""
    wrote = {"dataset_dict.json"}, {"state.json", "dataset_info.json"}
    return any(all(os.path.isfile(os.path.join(data, name)) for name in names) for names in wrote)


def _has_parquet(data: str) -> bool:
    """Whether parquet files lie in a folder, in its data/ or in a split's folder.

    One of metadata stands beside images, which are files then.
    """
    if not os.path.isdir(data):
        return False
    inside = [entry.path for entry in entries_of(data) if entry.is_dir()]
    homes = [path for path in inside if os.path.basename(path).lower() in (*SPLIT_NAMES, "data")]
    names = {entry.name for folder in (data, *homes) for entry in entries_of(folder)}
    return any(name.endswith(".parquet") for name in names - {"metadata.parquet"})
