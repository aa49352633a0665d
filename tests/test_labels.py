"""Names of a user's own classes: where they are read, that they fit, and where they are shown."""

import json
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from shipping_requests import measured_elsewhere, tiny  # noqa: F401  (a fixture, used by all)
from terminal import run

import depthwise as dw
from depthwise.runtime.labels import check_labels, find_scores
from depthwise.runtime.library import load
from depthwise.shipping.request import list_images
from depthwise.training.classifier import classifier_of_library, classifier_of_network
from depthwise.training.data.folder import list_folder
from depthwise.weights import load_weights
from depthwise.weights.labels import labels_of_checkpoint, labels_of_folders, read_label_file

NAMES = ("ant", "bee", "cat with hat", "猫", "dog & co")
FILE = """
from torch import nn
def tiny(classes: int = 5):
    layers = [nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, classes))
def image():
    return nn.Conv2d(3, 3, 1)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stand in a folder with a network of five classes and a checkpoint that names none."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(FILE)
    torch.save(net().state_dict(), "bare.pth")
    torch.save({"state_dict": net().state_dict(), "classes": list(NAMES)}, "named.pth")
    Path("names.txt").write_text("\n".join(NAMES) + "\n\n")
    return tmp_path


def net():
    scope: dict = {}
    exec(FILE, scope)
    torch.manual_seed(3)
    return scope["tiny"]()


# --------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "\ufeffant\r\nbee\r\ncat with hat\r\n猫\r\ndog & co\r\n\r\n"),
        ("list.json", json.dumps(NAMES)),
        ("by_number.json", json.dumps({str(i): name for i, name in enumerate(NAMES)})),
        ("class_to_idx.json", json.dumps({name: i for i, name in reversed([*enumerate(NAMES)])})),
        ("keras.json", json.dumps({str(i): ["n0", name] for i, name in enumerate(NAMES)})),
        ("config.json", json.dumps({"id2label": {str(i): n for i, n in enumerate(NAMES)}})),
        ("one.csv", "\n".join(NAMES)),
        ("head.csv", "id,name\n" + "\n".join(f"{i},{n}" for i, n in reversed([*enumerate(NAMES)]))),
        ("bare.csv", "\n".join(f"{i},{name}" for i, name in enumerate(NAMES))),
        ("turned.tsv", "label\tindex\n" + "\n".join(f"{n}\t{i}" for i, n in enumerate(NAMES))),
    ],
)
def test_labels_are_read_from_every_usual_file(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    assert read_label_file(path) == NAMES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.txt", None, "no such file"),
        ("empty.txt", b"\n \n", "no names in it"),
        ("hole.txt", b"a\n\nb\n", "the name of class 1 is empty"),
        ("latin.txt", b"caf\xe9\n", "expected text in UTF-8"),
        ("number.json", b"3", "expected a list of names"),
        ("broken.json", b"[", "expected a list of names"),
        ("gap.json", b'{"0": "a", "2": "b"}', "expected a list of names"),
        ("gap.csv", b"id,name\n0,a\n2,b\n", "expected a column of names"),
    ],
)
def test_what_is_no_list_of_names_is_refused(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_label_file(path)
    assert str(refusal.value).startswith(f"--labels {path}: ")


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": list(NAMES)},
        {"class_names": NAMES},
        {"names": dict(enumerate(NAMES))},
        {"idx_to_class": dict(enumerate(NAMES))},
        {"class_to_idx": {name: i for i, name in enumerate(NAMES)}},
        {"meta": {"CLASSES": NAMES}},
        {"config": {"id2label": {str(i): name for i, name in enumerate(NAMES)}}},
    ],
    ids=lambda beside: next(iter(beside)),
)
@pytest.mark.usefixtures("folder")
def test_a_checkpoint_names_its_classes(beside):
    torch.save({"state_dict": net().state_dict(), **beside}, "trained.pth")
    assert labels_of_checkpoint(Path("trained.pth")) == NAMES
    load_weights(net(), "trained.pth")
    assert labels_of_checkpoint(Path("bare.pth")) == ()


@pytest.mark.usefixtures("folder")
def test_names_may_stand_among_the_tensors():
    torch.save({**net().state_dict(), "classes": list(NAMES)}, "flat.pth")
    assert labels_of_checkpoint(Path("flat.pth")) == NAMES
    load_weights(net(), "flat.pth")
    save_file(net().state_dict(), "named.safetensors", {"class_names": json.dumps(NAMES)})
    assert labels_of_checkpoint(Path("named.safetensors")) == NAMES


def test_a_checkpoint_that_asks_for_code_is_refused_as_ever(tmp_path):
    torch.save({"classes": Fraction(1, 2), "state_dict": {}}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="pickled code is not run"):
        labels_of_checkpoint(tmp_path / "code.pth")


def test_folders_are_numbered_as_image_folders_are(tmp_path):
    for name in ("b", "a", "C", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "z.txt").write_text("")
    assert labels_of_folders(tmp_path) == ("C", "a", "b")
    for name in ("train", "val"):
        (tmp_path / "parts" / name).mkdir(parents=True)
    assert labels_of_folders(tmp_path / "parts") == ()


# ---------------------------------------------------------------------------------- the commands


def paint(place):
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (len(str(place)) * 20 % 256, 90, 20)).save(place)


def compile_and_read(*arguments, capsys):
    command = ("compile", "--no-tune", "nets.py:tiny", "--shape", "1,3,16,16", "--out", "out")
    code, _, err = run(*command, *arguments, capsys=capsys)
    assert code == 0, err
    return dw.load("out").manifest.network.labels


@pytest.mark.usefixtures("folder")
def test_a_saved_library_knows_the_names(capsys):
    assert compile_and_read("--labels", "names.txt", capsys=capsys) == NAMES
    assert compile_and_read("--weights", "named.pth", capsys=capsys) == NAMES
    assert compile_and_read("--weights", "bare.pth", capsys=capsys) == ()
    Path("two.txt").write_text("a\nb\nc\nd\ne\n")
    given = ("--weights", "named.pth", "--labels", "two.txt")
    assert compile_and_read(*given, capsys=capsys) == ("a", "b", "c", "d", "e")
    paint(Path("photo.png"))
    code, out, _ = run("predict", "photo.png", "--library", "out", "--json", capsys=capsys)
    assert code == 0
    assert {row["class"] for row in json.loads(out)["photo.png"]} == {"a", "b", "c", "d", "e"}
    code, out, _ = run(
        "predict", "photo.png", "--library", "out", "--labels", "names.txt", capsys=capsys
    )
    assert "cat with hat" in out


@pytest.mark.usefixtures("folder")
def test_the_names_must_be_as_many_as_the_classes(capsys):
    Path("four.txt").write_text("a\nb\nc\nd\n")
    command = ("compile", "nets.py:tiny", "--shape", "1,3,16,16", "--labels", "four.txt")
    code, out, err = run(*command, capsys=capsys)
    assert (code, out) == (2, "")
    assert err == (
        "depthwise: --labels four.txt: 4 names for a network of 5 classes: there must be one for "
        "each, in the order of its outputs\n"
    )
    code, _, err = run("compile", "nets.py:image", "--labels", "four.txt", capsys=capsys)
    assert code == 2
    assert "the network returns 1x3x224x224: classes are named of (N, CLASSES)" in err
    with pytest.raises(ValueError, match=r"^labels: 2 names for a network of 5 classes"):
        dw.compile(net().eval(), (1, 3, 16, 16), labels=["a", "b"])


SCORES = (1, 5), (1, 3, 8, 8), (1, 8), (1, 5)


@pytest.mark.parametrize(
    ("shapes", "classes", "index"),
    [
        (SCORES[:2], None, 0), (SCORES[:2], 5, 0), (SCORES[:2], 4, None), (SCORES[:3], None, None),
        (SCORES[:3], 5, 0), (SCORES[1:], 5, 2), (SCORES, 5, None), ((), None, None),
    ],
)  # fmt: skip
def test_the_scores_are_the_only_output_that_can_be(shapes, classes, index):
    assert find_scores(shapes, classes) == index


def test_labels_are_of_the_output_that_fits():
    named = ["a", "b", "c", "d", "e"]
    check_labels(named, SCORES[:3], "names")
    message = r"^names: .* 1x8 and 1x5: 5 names fit several of them; let it return its scores once"
    with pytest.raises(ValueError, match=message):
        check_labels(named, SCORES, "names")
    for labels, message in (
        ("abcde", "^labels is a str: give a list of names"), (3, "^labels is an int: give a list"),
        (range(5), "^labels holds an int, 0: give a list"), (None, "^labels is a NoneType"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            dw.compile(net().eval(), (1, 3, 16, 16), labels=labels)


def test_one_of_several_outputs_names_photographs(tmp_path):
    class Several(torch.nn.Module):
        def forward(self, x):
            return {"map": x * 2, "features": x.mean((2, 3))[:, :2], "scores": x.mean((2, 3))}

    image = torch.ones(1, 3, 8, 8) * torch.tensor([0, 9.0, 1]).reshape(1, 3, 1, 1)
    dw.compile(Several(), (1, 3, 8, 8), labels=list("rgb")).save(tmp_path / "named")
    source = dw.open(Several(), (1, 3, 8, 8))
    for found in (
        classifier_of_library(load(tmp_path / "named"), tmp_path / "named"),
        classifier_of_network(source, "several", ("r", "g", "b")),
    ):
        assert found.classes[found.scores(image.numpy())[0].argmax()] == "g"
    with pytest.raises(ValueError, match=r"to \(1, CLASSES\); let it return its scores once, or e"):
        classifier_of_network(source, "several")


@pytest.mark.usefixtures("folder")
def test_predict_takes_folders_and_names_classes_by_them(capsys):
    for name in NAMES:
        paint(Path("photos") / name / "1.png")
    paint(Path("photos") / NAMES[0] / "2.png")
    Path("photos/bee/broken.jpg").write_text("no image")
    own = ("--network", "nets.py:tiny", "--weights", "bare.pth", "--shape", "1,3,16,16")
    code, out, err = run("predict", "photos", *own, "--json", capsys=capsys)
    assert code == 0
    guesses = json.loads(out)
    assert [*guesses][:2] == ["photos/ant/1.png", "photos/bee/1.png"]  # each folder in turn
    assert len(guesses) == 6
    assert {row["class"] for row in guesses["photos/ant/2.png"]} == set(NAMES)
    assert "left out: photos/bee/broken.jpg is no image" in err
    assert "classes are named as the folders in photos are" in err
    code, out, err = run("predict", "photos/bee/broken.jpg", *own, capsys=capsys)
    assert (code, out) == (2, "")
    Path("empty").mkdir()
    code, out, err = run("predict", "empty", *own, capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith("depthwise: empty: no image in it, of .jpg")


@pytest.mark.usefixtures("folder")
def test_a_network_that_was_not_trained_names_nothing(capsys):
    code, _, err = run("predict", "--network", "torchvision:squeezenet1_1", capsys=capsys)
    assert code == 2
    assert "has random weights, which name nothing: give --weights" in err


def test_images_of_folders_come_in_turn(tmp_path):
    for place in ("b/2.png", "b/1.png", "a/1.png", ".hidden/1.png"):
        paint(tmp_path / place)
    found = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)]
    assert found == ["a/1.png", "b/1.png", "b/2.png"]


def test_the_same_files_are_images_to_be_named_and_to_be_learned(tmp_path):
    for name in ("1.j2k", "2.HEIC", "3.pgm", "4.jpeg", "notes.txt"):
        (tmp_path / name).touch()
    found = [str(path) for path in list_images(tmp_path)]
    assert [Path(path).name for path in found] == ["1.j2k", "2.HEIC", "3.pgm", "4.jpeg"]
    assert list(list_folder(str(tmp_path)).images) == found


@pytest.mark.usefixtures("folder")
def test_what_is_shipped_shows_the_names(capsys):
    for name in NAMES:
        paint(Path("photos") / name / "1.png")
    shutil.copy("bare.pth", "trained.pth")
    command = ("ship", "nets.py:tiny", "--weights", "trained.pth", "--shape", "1,3,16,16")
    code, out, err = run(*command, "--images", "photos", "--labels", "names.txt", capsys=capsys)
    assert code == 0, err
    assert any(f"1.png: {name} " in out for name in NAMES)
    assert "class 0" not in out
    page = next(Path().glob("nets.py-tiny-*/report.html")).read_text()
    assert "cat with hat" in page
    assert "dog &amp; co" in page
    assert "--labels names.txt" in page
