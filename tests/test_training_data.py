"""Folders of images as sets to train on: classes by name, images set aside, what is refused."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from depthwise.training.data.duplicates import find_copies
from depthwise.training.data.opening import open_dataset
from depthwise.training.data.split import split_off

rng = np.random.default_rng(0)


def add(*paths, size=(9, 8)):
    """Write an image of its own to each path."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)


def add_classes(folder, **counts):
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        add(*(folder / name / f"{number:02}.png" for number in range(count)))


def labels_of(dataset, split):
    """Return the class of each image by its path, as its name says and as its folder does."""
    held = getattr(dataset, split)
    names = [held.images.name(index) for index in range(len(held.images))]
    return {name: dataset.classes[label] for name, label in zip(names, held.labels, strict=True)}


def test_splits_are_matched_by_the_names_of_classes(tmp_path):
    add_classes(tmp_path / "Train", ape=3, bee=2, cat=2)
    add_classes(tmp_path / "val", bee=0, cat=2, ape=1)
    add_classes(tmp_path / "test", cat=1, bee=2)
    add_classes(tmp_path / "Train" / "cat", deeper=1)
    add_classes(tmp_path / "extra", dog=1)
    add(tmp_path / "Train" / ".ipynb_checkpoints" / "a.png", tmp_path / "Train" / "ape" / ".a.png")
    (tmp_path / "Train" / "ape" / "Thumbs.db").write_bytes(b"no image")
    (tmp_path / "Train" / "cat" / "deeper" / "round").symlink_to(tmp_path / "Train" / "cat")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("ape", "bee", "cat")
    for split, folder, count in (
        ("train", "Train", 8),
        ("validation", "val", 3),
        ("test", "test", 3),
    ):
        found = labels_of(dataset, split)
        assert len(found) == count
        for path, label in found.items():
            assert os.path.relpath(path, tmp_path / folder).split("/")[0] == label
    said = " ".join(dataset.notes)
    assert "no validation image is of bee" in said
    assert "no test image is of ape" in said
    assert "1 .db" in said
    assert "extra" in said
    assert dataset.train.labels.dtype == np.int64


def test_images_are_set_aside_where_a_set_has_no_validation(tmp_path):
    add_classes(tmp_path / "plain", ape=20, bee=2, cat=1, train=3)
    shutil.copy(tmp_path / "plain/ape/00.png", tmp_path / "plain/ape/copy.png")
    add_classes(tmp_path / "tested/train", ape=10, bee=10)
    add_classes(tmp_path / "tested/test", bee=1)
    dataset = open_dataset(tmp_path / "plain", seed=3)
    assert dataset.test is None
    train, aside = labels_of(dataset, "train"), labels_of(dataset, "validation")
    assert sorted(aside.values()) == ["ape", "ape", "bee", "train"]
    assert len({**train, **aside}) == len(train) + len(aside) == 27
    again = open_dataset(str(tmp_path / "plain"), seed=3)
    assert labels_of(again, "validation") == aside
    others = [
        labels_of(open_dataset(tmp_path / "plain", seed=seed), "validation") for seed in range(9)
    ]
    assert len({tuple(other) for other in others}) > 1
    assert not any("copy.png" in name or "ape/00.png" in name for other in others for name in other)
    tested = open_dataset(tmp_path / "tested")
    assert (len(tested.train.labels), len(tested.validation.labels)) == (18, 2)
    assert tested.test is not None


def test_the_share_of_each_class_is_set_aside():
    labels = np.repeat([4, 0, 7, 2], [100, 37, 1, 2])
    left, aside = split_off(labels, seed=1)
    assert np.array_equal(np.sort([*left, *aside]), np.arange(140))
    assert {k: int((labels[aside] == k).sum()) for k in (4, 0, 7, 2)} == {4: 10, 0: 4, 7: 0, 2: 1}
    shuffled = rng.permutation(labels)
    assert (np.bincount(shuffled[split_off(shuffled)[1]]) == [4, 0, 1, 0, 10]).all()


def no_classes(folder):
    add(folder / "a.png", folder / "b.png")
    return "has 2 images and no classes: put the images of each class"


def no_classes_in_a_split(folder):
    add(folder / "train" / "a.png", folder / "test" / "b.png")
    return "train has 1 image and no classes"


def empty(folder):
    folder.mkdir()
    return "has no images: there is nothing in it"


def other_files(folder):
    folder.mkdir()
    (folder / "a.npy").write_bytes(b"0")
    return "has no images: there is only 1 .npy in it"


def an_empty_class(folder):
    add_classes(folder, ape=2, bee=0, cat=1)
    return "the class bee has no images: there is nothing in"


