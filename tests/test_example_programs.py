"""The programs in examples/ run, and those in C and C++ find what the one in Python finds."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import depthwise as dw
from depthwise.weights import PHOTOGRAPHS

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of examples/, where classify.py has run: its library is that of all programs."""
    copy = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("network", "classify"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy)
        patch.setattr(sys, "argv", ["classify.py", str(PHOTOGRAPHS[0])])
        runpy.run_path("classify.py", run_name="__main__")
    return copy


def scores_of(folder):
    """Return the probabilities of the picture that classify.py left for the others."""
    picture = np.asarray(Image.open(folder / "photo.ppm"))
    scores = dw.load(folder / "network")(picture[None])[0].astype(np.float64)
    return np.exp(scores) / np.exp(scores).sum()


def build(folder, program):
    """Build a program by the Makefile, with the compilers that it finds, else those we install."""
    zig = f"{sys.executable} -m ziglang"
    compilers = [
        f"{name}={zig} {command}"
        for name, command in (("CC", "cc"), ("CXX", "c++"))
        if shutil.which(command) is None
    ]
    if shutil.which("make") is None:
        pytest.skip("NOT TESTED: make is not installed")
    command = ["make", "CFLAGS=-O2 -Wall -Wextra -Wpedantic -Werror", *compilers, program]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def run(folder, *command):
    """Return a program's exit code and what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_python_names_the_cat(folder):
    labels = dw.load(folder / "network").manifest.network.labels
    assert labels[scores_of(folder).argmax()] == "Egyptian cat"


def test_c_finds_what_python_finds(folder):
    build(folder, "classify")
    expected = scores_of(folder)
    found = run(folder, "./classify", "network/net.weights", "photo.ppm")
    assert found == (0, f"{expected.max():.3f}  class {expected.argmax()}\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"P5 224 224 255\n", "not a binary PPM of 8 bits: wrong.ppm"),
        (b"P6 2 2 255\n" + bytes(12), "wrong length: wrong.ppm"),
    ],
)
def test_c_refuses_other_pictures(folder, content, said):
    build(folder, "classify")
    (folder / "wrong.ppm").write_bytes(content)
    found = run(folder, "./classify", "network/net.weights", "wrong.ppm")
    assert found == (1, f"classify: {said}\n")


def test_threads_in_c_plus_plus_agree(folder):
    build(folder, "throughput")
    code, out = run(folder, "./throughput", "network/net.weights", "3")
    assert code == 0, out
    assert out.endswith(" pictures a second on 3 threads\nall threads found the same\n")


@pytest.mark.parametrize(
    ("program", "package", "saved"),
    [("from_timm.py", "timm", "mobilenetv3"), ("from_onnx.py", "onnx", "small")],
)
def test_python_programs_run(program, package, saved, tmp_path, monkeypatch):
    pytest.importorskip(package, reason=f"NOT TESTED: pip install {package}")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / program), run_name="__main__")
    assert (tmp_path / saved / "net.c").is_file()


def test_every_program_is_in_the_table():
    table = (EXAMPLES / "README.md").read_text()
    programs = [path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".c", ".cpp"}]
    assert len(programs) == 5
    assert all(f"[{name}]({name})" in table for name in programs)
