"""int8 from images on the way to a library, and the fastest precision that keeps the class."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from quantization_networks import SHAPE, encoded, images, mixed, quantized
from terminal import run
from torch import nn

import depthwise as dw
from depthwise.compiler.options import CompileOptions, not_faster
from depthwise.errors import Mismatch
from depthwise.graph import capture
from depthwise.precision import choosing
from depthwise.precision.request import AGREEMENT, PrecisionRequest
from depthwise.quantization.insertion import insert_quantization
from depthwise.quantization.placement import place
from depthwise.runtime.manifest import Manifest
from depthwise.runtime.target import AMX, find_target
from depthwise.sources.source import graph_source

X = images(96, seed=4)


# ----------------------------------------------------------------------------------------- int8


def test_int8_is_quantised_on_the_way():
    library = dw.compile(mixed(), SHAPE, precision="int8", data=X)
    build, check = library.manifest.build, library.manifest.verification
    assert build.precision == "int8"
    assert (check.reference, check.error) == ("the simulator", 0)
    found = np.concatenate([library.run([x[None]])[0] for x in X])
    with torch.no_grad():
        expected = mixed()(torch.from_numpy(X)).numpy()
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.85


def test_a_network_that_is_quantised_needs_no_images_for_int8():
    graph = quantized(mixed())
    library = dw.compile(graph, precision="int8")
    assert library.manifest.build.precision == "int8"
    assert dw.compile(graph).manifest.build.precision == "int8"
    for name, value in (("data", X), ("agreement", 0.9)):
        with pytest.raises(ValueError, match=f"with the images of then: leave out the {name}"):
            dw.compile(graph, precision="int8", **{name: value})


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"target": "x86-64"}, "for one CPU, not for a family"),
        ({"tune": True}, "are not timed yet"),
        ({"stored_weights": "float16"}, "its weights are bytes"),
    ],
)
def test_what_int8_does_not_take_is_refused_before_images_are_looked_at(option, said):
    with pytest.raises(ValueError, match=said):
        dw.compile(mixed(), SHAPE, precision="int8", data="nowhere", **option)


def test_int8_without_images_says_what_it_needs():
    with pytest.raises(ValueError, match=r"--data bundled takes those .* `depthwise quantize") as e:
        dw.compile(mixed(), SHAPE, precision="int8")
    assert "quantized:DIRECTORY" in str(e.value)


def test_layers_are_kept_in_float32_until_the_classes_agree():
    with pytest.raises(ValueError, match="agreement"):
        dw.compile(mixed(), SHAPE, precision="int8", data=X, agreement=2)


# ---------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan"), "0.9", True])
def test_an_agreement_is_a_share(share):
    with pytest.raises(ValueError, match=r"agreement=.*: a share of images is accepted, above 0"):
        PrecisionRequest("auto", agreement=share)


def test_what_makes_no_sense_together_is_refused():
    with pytest.raises(ValueError, match="precision='int4': compute in float32, bfloat16"):
        PrecisionRequest("int4")
    with pytest.raises(ValueError, match="data with precision='bfloat16': it is for int8 and auto"):
        PrecisionRequest("bfloat16", data="bundled")
    with pytest.raises(ValueError, match="agreement with precision='float32'"):
        PrecisionRequest(agreement=0.9)
    with pytest.raises(ValueError, match=r"`dw\.compile` has int8 and auto as well"):
        CompileOptions(precision="int8")
    assert PrecisionRequest("auto").goal == AGREEMENT
    assert PrecisionRequest("auto", agreement=1).goal == 1


class Maps(nn.Module):
    def forward(self, x):
        return x + 1


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (mixed(), {"target": "x86-64"}, "a library for a family of CPUs computes in float32"),
        (mixed(), {"target": "wasm32"}, "this machine cannot run one for wasm32: name a precision"),
        (
            mixed(),
            {"preparation": dw.Preparation((0.5,) * 3, (0.5,) * 3)},
            "images are judged as the network takes them",
        ),
        (Maps(), {}, "is judged by classes of images, and Maps takes"),
    ],
)
def test_there_must_be_something_to_choose_by(net, options, message):
    with pytest.raises(ValueError, match=message):
        dw.compile(net, SHAPE, precision="auto", **options)


def test_a_quantised_network_has_nothing_to_choose():
    with pytest.raises(ValueError, match="is quantised already: leave out the precision"):
        dw.compile(quantized(mixed()), precision="auto")


# -------------------------------------------------------------------------------- what is chosen


@pytest.fixture
def timed(monkeypatch):
    """Let libraries take as many milliseconds as are said, by precision; all may be faster."""
    monkeypatch.setattr(choosing, "not_faster", lambda *_: "")

    def at(**milliseconds):
        def in_turns(libraries, rounds, doing):  # noqa: ARG001
            names = [library.manifest.build.precision for library in libraries]
            return [[1e-3 * milliseconds.get(name, 9.0)] * rounds for name in names]

        monkeypatch.setattr(choosing, "time_in_turns", in_turns)

    return at


def choose(data=None, agreement=None):
    library = dw.compile(mixed(), SHAPE, precision="auto", data=data, agreement=agreement)
    return library, library.manifest.choice


def by_precision(choice):
    return {each.precision: each for each in choice.candidates}


def test_the_fastest_that_keeps_the_class_is_taken(timed):
    timed(float32=3.0, bfloat16=1.0)
    library, choice = choose(agreement=0.5)
    assert library.manifest.build.precision == choice.chosen.precision == "bfloat16"
    found = by_precision(choice)
    assert (found["float32"].milliseconds, found["float32"].left_out) == (3.0, "slower")
    assert (found["float32"].agreement, found["float32"].error) == (1.0, 0.0)
    assert found["bfloat16"].milliseconds == 1.0
    assert 1e-4 < found["bfloat16"].error < 0.2
    assert "needs images to quantise with" in found["int8"].left_out
    assert choice.images == "64 images of noise"
    said = "computed in bfloat16: the fastest that keeps the class for 50.00% of 64 images of noise"
    assert str(choice.model_copy(update={"disturbed": ""})) == said
    noisy = choice.model_copy(update={"disturbed": "others took 50% of the cores' time"})
    assert str(noisy) == f"{said}; the times cannot be trusted: others took 50% of the cores' time"
    assert Manifest.model_validate_json(library.manifest.model_dump_json()) == library.manifest


def test_int8_takes_part_where_there_are_images(timed):
    timed(float32=3.0, bfloat16=2.0, int8=1.0)
    library, choice = choose(X, 0.5)
    assert library.manifest.build.precision == "int8"
    assert choice.images == "19 held-out images of 96 images"
    assert by_precision(choice)["int8"].agreement >= 0.5


@pytest.mark.skipif(not AMX.runs_here, reason="NOT TESTED: this CPU has no AMX")
def test_layers_that_are_kept_out_of_bytes_may_be_computed_in_halves(timed, monkeypatch):
    monkeypatch.undo()  # what is not faster is not tried
    timed(float32=3.0)
    encoding = encoded(capture(mixed(), SHAPE), X)
    kept = insert_quantization(
        replace(encoding, kept=frozenset([next(iter(place(encoding.graph).layers))]))
    )
    monkeypatch.setattr(choosing, "quantised", lambda *_: graph_source(kept))
    _, choice = choose(X, 0.5)
    found = by_precision(choice)
    assert list(found) == ["float32", "bfloat16", "float16", "int8", "int8 and bfloat16"]
    assert found["int8 and bfloat16"].target == "x86-64-amx"
    assert found["int8 and bfloat16"].milliseconds is not None
    assert found["int8 and bfloat16"].agreement >= 0.5
    assert found["int8 and bfloat16"].error != found["int8"].error


def test_what_changes_classes_is_not_taken_however_fast(timed, monkeypatch):
    timed(float32=3.0, bfloat16=1.0)
    monkeypatch.setattr(choosing, "judge", judged := replaced(choosing.judge))
    library, choice = choose()
    assert len(judged) > 1
    assert library.manifest.build.precision == "float32"
    assert by_precision(choice)["bfloat16"].left_out == "below the agreement of 99.00%"
    assert str(choice).startswith("computed in float32: no other keeps the class for 99.00%")


class replaced(list):  # noqa: N801
    """A judge that finds all but the first library to give other classes."""

    def __init__(self, judge):
        super().__init__()
        self.judge = judge

    def __call__(self, *arguments):
        error, agreement = self.judge(*arguments)
        self.append(agreement)
        return error, agreement if len(self) == 1 else 0.9


def test_what_is_slower_is_not_taken(timed):
    timed(float32=3.0, bfloat16=5.0)
    library, choice = choose(agreement=0.5)
    assert library.manifest.build.precision == "float32"
    assert by_precision(choice)["bfloat16"].left_out == "slower"
    assert str(choice).startswith("computed in float32: none is faster that keeps the class")


def test_what_cannot_be_compiled_is_left_out_with_its_reason(timed, monkeypatch):
    timed(float32=3.0)
    compile_source = choosing.compile_source

    def refuse(source, options, *rest):
        if options.precision != "float32":
            raise Mismatch("it computes something else")
        return compile_source(source, options, *rest)

    monkeypatch.setattr(choosing, "compile_source", refuse)
    _, choice = choose()
    assert by_precision(choice)["bfloat16"].left_out == "it computes something else"
    assert choice.chosen.precision == "float32"


def test_what_is_not_faster_on_a_target_is_not_tried():
    library = dw.compile(mixed(), SHAPE, precision="auto", target="x86-64-v3")
    found = by_precision(library.manifest.choice)["bfloat16"]
    assert found.left_out == "bfloat16 is not faster than float32 on x86-64-v3"
    assert found.milliseconds is None
    assert library.manifest.choice.chosen.milliseconds > 0
    assert not not_faster("bfloat16", AMX)
    assert not not_faster("float32", find_target("x86-64-v3"))


# ------------------------------------------------------------------------------ the command line


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "import torch\n\ndef tiny():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), "
        "torch.nn.Flatten(), torch.nn.Linear(288, 5))\n"
    )
    return tmp_path


TINY = ("compile", "nets.py:tiny", "--shape", "1,3,8,8", "--out", "out")


def test_compile_prints_what_was_tried(nets, capsys):
    code, out, err = run(*TINY, "--precision", "auto", "--agreement", "0.9", capsys=capsys)
    assert code == 0, err
    assert out.count("chosen") == 1
    assert "90.00% is asked for" in out
    assert "computed in" in err
    assert dw.load(nets / "out").manifest.choice.agreement == 0.9


def test_compile_quantises_on_the_images_given(nets, capsys):
    code, out, err = run(*TINY, "--precision", "int8", "--data", "bundled", capsys=capsys)
    assert code == 0, err
    assert "in int8: the same class in" in err
    assert "equal to the simulator to the bit" in out
    assert dw.load(nets / "out").manifest.build.precision == "int8"


@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "`depthwise quantize NETWORK --data FOLDER --out DIRECTORY`"),
        (["--precision", "auto", "--agreement", "2"], "agreement=2.0: a share of images"),
        (["--precision", "auto", "--agreement", "much"], "Invalid value for '--agreement'"),
        (["--agreement", "0.9"], "agreement with precision='float32'"),
        (["--data", "bundled"], "data with precision='float32'"),
        (["--precision", "auto", "--show", "plan"], "--show plan with --precision auto: name"),
        (
            ["--precision", "int8", "--data", "nowhere", "--target", "x86-64", "--show", "plan"],
            "compiled for one CPU, not for a family of them",  # before there is no such folder
        ),
    ],
)
def test_what_cannot_be_compiled_is_said(options, message, capsys):
    code, _, err = run(*TINY, *options, capsys=capsys)
    assert code == 2
    assert message in " ".join(err.split())


@pytest.mark.usefixtures("nets")
def test_compile_says_where_a_precision_is_not_faster(capsys):
    code, out, err = run(*TINY, "--precision", "bfloat16", "--target", "x86-64-v3", capsys=capsys)
    assert code == 0, err
    assert "bfloat16 is not faster than float32 on x86-64-v3" in " ".join(out.split())
