"""Folders of Hugging Face's package `datasets`: saved ones and parquet files, with their splits."""

import io
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from depthwise.training.data.opening import open_dataset

NAMES = ["bird", "cat", "dog"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def library():
    reason = "NOT TESTED: pip install 'depthwise[data]'"
    found = pytest.importorskip("datasets", reason=reason)
    found.disable_progress_bars()
    return found


def picture(number):
    """Return a small PNG unlike all others."""
    content = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def table(library, numbers, labels=None, names=NAMES, image="image", label="label"):
    """Return a table of pictures: the class is the number's remainder, but for the first name."""
    kind = library.ClassLabel(names=names) if names else None
    features = library.Features({image: library.Image(), label: kind}) if names else None
    rows = {
        image: [{"bytes": picture(number), "path": f"{number}.png"} for number in numbers],
        label: [1 + number % 2 for number in numbers] if labels is None else labels,
    }
    return library.Dataset.from_dict(rows, features=features)


def contents(split, classes):
    read = [split.images.read(index) for index in range(len(split.images))]
    return dict(zip(read, [classes[label] for label in split.labels], strict=True))


def expected(numbers):
    return {picture(number): NAMES[1 + number % 2] for number in numbers}


def check(data):
    assert data.classes == ("cat", "dog")
    assert contents(data.train, data.classes) == expected(range(12))
    assert contents(data.validation, data.classes) == expected(range(12, 16))
    assert contents(data.test, data.classes) == expected(range(16, 18))
    assert "no image is of bird" in " ".join(data.notes)


def test_its_own_splits_are_kept_saved_or_in_parquet_files(library, tmp_path):
    parts = {"train": range(12), "validation": range(12, 16), "test": range(16, 18)}
    tables = {name: table(library, numbers) for name, numbers in parts.items()}
    extra = table(library, range(20, 22))
    library.DatasetDict({**tables, "extra": extra}).save_to_disk(tmp_path / "saved")
    for name, rows in tables.items():
        for folder in ("flat", "deep/data"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            rows.to_parquet(tmp_path / folder / f"{name}-00000-of-00001.parquet")
    library.enable_progress_bars()
    saved = open_dataset(tmp_path / "saved")
    assert not library.are_progress_bars_disabled()
    library.disable_progress_bars()
    for data in (saved, open_dataset(tmp_path / "flat"), open_dataset(tmp_path / "deep")):
        check(data)
    assert f"not used: the split extra of {tmp_path}/saved" in saved.notes
    images = saved.train.images
    assert images.name(3) == f"the split train of {tmp_path}/saved, row 3 (3.png)"
    assert (images.size(3), images.ending(3)) == (len(picture(3)), picture(3))
    before = images.fingerprint()
    assert before != images.chosen(np.arange(3)).fingerprint()
    shutil.rmtree(tmp_path / "flat")
    (tmp_path / "flat").mkdir()
    table(library, range(30, 50)).to_parquet(tmp_path / "flat/train-00000-of-00001.parquet")
    data = open_dataset(tmp_path / "flat", seed=1)
    assert [len(data.train.images), len(data.validation.images)] == [18, 2]
    whole = contents(data.train, data.classes) | contents(data.validation, data.classes)
    assert whole == expected(range(30, 50))


@pytest.mark.parametrize(
    ("image", "label", "classes"), [("img", "cls", [10, 2]), ("image", "class", ["b", "a"])]
)
def test_labels_without_names_and_one_file(library, tmp_path, image, label, classes):
    labels = [classes[number % 2] for number in range(8)]
    rows = table(library, range(8), labels, names=None, image=image, label=label)
    rows.to_parquet(tmp_path / "a.parquet")
    data = open_dataset(tmp_path / "a.parquet")
    assert data.classes == tuple(map(str, sorted(classes)))
    found = contents(data.train, data.classes) | contents(data.validation, data.classes)
    assert found == {picture(number): str(classes[number % 2]) for number in range(8)}


def test_images_in_files_of_their_own_and_empty_ones(library, tmp_path):  # noqa: ARG001
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "x.png").write_bytes(picture(0))
    rows = [
        {"bytes": None, "path": str(tmp_path / "x.png")},
        {"bytes": b"", "path": "y.png"},
        {"bytes": None, "path": str(tmp_path)},
        *({"bytes": picture(number), "path": None} for number in range(1, 4)),
    ]
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    images = pyarrow.array(rows, kind)
    (tmp_path / "set").mkdir()
    for split in ("train", "test", "validation"):
        part = pyarrow.table({"image": images, "label": [0, 0, 1, 1, 1, 1]})
        parquet.write_table(part, tmp_path / f"set/{split}.parquet")
    images = open_dataset(tmp_path / "set").train.images
    assert images.read(0) == picture(0)
    assert images.read(4) == picture(2)
    assert images.name(4).endswith("row 4")
    for row, said in ((1, r"row 1 \(y\.png\) is empty"), (2, "is a directory, and no image file")):
        with pytest.raises(ValueError, match=said):
            images.read(row)


def test_a_test_split_without_labels_is_left_out(library, tmp_path):
    parts = {"train": table(library, range(8)), "test": table(library, range(8, 10), [-1, -1])}
    library.DatasetDict(parts).save_to_disk(tmp_path / "set")
    data = open_dataset(tmp_path / "set")
    assert data.test is None
    assert f"not used: the split test of {tmp_path}/set, which has no labels" in data.notes


def test_what_it_cannot_be_is_refused(library, tmp_path):
    whole = table(library, range(6))
    other = whole.rename_column("label", "a")
    kind = whole.features["label"]
    cases = {
        r"split train of .*, row 2 \(2\.png\) has no label": table(library, range(3), [1, 2, None]),
        "row 0 has the label 0.5: expected the number or name": library.Dataset.from_dict(
            {"image": whole["image"], "label": [0.5] * 6}
        ),
        "row 0 has the label True: expected the number or name": library.Dataset.from_dict(
            {"image": whole["image"], "label": [True, False] * 3}
        ),
        "no column of images, of its columns label": whole.remove_columns("image"),
        "no column of classes, of its columns image, a": other.cast_column(
            "a", library.Value("string")
        ),
        "several columns of classes, of its columns a, b": other.add_column(
            "b", whole["label"], feature=kind
        ),
        "one class only, cat": table(library, range(3), [1, 1, 1]),
        "split train of .* has no labels": table(library, range(3), [-1, -1, -1]),
    }
    for number, (said, rows) in enumerate(cases.items()):
        rows.save_to_disk(tmp_path / str(number))
        with pytest.raises(ValueError, match=said):
            open_dataset(tmp_path / str(number))
    parquet = pytest.importorskip("pyarrow.parquet")
    wild = whole.with_format("arrow")[:]
    label = wild.schema.get_field_index("label")
    wild = wild.set_column(label, wild.schema.field(label), [[0, 1, 2, 3, 0, 1]])
    parquet.write_table(wild, tmp_path / "wild.parquet")
    with pytest.raises(ValueError, match="has the label 3: expected 0 to 2"):
        open_dataset(tmp_path / "wild.parquet")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1" * 9)
    with pytest.raises(ValueError, match=r"damaged\.parquet cannot be opened"):
        open_dataset(tmp_path / "damaged.parquet")


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "dataset_dict.json").write_text("{}")
    for path in (tmp_path, tmp_path / "a.parquet"):
        with pytest.raises(ValueError, match=r"pip install 'depthwise\[data\]'"):
            open_dataset(path)
