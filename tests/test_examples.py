"""A saved library in C and C++ programs, and on machines other than this one."""

import shutil
import sys

import numpy as np
import pytest
from foreign import run_foreign
from toy import HALF, ONE, SHAPE, SIZE, TWO, draw, make_library, run

from depthwise.runtime.artifact import render_template
from depthwise.runtime.library import load
from depthwise.runtime.target import OPTIMISE, find_target


@pytest.fixture(scope="module")
def one():
    return make_library()


@pytest.fixture
def saved(one, tmp_path):
    one.save(tmp_path / "out")
    return tmp_path / "out"


STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
PATTERN = (np.arange(SIZE) % 2001 * 1916 % 2001).astype(np.float32) / np.float32(1000) - 1


def commands(compiler):
    """Return the commands that compile C and C++."""
    if compiler == "zig":
        zig = (sys.executable, "-m", "ziglang")
        return (*zig, "cc"), (*zig, "c++")
    if shutil.which("gcc") is None or shutil.which("g++") is None:
        pytest.skip("NOT TESTED with gcc: it is not installed")
    return ("gcc",), ("g++",)


def build_example(directory, compiler, language):
    """Compile net.c and an example without a warning; return the program."""
    cc, cxx = commands(compiler)
    objects = [*cc, *OPTIMISE, *STRICT, "-c", "net.c", "-o", "net.o"]
    if language == "c":
        link = [*cc, *OPTIMISE, *STRICT, "example.c", "net.o", "-lm", "-o", "example"]
    else:
        link = [*cxx, "-O2", "-std=c++17", *STRICT, "example.cpp", "net.o", "-lm", "-o", "example"]
    for command in (objects, link):
        assert run(command, directory) == (0, "", "")
    return directory / "example"


def printed(*command):
    status, text, errors = run(command)
    assert (status, errors) == (0, "")
    return np.array(text.split(), np.float32)


@pytest.mark.parametrize(
    ("language", "compiler"),
    [
        ("c", "zig"),
        ("c", "gcc"),
        ("c++", "gcc"),
        pytest.param("c++", "zig", marks=pytest.mark.slow),  # it builds C++'s own library first
    ],
)
def test_the_examples_run(saved, compiler, language):
    library_ = load(saved)
    program = build_example(saved, compiler, language)
    weights, given = saved / "net.weights", saved / "input"
    # 40 rounds let the last bit of another compiler's sine grow
    near = {"rtol": 0, "atol": 2e-4}
    by_pattern = printed(program, weights)
    np.testing.assert_allclose(by_pattern, library_(PATTERN.reshape(SHAPE)).reshape(-1), **near)
    x = draw(SHAPE)
    x.tofile(given)
    np.testing.assert_allclose(printed(program, weights, given), library_(x).reshape(-1), **near)
    longer, shorter = saved / "longer", saved / "shorter"
    longer.write_bytes(given.read_bytes() + b"1")
    shorter.write_bytes(given.read_bytes()[:-1])
    for wrong in (longer, shorter, "nowhere"):
        message = "cannot open " if wrong == "nowhere" else "wrong length: "
        assert run([program, weights, wrong]) == (1, "", f"{message}{wrong}\n")
    assert run([program])[0] == 1


@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_examples_take_several_inputs(tmp_path, language):
    two = make_library(TWO, ("out", "aux"))
    two.save(tmp_path / "out")
    program = build_example(tmp_path / "out", "zig", language)
    x0, x1 = draw(SHAPE), draw(HALF, 1)
    given = tmp_path / "input"
    given.write_bytes(x0.tobytes() + x1.tobytes())
    y = two(x0, x1)
    expected = np.concatenate([y["out"].reshape(-1), y["aux"]])
    np.testing.assert_array_equal(printed(program, tmp_path / "out/net.weights", given), expected)


def test_names_cannot_break_the_c(one):
    network = one.manifest.network.model_copy(update={"name": "a */ #error\n#error \\"})
    odd = one.manifest.model_copy(update={"network": network})
    assert "*/ #error" not in render_template("net.h", odd)
    for name in ("net.h", "example.c", "example.cpp"):
        text = render_template(name, odd)
        assert "a <U+002A>/ <U+0023>error<U+000A><U+0023>error <U+005C>" in text
        assert "\n#error" not in text


@pytest.mark.parametrize("target", ["aarch64", "wasm32"])
@pytest.mark.parametrize("body", [ONE, TWO], ids=["one", "two"])
def test_other_machines_agree(tmp_path, target, body):
    if not find_target(target).foreign:
        pytest.skip(f"{target} is this machine")
    names = ("",) if body == ONE else ("0", "1")
    inputs = [draw(SHAPE), draw(HALF, 1)][: len(names)]
    make_library(body, names, target).save(tmp_path / "out")
    found = run_foreign(tmp_path / "out", inputs)
    for y, e in zip(found, make_library(body, names).run(inputs), strict=True):
        np.testing.assert_allclose(y, e, rtol=0, atol=2e-4)
