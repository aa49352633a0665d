"""CSV files of path,label: with and without a first line, splits, and what is refused in a line."""

import numpy as np
import pytest
from PIL import Image

from depthwise.training.data.opening import open_dataset

ROWS = [f"images/{number}.png,{'ape' if number % 2 else 'bee'}" for number in range(8)]
CELLS = [row.split(",") for row in ROWS]


@pytest.fixture(autouse=True)
def _images(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        pixels = rng.integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")


def found_in(dataset):
    """Return {split: {number: class}}."""
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {
        name: {
            int(split.images.name(index).rsplit("/", 1)[1][:-4]): dataset.classes[label]
            for index, label in enumerate(split.labels)
        }
        for name, split in splits.items()
        if split
    }


EXPECTED = {number: "ape" if number % 2 else "bee" for number in range(8)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "\n".join(ROWS)),
        ("a.csv", "\ufeffpath,label\r\n" + "\r\n".join(ROWS) + "\r\n\r\n"),
        ("a.CSV", "id;Class; File\n" + "".join(f"7;{b};{a}\n" for a, b in CELLS)),
        ("a.tsv", "".join(f'"{a}"\t {b}\n' for a, b in CELLS)),
        ("images/a.csv", "\n".join(row.removeprefix("images/") for row in ROWS)),
    ],
)  # fmt: skip
def test_rows_are_read_however_they_are_written(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    dataset = open_dataset(tmp_path / name)
    found = found_in(dataset)
    assert dataset.classes == ("ape", "bee")
    assert {**found["train"], **found["validation"]} == EXPECTED
    assert sorted(found["validation"].values()) == ["ape", "bee"]


@pytest.mark.parametrize("first", ["", "image,label,subset\n"])
def test_a_column_of_splits(first, tmp_path):
    splits = ["train", "Training", "valid", "val", "train", "train", "test", "train"]
    rows = (f"{tmp_path}/{row},{split}" for row, split in zip(ROWS, splits, strict=True))
    (tmp_path / "a.csv").write_text(first + "\n".join(rows))
    found = found_in(open_dataset(tmp_path / "a.csv"))
    assert {split: set(part) for split, part in found.items()} == {
        "train": {0, 1, 4, 5, 7}, "validation": {2, 3}, "test": {6},
    }  # fmt: skip
    assert {number: label for part in found.values() for number, label in part.items()} == EXPECTED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: it needs a line path,label"),
        ("images/0.png,ape\nimages/9.png,bee\nno.png,ape",
         r"names 2 files of 3 that are not there: images/9.png \(line 2\), no.png \(line 3\);"),
        ("".join(f"{n}.png,ape\n" for n in range(9)), r"4.png \(line 5\) and 4 more; paths are"),
        ("file,breed\nimages/0.png,ape", "has the columns file, breed, .* is called label"),
        ("name,label\nimages/0.png,ape", "has the columns name, label, .* is called path"),
        ("images/0.png,ape\nimages/1.png", "line 2 of .* is images/1.png: a path and a label"),
        ("images/0.png,ape\n\nimages/1.png,", "line 3 of .* is images/1.png,: a path and a label"),
        ("images/0.png,ape,train\nimages/1.png,bee", "a path, a label and a split are"),
        ("images/0.png,ape,train\nimages/1.png,bee,traim",
         "line 2 of .* has the split 'traim': accepted are .* nearest are train, training"),
        ("images/0.png,ape\nimages/../images/0.png,bee", "is ape and bee: keep one"),
        ("images/0.png,ape\nimages/1.png,ape", "has one class only, ape"),
        ('images/0.png,"ape', "is no CSV file in UTF-8: unexpected end of data"),
        ("images/0.png,ape,test\nimages/1.png,bee,test", "has images for test, and none for train"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_labels_is_refused(text, said, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        open_dataset(tmp_path / "a.csv")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"images/0.png,\xff\xfe\n")
    with pytest.raises(ValueError, match="is no CSV file in UTF-8"):
        open_dataset(tmp_path / "a.csv")