def a_class_of_other_files(folder):
    add_classes(folder, ape=2, bee=0)
    (folder / "bee" / "a.npy").write_bytes(b"0")
    return "the class bee has no images: there is only 1 .npy"


def one_class(folder):
    add_classes(folder, ape=4)
    return "has one class only, ape"


def a_strange_class(folder):
    add_classes(folder / "train", ape=2, bee=2)
    add_classes(folder / "valid", Ape=2)
    return r"classes for validation that have no images for training: Ape; .* the nearest are ape"


def no_training(folder):
    add_classes(folder / "val", ape=2, bee=2)
    return "has images for validation, and none for training"


def no_images(folder):
    add_classes(folder / "test", ape=0, bee=0)
    return "has no images$"


def two_validations(folder):
    for name in ("train", "val", "valid"):
        add_classes(folder / name, ape=2, bee=2)
    return "has two folders for validation: val and valid"


def a_set_within(folder):
    add_classes(folder / "photos" / "train", ape=2, bee=2)
    add_classes(folder / "other", ape=1)
    return "photos holds train, and not the images of a class: give .*photos$"


def splits_within_classes(folder):
    for name in ("ape", "bee"):
        add_classes(folder / name, train=2, test=1)
    return "ape is divided into train, test within a class: .* as in train/ape"


def nothing_to_set_aside(folder):
    add_classes(folder, ape=1, bee=1)
    return "has no class with two different images"


def nothing(folder):  # noqa: ARG001
    return "nothing at this path, and no set's name; accepted are .*a folder that has"


def no_set(folder):
    folder.write_text("text")
    return "no such data; accepted are .*a folder"


@pytest.mark.parametrize(
    "make",
    [
        no_classes, no_classes_in_a_split, empty, other_files, an_empty_class, no_images,
        a_class_of_other_files, one_class, a_strange_class, no_training, two_validations,
        a_set_within, splits_within_classes, nothing_to_set_aside, nothing, no_set,
    ],
)  # fmt: skip
def test_what_is_no_set_is_refused(make, tmp_path):
    said = make(tmp_path / "data")
    with pytest.raises(ValueError, match=said):
        open_dataset(tmp_path / "data")


def test_copies_are_found_by_content(tmp_path):
    add_classes(tmp_path / "train", ape=6, bee=3)
    add_classes(tmp_path / "val", ape=4, bee=1)
    add_classes(tmp_path / "test", ape=1, bee=1)
    train, val = tmp_path / "train", tmp_path / "val"
    for number in range(5):
        shutil.copy(train / f"ape/{number:02}.png", val / f"ape/copy{number}.png")
    shutil.copy(train / "bee/00.png", tmp_path / "test/ape/bee.png")
    shutil.copy(train / "bee/01.png", train / "bee/twice.png")
    for name in ("a", "b"):
        (train / "ape" / f"{name}.png").touch()
    content = (train / "bee/02.png").read_bytes()  # as long, with the same end
    (train / "bee/other.png").write_bytes(bytes([content[0] ^ 1]) + content[1:])
    notes = open_dataset(tmp_path).notes
    assert len(notes) == 3
    assert notes[0].startswith("5 of the 10 validation images (50.0%) stand in train as well (")
    assert f"{train}/ape/00.png = {val}/ape/copy0.png" in notes[0]
    assert "and 2 more" in notes[0]
    assert notes[1].startswith("1 of the 3 test images (33.3%) stand in train as well")
    assert notes[2].startswith("1 image stands in more than one class (")


@pytest.mark.timeout(60)
def test_what_is_no_file_is_not_waited_for(tmp_path):
    add_classes(tmp_path, ape=3, bee=3)
    for name in ("a", "b"):
        os.mkfifo(tmp_path / "ape" / f"{name}.png")
        (tmp_path / "bee" / f"{name}.png").symlink_to("nowhere")
    dataset = open_dataset(tmp_path)
    assert len(labels_of(dataset, "train")) + len(labels_of(dataset, "validation")) == 10
    assert dataset.notes == ()


class Arrays:
    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays)

    def name(self, index):
        return f"image {index}"

    def read(self, index):
        return self.arrays[index]


def test_copies_are_found_among_arrays():
    pixels = rng.integers(0, 256, (4, 6, 2), np.uint8)
    first = Arrays([pixels[0], pixels[1], pixels[0].reshape(2, 6)])
    second = Arrays([pixels[1].copy(), pixels[2], pixels[2].T.copy().T])
    assert find_copies([first, second]) == [[(0, 1), (1, 0)], [(1, 1), (1, 2)]]
