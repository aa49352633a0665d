"""ONNX files from Python and on the command line: every verb that takes a network takes one."""

import json
import sys

import numpy as np
import pytest
from onnx_models import draw, in_onnxruntime, model, node, saved
from typer.testing import CliRunner

import depthwise as dw
from depthwise.cli.app import app
from depthwise.compiler.verification.references.choose import reference_of
from depthwise.compiler.verification.references.interpreter import InterpreterReference

SHAPE = (1, 3, 16, 16)
AT = ["--shape", "1,3,16,16"]


def classifier():
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], name="stem/conv/Conv"),
        node("Sigmoid", ["c"], ["g"], name="stem/act/Sigmoid"),
        node("Mul", ["c", "g"], ["s"], name="stem/act/Mul"),
        node("GlobalAveragePool", ["s"], ["p"], name="pool/Pool"),
        node("Flatten", ["p"], ["f"], name="flat/Flatten"),
        node("Gemm", ["f", "fc", "fb"], ["y"], name="fc/Gemm"),
    ]
    weights = {"w": draw(8, 3, 3, 3), "fc": draw(8, 10), "fb": draw(10)}
    return model(nodes, ("batch", 3, "h", "w"), weights)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return saved(classifier(), tmp_path_factory.mktemp("verbs"))


@pytest.fixture(scope="module")
def library(path):
    return dw.compile(path, SHAPE)


def test_a_library_of_an_onnx_file_is_verified_against_onnxruntime(library):
    x = draw(*SHAPE)
    expected = in_onnxruntime(classifier())({"x": x})[0]
    assert np.abs(library(x) - expected).max() <= 1e-5 * np.abs(expected).max()
    found = library.manifest.verification
    assert found.reference == "ONNX Runtime"
    assert found.error < 1e-5
    assert {"s", "p", "y"} <= {layer.value for layer in found.layers}
    assert library.manifest.network.name == "net"


def test_without_onnxruntime_the_interpreter_is_the_reference(path, monkeypatch):
    source = dw.open(path, SHAPE)
    assert reference_of(source).title == "ONNX Runtime"
    monkeypatch.setattr(
        "depthwise.compiler.verification.references.choose.find_spec", lambda _: None
    )
    assert isinstance(reference_of(source), InterpreterReference)


def test_a_model_that_onnxruntime_does_not_take_is_interpreted(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(
        sys.modules, "depthwise.compiler.verification.references.onnxruntime", False
    )
    assert isinstance(reference_of(dw.open(path, SHAPE)), InterpreterReference)


def test_a_sigmoid_near_zero_is_judged_by_its_own_size(tmp_path):
    """ONNX Runtime's is right to 1e-7 of 1; what is compared must be right to 1e-4 of itself."""
    nodes = [node("Sub", ["x", "far"], ["z"]), node("Sigmoid", ["z"], ["y"])]
    made = saved(model(nodes, weights={"far": np.float32(18)}), tmp_path)
    source = dw.open(made)
    x = draw(1, 3, 8, 8)
    run = reference_of(source).start([x], ["z", "y"])
    z, y = run.value("z"), run.value("y")
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-z.astype(float))), rtol=1e-5)


def test_other_sizes_are_the_same_network_again(path):
    source = dw.open(path, SHAPE)
    assert source.at([(2, 3, 8, 8)]).shapes == ((2, 3, 8, 8),)
    assert dw.cost(path, (2, 3, 32, 32)).macs == 2 * (8 * 27 * 256 + 80)


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_cost_counts_and_says_which_sizes_are_open(path):
    code, output = run("cost", path, *AT, "--json")
    assert code == 0
    assert json.loads(output)["macs"] == 8 * 27 * 64 + 80
    with pytest.raises(ValueError, match=r"axis 0 \(batch\), axis 2 \(h\) and axis 3 \(w\) open"):
        dw.cost(path)


def test_lint_draw_compare_and_export_take_one(path, tmp_path):
    assert run("lint", path, *AT)[0] in (0, 1)
    code, output = run("draw", path, *AT, "--out", tmp_path / "net.svg")
    assert code == 0, output
    assert "3×3/2 → 8 · SiLU" in (tmp_path / "net.svg").read_text("utf-8")
    code, output = run("compare", path, path, *AT)
    assert code == 0
    assert "1.00x" in output
    code, output = run("export", path, *AT, "--out", tmp_path / "again.onnx")
    assert code == 0, output
    x = draw(*SHAPE)
    [again], [first] = (dw.open(p, *s).run([x]) for p, s in
                        ((tmp_path / "again.onnx", ()), (path, (SHAPE,))))  # fmt: skip
    np.testing.assert_allclose(again, first, rtol=1e-5, atol=1e-6)


def test_compile_says_who_agrees(path, tmp_path, library):  # the library is in the cache by now
    code, output = run("compile", path, *AT, "--out", tmp_path / "lib")
    assert code == 0, output
    assert "equal to ONNX Runtime within" in " ".join(output.split())
    x = draw(*SHAPE)
    np.testing.assert_array_equal(dw.load(tmp_path / "lib")(x), library(x))
    assert "Conv2d" in run("compile", path, *AT, "--show", "graph")[1]
