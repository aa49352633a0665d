"""`depthwise slim` at a terminal: what it prints, what it leaves, what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image
from terminal import run as command

import depthwise as dw
from depthwise.report.slimming_record import SlimmingRecord
from depthwise.slimming.slim import Slimming

FILE = """
import torch
from torch import nn
def made():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
    )
class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = made()
    def forward(self, x):
        return self.net[5:](torch.logcumsumexp(self.net[:5](x), 1))
def partly_frozen():
    net = made()
    net[3].requires_grad_(False)
    return net
"""
ASKED = ["--shape", "1,3,20,20", "--target", "aarch64", "--moves", "channels"]  # nothing is timed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stand in a folder with a network and 40 images without labels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FILE)
    (tmp_path / "loose").mkdir()
    random = np.random.default_rng(0)
    for number in range(40):
        pixels = random.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "loose" / f"{number}.png")
    return tmp_path


def slim(*arguments, capsys, network="net.py:made"):
    return command("slim", network, *ASKED, "--data", "loose", *arguments, capsys=capsys)


def test_it_says_what_it_did_and_leaves_a_network(folder, capsys):
    code, out, err = slim("--budget", "50%", "--mimic", "0.2s", "--no-mirror", "--out", "small",
                          capsys=capsys)  # fmt: skip
    assert code == 0, err
    for said in ("multiply-adds", "time", "an estimate", "the same class", "slimmed:small"):
        assert said in out
    # its BatchNorms have seen no images, so that they tell nothing of how these are prepared
    for said in ("round 1: ", "mimicking: ", "as usual"):
        assert said in err
    record = SlimmingRecord.model_validate_json((folder / "small/slimming.json").read_text())
    assert record.after.macs <= record.before.macs / 2
    changed = [layer.path for layer in record.layers if layer.after != layer.before]
    assert changed
    lines = out.splitlines()
    assert all(any(line.startswith(f"{path} ") for line in lines) for path in changed)
    assert dw.cost(dw.open("slimmed:small").graph).macs == record.after.macs
    with Image.open(folder / "small/layers.png") as picture:
        assert picture.width > 1000
    code, out, _ = slim("--budget", "70%", "--out", "other", "--json", capsys=capsys)
    assert code == 0
    assert json.loads(out)["limit"] == pytest.approx(0.7 * record.before.macs)


def test_all_layers_are_narrowed_alike(folder, capsys):
    code, out, err = command(
        "slim", "net.py:made", *ASKED[:4], "--data", "loose", "--alpha", "0.5", "--out", "half",
        capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    assert "16 to 8 channels" in out
    graph = dw.open("slimmed:half").graph
    assert [graph.type(f"{name}.weight").shape[0] for name in (0, 3, 7)] == [8, 16, 5]
    record = SlimmingRecord.model_validate_json((folder / "half/slimming.json").read_text())
    assert record.budget == "0.5 of its width"
    assert record.limit == record.after.macs


def test_it_shows_the_curve_and_any_point_of_it_can_be_had(folder, capsys):
    code, out, _ = slim("--curve", "--out", "small", capsys=capsys)
    assert code == 0
    assert "curve.png" in out
    assert (folder / "small/curve.png").is_file()
    code, out, _ = slim("--curve", "--json", "--out", "small", capsys=capsys)
    points = json.loads(out)["points"]
    assert len(points) > 2
    wanted = points[len(points) // 2]["cost"]
    code, _, err = slim("--budget", f"{wanted / 1e3:.3f}k", "--out", "small", capsys=capsys)
    assert code == 0, err
    record = SlimmingRecord.model_validate_json((folder / "small/slimming.json").read_text())
    assert record.after.macs <= wanted * 1.001


@pytest.mark.usefixtures("folder")
def test_what_is_left_alone_is_named_and_what_it_holds_up(capsys):
    """Nothing can be cut that a frozen layer reads or gives."""
    code, _, err = slim(
        "--budget", "80%", "--out", "small", network="net.py:partly_frozen", capsys=capsys
    )
    assert code == 2
    assert "left alone: 3 (3.weight is frozen (requires_grad=False))" in err
    assert "layers that no move changes cost" in err
    assert "most of it in 3 (" in err


def test_operators_that_are_not_known_are_named(folder, capsys):
    code, out, err = slim("--budget", "80%", "--out", "small", network="net.py:Odd", capsys=capsys)
    assert code == 0, err
    assert "left as they are, for they are not known: aten.logcumsumexp.default in" in err
    assert "an estimate" in out
    record = SlimmingRecord.model_validate_json((folder / "small/slimming.json").read_text())
    assert list(record.unknown.values()) == ["aten.logcumsumexp.default"]
    code, _, err = slim("--budget", "1ms", "--out", "small", network="net.py:Odd", capsys=capsys)
    assert code == 2
    assert "give one of MACs, parameters or weights" in err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--budget", "much"], "budget 'much': accepted are multiply-adds"),
    (["--budget", "900M"], "meets a budget of 900.00 M MACs already"),
    (["--moves", "chanels"], "no move is named 'chanels': the nearest are channels"),
    (["--recover", "1min"], "have no labels that can be trained on: --recover needs images as"),
    (["--data", "nosuch"], "accepted are the name of a set"),
    (["--data", "nosuch"], "a folder of images alone, without labels"),
    (["--alpha", "0.5"], "leave out --moves and --curve"),
    (["--samples", "8"], "calibrating on 8 images: at least 16 are needed"),
])  # fmt: skip
def test_bad_input_is_one_message(arguments, message, folder, capsys):
    code, out, err = slim(*arguments, "--out", "small", capsys=capsys)
    assert (code, out) == (2, "")
    assert message in err
    assert not (folder / "small").exists()


def test_where_it_is_stopped_it_says_how_to_go_on(folder, capsys, monkeypatch):
    def stopped(*_):
        (folder / "small").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(Slimming, "run", stopped)
    code, _, err = slim("--out", "small", capsys=capsys)
    assert code == 130
    assert "small: the same command again goes on there" in err


@pytest.mark.usefixtures("folder")
def test_images_are_not_mirrored_where_that_is_said(capsys, monkeypatch):
    seen = []

    def stopped(self, _):
        seen.append(self._options.mirror)
        raise KeyboardInterrupt

    monkeypatch.setattr(Slimming, "run", stopped)
    slim("--no-mirror", "--mimic", "1s", capsys=capsys)
    slim(capsys=capsys)
    assert seen == [False, True]
