"""`depthwise compile`, and `depthwise predict` with what it saved."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from terminal import run

import depthwise as dw
from depthwise.runtime.target import find_target
from depthwise.weights import PHOTOGRAPHS

NATIVE = find_target("native").name
FILE = """
import torch
from torch import nn
class Commonest(nn.Module):
    def forward(self, x):
        return torch.mode(x)[0]
def tiny(classes: int = 3):
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, classes))
def image():
    return nn.Conv2d(3, 3, 1)
def unlowered():
    return nn.Sequential(nn.Conv2d(3, 4, 3), Commonest())
"""


@pytest.fixture(autouse=True)
def nets_py(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(FILE)


# ------------------------------------------------------------------------------------- compile


def test_a_library_of_a_users_own_network(capsys):
    code, out, err = run(
        "compile", "--no-tune", "nets.py:tiny", "--shape", "2,3,9,8", "--set", "classes=5",
        "--out", "here/tiny", capsys=capsys,
    )  # fmt: skip
    assert code == 0, err  # which says what takes long, where it does
    sizes = r"\d+\.\d+ kB of code, \d+\.\d\d kB of weights, \d+\.\d\d kB of memory"
    assert re.match(rf"here/tiny: for {NATIVE}, {sizes}; equal", out)
    library = dw.load("here/tiny")
    assert library(np.zeros((2, 3, 9, 8), np.float32)).shape == (2, 5)
    assert library.manifest.verification.error <= 1e-4


def test_a_network_of_ours_as_json(capsys):
    code, out, err = run(
        "compile", "--no-tune", "mobilenet_v3_small", "--shape", "1,3,64,64",
        "--set", "num_classes=10", "--json", capsys=capsys,
    )  # fmt: skip
    assert code == 0, err  # which says what takes long, where it does
    manifest = json.loads(out)
    assert manifest["network"]["name"] == "mobilenet_v3_small"
    assert manifest["network"]["outputs"][0]["shape"] == [1, 10]
    library = dw.load(f"mobilenet_v3_small-{NATIVE}")  # where --out is left out
    assert library.manifest.model_dump(mode="json") == manifest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "; not run here; its plan checked step by step in Python\n"),
        (("--no-check-plan",), "; not verified, for this machine cannot run it\n"),
    ],
)
def test_what_this_machine_cannot_run_is_not_verified_and_says_so(options, said, capsys):
    command = ("compile", "--no-tune", "nets.py:tiny", "--target", "wasm32", *options)
    code, out, _ = run(*command, capsys=capsys)
    assert code == 0
    assert out.startswith("nets.py-tiny-wasm32: for wasm32, ")
    assert out.endswith(said)
    assert Path("nets.py-tiny-wasm32/net.wasm").is_file()


@pytest.mark.parametrize(
    ("arguments", "doing", "printed"),
    [
        (["compile", "--no-tune", "nets.py:tiny", "--show", "c"],
         "compiling nets.py:tiny for native", "/* One network at fixed input shapes"),
        (["cost", "conv:ghost"], "counting conv:ghost", "conv:ghost on 1x3x5x5"),
        (["lint", "conv:depthwise"], "looking at conv:depthwise", "nothing found"),
        (["draw", "conv:ghost"], "drawing conv:ghost", "drawn: conv_ghost.svg"),
    ],
)  # fmt: skip
def test_a_terminal_shows_what_is_waited_for(arguments, doing, printed):
    ours, terminal = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "depthwise", *arguments], stderr=terminal, stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"}, check=True,
    )  # fmt: skip
    os.set_blocking(ours, False)  # where nothing was shown, that is an error and no wait
    assert f" {doing}".encode() in os.read(ours, 4096)
    assert done.stdout.decode().startswith(printed)  # unharmed by it
    os.close(ours)
    os.close(terminal)


@pytest.mark.parametrize(
    ("stage", "shown"),
    [("graph", "Conv2d"), ("plan", "\narena "), ("c", "\nint net_run(const void *weights, ")],
)
def test_stages_are_shown_and_nothing_is_compiled(stage, shown, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code, out, err = run(
        "compile", "--no-tune", "nets.py:tiny", "--shape", "1,3,9,8", "--show", stage, capsys=capsys
    )
    assert (code, err) == (0, "")
    assert shown in out
    assert {path.name for path in tmp_path.iterdir()} <= {"nets.py", "__pycache__"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nets.py:tiny", "--target", "arm"], "no target is named 'arm': take one of native, aar"),
        (["nets.py:tiny", "--threads", "65"], "threads=65: a library runs on 1 to 64 threads"),
        (["nets.py:tiny", "--cc", "no-cc"], "no C compiler 'no-cc' on the PATH: install it, or "),
        (
            ["nets.py:tiny", "--shape", "1,4,9,9"],
            "input (1, 4, 9, 9) does not fit the network: mod",
        ),
        (["nets.py:tiny", "--shape", "1,3,x"], "--shape 1,3,x: expected whole numbers of 1 or"),
        (["nets.py:tiny", "--weights", "a.pth"], "no checkpoint file at a.pth"),
        (["nets.py:tiny", "--weights", "imagenet"], "nets.py:tiny: no ImageNet weights of it are"),
        (["net.pt2", "--weights", "a.pth"], "net.pt2 has its own weights: leave out --w"),
        (["net.pt2", "--shape", "1,3,9,9"], "net.pt2 was exported for its own shapes: leave out"),
        (["nets.py:unlowered"], "operator aten.mode.default in module '1' ("),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(arguments, message, tmp_path, capsys):
    code, out, err = run("compile", "--no-tune", *arguments, "--out", "out", capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"depthwise: {message}")
    assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} <= {"nets.py", "__pycache__"}


def test_a_place_that_cannot_be_written_is_refused_and_left_as_it_was(tmp_path, capsys):
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("mine")
    for out, message in (
        ("full", "holds thesis.txt, which is no part of a saved library: choose another directory"),
        ("nets.py", "is a file: give the name of a directory to save to"),
        ("nets.py/out", "cannot save there, and nothing was: Not a directory"),
    ):
        code, printed, err = run(
            "compile", "--no-tune", "nets.py:tiny", "--out", out, capsys=capsys
        )
        assert (code, printed) == (2, "")
        assert err.startswith("depthwise: ")
        assert message in err
        assert "Traceback" not in err
    assert Path("full/thesis.txt").read_text() == "mine"
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert {p for p in left if "__pycache__" not in p} == {"nets.py", "full", "full/thesis.txt"}


# ------------------------------------------------------------------------------------- predict


def test_photographs_get_the_same_classes_from_a_library(capsys):
    code, _, err = run(
        "compile",
        "--no-tune",
        "mobilenet_v2",
        "--weights",
        "imagenet",
        "--out",
        "out",
        capsys=capsys,
    )
    assert code == 0, err  # which says what takes long, where it does
    _, expected, _ = run("predict", "--json", capsys=capsys)
    code, found, err = run("predict", "--json", "--library", "out", capsys=capsys)
    assert (code, err) == (0, "")
    for photo, rows in json.loads(expected).items():
        for row, wanted in zip(json.loads(found)[photo], rows, strict=True):
            assert row["class"] == wanted["class"]
            assert row["probability"] == pytest.approx(wanted["probability"], abs=1e-3)


def test_a_library_without_record_counts_classes_and_says_what_it_assumes(capsys):
    run(
        "compile",
        "--no-tune",
        "nets.py:tiny",
        "--shape",
        "1,3,14,14",
        "--out",
        "out",
        capsys=capsys,
    )
    code, out, err = run(
        "predict", PHOTOGRAPHS[0], "--library", "out", "--json", "--top", 9, capsys=capsys
    )
    assert code == 0
    assert err == (
        "depthwise: out does not record its preprocessing; ImageNet's usual is assumed: "
        "16 pixels, the middle 14\n"
    )
    rows = json.loads(out)[str(PHOTOGRAPHS[0])]
    assert {row["class"] for row in rows} == {"class 0", "class 1", "class 2"}
    assert sum(row["probability"] for row in rows) == pytest.approx(1)


def test_a_library_for_smaller_images_gets_smaller_images(capsys):
    net = dw.create_model("mobilenet_v2", weights="imagenet").eval()
    dw.compile(net, (1, 3, 112, 112)).save("out")
    code, out, err = run("predict", PHOTOGRAPHS[1], "--library", "out", "--json", capsys=capsys)
    assert code == 0
    assert err == (
        "depthwise: out is compiled for 112 pixels, and its weights are for 224: photographs are "
        "resized to 128, the middle 112\n"
    )
    recorded = net.pretrained.preprocessing
    smaller = recorded.model_copy(update={"resize": 128, "crop": 112})
    with torch.no_grad(), Image.open(PHOTOGRAPHS[1]) as image:
        expected = net(smaller.apply(image)).softmax(1).max().item()
    best = json.loads(out)[str(PHOTOGRAPHS[1])][0]
    assert best["probability"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        ("uint8", "nhwc"),
        *(
            pytest.param(*other, marks=pytest.mark.slow)
            for other in [("uint8", "nchw"), ("float32", "nchw"), ("float32", "nhwc")]
        ),
    ],
)
def test_a_library_that_normalises_itself_gets_raw_images(dtype, layout, capsys):
    net = dw.create_model("mobilenet_v2", weights="imagenet").eval()
    recorded = net.pretrained.preprocessing
    raw = dw.Preparation(recorded.mean, recorded.std, dtype, layout)
    dw.compile(net, (1, 3, 224, 224), preparation=raw).save("out")
    with torch.no_grad():
        expected = net(recorded.apply(PHOTOGRAPHS[0])).softmax(1).max().item()
    code, out, err = run("predict", PHOTOGRAPHS[0], "--library", "out", "--json", capsys=capsys)
    assert (code, err) == (0, "")
    best = json.loads(out)[str(PHOTOGRAPHS[0])][0]
    assert best["class"] == "Egyptian cat"
    assert best["probability"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--library", "nowhere"], "nowhere holds no saved library: there is no manifest.json in"),
        (["--library", "out"], "out holds Conv2d, from (1, 3, 8, 8) to (1, 3, 8, 8): to name "),
        (["--library", "out", "--network", "ghostnet"], "out is a whole network: leave out --net"),
    ],
)
def test_libraries_that_cannot_name_classes_are_refused(arguments, message, capsys):
    if "out" in arguments:
        run(
            "compile",
            "--no-tune",
            "nets.py:image",
            "--shape",
            "1,3,8,8",
            "--out",
            "out",
            capsys=capsys,
        )
    code, out, err = run("predict", *arguments, capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"depthwise: {message}")
    assert "Traceback" not in err
