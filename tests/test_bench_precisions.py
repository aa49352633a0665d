"""The comparison at several precisions: who takes part in which, and how it is judged."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from quantization_networks import SHAPE, images, mixed, quantized
from terminal import run

from depthwise.analysis.tables import render
from depthwise.bench.exported_model import BenchImages, Question, plan_in
from depthwise.bench.layers import profile
from depthwise.bench.peers import (
    DEFAULT,
    INT8,
    INT8_OF_OURS,
    PEERS,
    Opened,
    at_precisions,
    find_peers,
)
from depthwise.bench.record import BenchRecord, NetworkResult, RuntimeRecord
from depthwise.bench.rounds import compare
from depthwise.bench.tables import network_table
from depthwise.bench.worker import judge
from depthwise.errors import CannotRun
from depthwise.graph import capture, interpret, ops
from depthwise.graph.exporters.torch.batch import with_images
from depthwise.latency.precisions import read_precisions
from depthwise.precision.comparison import in_precisions
from depthwise.precision.quantize import quantize
from depthwise.quantization.removal import remove_quantization
from depthwise.quantization.simulation import simulate
from depthwise.sources.source import torch_source

FLOATS = ("float32", "bfloat16")


def rows(precisions, calibrated=True, names=None):
    found = at_precisions(find_peers(names), precisions, calibrated)
    return [(peer.name, peer.precision) for peer in found]


def test_peers_take_part_at_their_default_and_in_each_precision_that_they_have():
    assert rows(["float32", "bfloat16"], names="openvino,onnxruntime,pytorch") == [
        ("openvino", DEFAULT), ("openvino", "float32"), ("openvino", "bfloat16"),
        ("onnxruntime", "float32"), ("pytorch", "float32"), ("pytorch", "bfloat16"),
    ]  # fmt: skip
    assert rows([INT8], names="openvino,pytorch") == [
        ("openvino", DEFAULT), ("openvino", INT8), ("openvino", INT8_OF_OURS),
    ]  # fmt: skip
    assert rows([INT8], calibrated=False, names="onnxruntime") == [("onnxruntime", INT8_OF_OURS)]


def test_a_quantiser_needs_packages_of_its_own_and_our_network_another_form():
    (openvino,) = find_peers("openvino")
    assert openvino.at(INT8).packages == ("openvino", "nncf")
    assert openvino.at(INT8).forms == openvino.forms
    assert openvino.at(INT8_OF_OURS).packages == ("openvino",)
    assert openvino.at(INT8_OF_OURS).forms == ("quantised",)


# --------------------------------------------------------------------------------------- judging


def test_a_runtime_is_judged_by_its_worst_error_and_how_often_it_keeps_the_class():
    expected = np.array([[[0.0, 4.0], [2.0, 1.0]], [[3.0, 0.0], [1.0, 2.0]]])
    given = np.arange(4.0).reshape(2, 2)
    answers = {0.0: expected[0] + 1, 2.0: np.array([[0.0, 3.0], [1.0, 2.0]])}
    taken = []
    opened = Opened(lambda x: taken.append(x[0]), lambda: answers[taken[-1]])
    assert judge(opened, given, expected) == (1.0, 0.75)  # 3 of the largest, 3, in the second part


@pytest.mark.parametrize(
    ("shape", "agreement"),
    [((2, 1, 4), 1.0), ((2, 1, 4, 1, 1), 1.0), ((2, 1, 1), None), ((2, 1, 3, 4, 4), None)],
)
def test_vectors_of_scores_alone_have_classes(shape, agreement):
    opened = Opened(lambda _: None, lambda: np.ones(shape[1:]))
    assert judge(opened, np.zeros((2, 1)), np.ones(shape)) == (0.0, agreement)


def ask(**changes):
    return replace(Question("mixed", {}, "", mixed(), SHAPE), **changes)


def test_each_precision_is_a_row_of_its_own_beside_the_class_that_it_gives():
    question = in_precisions(ask(), torch_source(mixed(), [SHAPE]), FLOATS)
    peers = at_precisions(find_peers("pytorch"), FLOATS, False)
    found = compare(question, peers, 1, 2)
    assert [(r.name, r.precision) for r in found.runtimes] == [
        ("depthwise", "float32"), ("depthwise", "bfloat16"), ("depthwise, direct", "float32"),
        ("pytorch", "float32"), ("pytorch", "bfloat16"),
    ]  # fmt: skip
    assert found.images == "64 images of noise"
    whole, half = found.own
    assert (whole.agreement, whole.error < 1e-4) == (1.0, True)
    assert 0.8 < half.agreement <= 1
    assert 1e-4 < half.error < 0.2
    theirs = found.peers[1]
    assert theirs.failed is None
    assert 1e-4 < theirs.error < 0.2
    assert {len(each.rounds) for each in found.own} == {2}
    text = render(network_table(found, 1), 160)
    assert "computes in" in text
    assert "as PyTorch in float32, on 64 images of noise" in text
    kept = NetworkResult.model_validate_json(found.model_dump_json())
    assert kept.own[1].agreement == half.agreement


def test_int8_is_quantised_once_and_read_by_others():
    question = in_precisions(ask(), torch_source(mixed(), [SHAPE]), [INT8], images(96, seed=4))
    assert question.images.said == "19 held-out images of 96 images"
    assert len(question.images.calibration) == 77
    names = [name for name in ("openvino", "onnxruntime") if find_spec(name)]
    peers = at_precisions(find_peers(",".join(names)), [INT8], False)
    found = compare(question, peers, 1, 1)
    assert [r.precision for r in found.own] == [INT8]
    ours = found.own[0]
    assert ours.agreement > 0.8
    for peer in (each for each in found.peers if each.precision == INT8_OF_OURS):
        assert peer.failed is None
        assert peer.agreement > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_peer_that_is_installed_runs_in_each_of_its_precisions(peer):
    package = {"mnn": "MNN", "litert": "litert_torch", "pytorch": "torch", "torch.compile": "torch"}
    if find_spec(package.get(peer.name, peer.name)) is None:
        pytest.skip(f"{peer.name} is not installed: pip install 'depthwise[bench]'")
    question = in_precisions(ask(), torch_source(mixed(), [SHAPE]), [INT8], images(96, seed=4))
    found = compare(question, [peer.at(each) for each in peer.precisions], 1, 1)
    for each in found.peers:
        if each.failed and "is not installed" in each.failed:
            continue
        assert each.failed is None, each.precision
        assert each.error < 0.3


# ------------------------------------------------------------------------------- who is the best


def runtime(name, precision, seconds, agreement):
    return RuntimeRecord(
        name=name, precision=precision, versions={}, error=0.1, agreement=agreement,
        rounds=((seconds,), (seconds,)),
    )  # fmt: skip


def result(*runtimes, said="64 images of noise"):
    return NetworkResult(
        network="n", settings={}, weights="", input_shape=(1, 3, 8, 8), macs=1, params=1,
        peaks=(1e9, 1e9), images=said, runtimes=runtimes,
    )  # fmt: skip


def test_ours_and_the_best_peer_are_the_fastest_of_those_that_keep_the_class():
    found = result(
        runtime("depthwise", "float32", 4.0, 1.0), runtime("depthwise", "bfloat16", 2.0, 0.99),
        runtime("depthwise", "int8", 1.0, 0.9), runtime("a", "float32", 9.0, 1.0),
        runtime("a", "default", 3.0, 0.995), runtime("a", "int8", 1.5, 0.98),
    )  # fmt: skip
    assert found.ours.precision == "bfloat16"
    assert found.best_peer.precision == "default"
    assert found.ratio(found.best_peer) == 1.5
    text = render(network_table(found, 1), 160)
    assert "best peer: a, default, 1.50x our time in bfloat16" in text
    lines = [line.split() for line in text.splitlines()]
    rows = [(*line[:2], line[-1]) for line in lines if line and line[-1][-3:] in (".0%", ".5%")]
    assert rows == [
        ("depthwise", "int8", "90.0%"), ("depthwise", "bfloat16", "99.0%"),
        ("depthwise", "float32", "100.0%"), ("a", "int8", "98.0%"), ("a", "default", "99.5%"),
        ("a", "float32", "100.0%"),
    ]  # fmt: skip


def test_where_none_keeps_the_class_ours_is_the_first_and_float32_alone_is_beside_it():
    found = result(
        runtime("depthwise", "bfloat16", 2.0, None), runtime("a", "float32", 9.0, None),
        runtime("a", "bfloat16", 1.0, None),
    )  # fmt: skip
    assert found.ours.precision == "bfloat16"
    assert found.best_peer.precision == "float32"


def test_records_of_before_are_float32():
    old = RuntimeRecord.model_validate_json('{"name": "depthwise", "versions": {}}')
    assert (old.precision, old.agreement, old.title) == ("float32", None, "depthwise")


# --------------------------------------------------------------------------- quantised networks


def test_a_quantised_network_without_its_rounding_is_the_network_again():
    graph = quantized(mixed())
    plain = remove_quantization(graph)
    assert not [node for node in plain if isinstance(node.op, (ops.Quantize, ops.Dequantize))]
    x = images(1, seed=8)
    (value,) = [interpret(plain, x)[output.value] for output in plain.outputs]
    with torch.no_grad():
        expected = mixed()(torch.from_numpy(x)).numpy()
    assert np.abs(value - expected).max() < 0.05 * np.abs(expected).max()


def test_a_quantised_directory_is_compared_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quantize(mixed(), SHAPE, images(64)).save("small")
    code, out, err = run(
        "bench", "quantized:small", "--peers", "pytorch", "--rounds", "1", "--out", "r.json",
        capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    assert "quantized:small" in out
    (found,) = BenchRecord.model_validate_json((tmp_path / "r.json").read_text()).networks
    assert [r.precision for r in found.own] == [INT8]
    assert found.own[0].agreement > 0.7


# ------------------------------------------------------------------------------ the command line


def test_precisions_are_read_in_the_order_given():
    assert read_precisions("int8, float32,int8") == ("int8", "float32")
    with pytest.raises(
        ValueError, match=r"--precision int8,fp4: 'fp4' is none; name some of float32"
    ):
        read_precisions("int8,fp4")
    with pytest.raises(ValueError, match="name some of"):
        read_precisions("")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8"], "depthwise quantize NETWORK --data FOLDER"),
        (["--precision", "int8"], "--data bundled takes those that come with depthwise"),
        (["--precision", "int8"], "quantized:DIRECTORY"),
        (["--precision", "half"], "'half' is none; name some of float32, bfloat16"),
        (["--precision", ""], "'' is none; name some of float32, bfloat16"),
        (["--data", "bundled"], "--data bundled: it is for --precision"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, message, capsys):
    code, _, err = run("bench", "resnet20_cifar", *arguments, capsys=capsys)
    assert code == 2
    assert message in " ".join(err.split())


@pytest.mark.parametrize("named", [["--peers", "openvno"], ["--precision", "int8,half"]])
def test_names_are_looked_at_before_anything_is_opened(named, capsys):
    code, _, err = run(
        "bench", "no_such_network", "--precision", "int8", "--data", "bundled", *named,
        capsys=capsys,
    )  # fmt: skip
    assert code == 2
    assert f"{' '.join(named)}:" in err


def test_a_batch_in_int8_gives_what_each_image_gives_alone():
    alone = quantized(mixed())
    question = in_precisions(
        ask(shape=(3, *SHAPE[1:]), quantised=alone), torch_source(mixed(), [SHAPE]),
        [INT8],
    )  # fmt: skip
    assert question.quantised is not None
    x = images(3, seed=5)
    assert np.array_equal(simulate(question.quantised, x), simulate(alone, x))
    rows = profile(plan_in(question, INT8), seconds=0.0).layers
    assert {row.shape[0] for row in rows if row.macs} == {3}


def test_images_that_are_compared_are_of_a_fixed_number():
    class Centred(torch.nn.Module):
        def forward(self, x):
            return x - x.mean(0, keepdim=True)

    with pytest.raises(ValueError, match=r"no other number of images: .* of the batch"):
        with_images(capture(Centred(), (2, 3, 4, 4)), 3)


def test_our_own_library_must_compute_numbers(monkeypatch):
    question = ask(images=BenchImages("one", images(1)))
    monkeypatch.setattr("depthwise.bench.rounds.TOLERANCE", -1.0)
    with pytest.raises(CannotRun, match="our own library of mixed: its output is off by"):
        compare(question, [], 1, 1)
    assert compare(replace(question, precisions=("bfloat16",)), [], 1, 1).own[0].failed is None


def test_layers_are_told_in_each_precision(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "import torch\n\ndef tiny():\n    return torch.nn.Conv2d(8, 32, 1)\n"
    )
    command = ("bench", "nets.py:tiny", "--shape", "1,8,8,8", "--precision", "bfloat16", "--layers")
    code, out, err = run(*command, capsys=capsys)
    assert code == 0, err
    assert "nets.py:tiny in bfloat16 on 1x8x8x8" in out
    assert "tile_conv" in out
