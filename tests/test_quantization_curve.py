"""Agreement against milliseconds: which layers are kept, in what order, and what each costs."""

import json

import numpy as np
import pytest
import torch
from quantization_networks import SHAPE, encoded, images, mixed, save_photographs
from terminal import run as command

import depthwise as dw
from depthwise.calibration.images import as_tensor
from depthwise.compiler import pipeline
from depthwise.graph import capture
from depthwise.graph.layers import is_layer
from depthwise.precision.curve import INSTANT, _choose, _say
from depthwise.precision.curve_picture import curve_picture
from depthwise.precision.options import QuantizationOptions
from depthwise.precision.record import PointFigures
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.judging import keep_layers
from depthwise.quantization.running import Runner
from depthwise.quantization.simulation import simulate

CURVE = QuantizationOptions("minmax", (), curve=True)


@pytest.fixture(scope="module")
def found():
    x = images(120, seed=3)
    labels = mixed()(torch.from_numpy(x)).argmax(1).numpy()
    return dw.quantize(mixed(), SHAPE, (x, labels), options=CURVE)


def test_layers_that_gain_most_for_a_microsecond_come_first(found):
    order = found.record.curve.order
    worth = [each.nats / max(each.microseconds, INSTANT) for each in order]
    assert worth == sorted(worth, reverse=True)
    assert all(each.nats > 0 for each in order)
    assert {each.path for each in order} <= {each.path for each in found.record.layers}


def test_each_point_keeps_more_layers(found):
    curve = found.record.curve
    counts = [point.kept for point in curve.points]
    assert counts == sorted(set(counts))
    assert counts[0] == curve.chosen == 0
    assert counts[-1] <= len(curve.order)
    assert [point.layer for point in curve.points[1:]] == [
        curve.order[count - 1].path for count in counts[1:]
    ]
    assert all(point.milliseconds > 0 for point in (*curve.points, curve.whole))
    assert curve.points[0].nats == found.record.nats
    assert curve.whole.kept == 8
    assert curve.whole.nats < curve.points[0].nats
    assert curve.judged == 24
    assert curve.float_right == 24  # its own classes are the labels


def test_any_point_can_be_taken(tmp_path):
    x = images(120, seed=3)
    options = QuantizationOptions("minmax", (), curve=True, kept=2)
    told = []
    taken = dw.quantize(mixed(), SHAPE, x, options=options, tell=told.append)
    curve = taken.record.curve
    assert sum(f" in {curve.kept_in}: " in line for line in told) == len(curve.points)
    assert curve.chosen == 2
    assert set(taken.record.kept) == {each.layer for each in curve.order[:2]}
    floats = [n for n in taken.graph if is_layer(taken.graph, n)]
    assert {node.name for node in floats} == set(taken.record.kept)
    assert f"2 layers in {curve.kept_in}" in str(taken)
    taken.save(tmp_path / "q")
    assert json.loads((tmp_path / "q/quantization.json").read_text())["curve"]["chosen"] == 2


def point(kept: int, milliseconds: float, agreement: float) -> PointFigures:
    return PointFigures(
        kept=kept, milliseconds=milliseconds, nats=0.1, agreement=agreement, decibels=20
    )


POINTS = [point(0, 1.0, 0.9), point(1, 1.2, 0.95), point(2, 1.1, 0.97), point(4, 2.0, 0.99)]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, 0), ({"kept": 1}, 1), ({"agreement": 0.9}, 0), ({"agreement": 0.95}, 2),
        ({"agreement": 0.98}, 4),
    ],
)  # fmt: skip
def test_the_fastest_point_that_agrees_is_taken(options, kept):
    assert _choose(POINTS, QuantizationOptions(curve=True, **options)).kept == kept


def test_without_classes_decibels_are_drawn(found, tmp_path):
    curve = found.record.curve
    points = [point.model_copy(update={"agreement": None}) for point in curve.points]
    whole = curve.whole.model_copy(update={"agreement": None})
    dense = curve.model_copy(update={"points": tuple(points), "whole": whole})
    curve_picture(found.record.model_copy(update={"curve": dense}), tmp_path / "curve.svg")
    text = (tmp_path / "curve.svg").read_text()
    assert "signal to quantisation noise" in text
    assert "same class" not in text
    assert _say(points[0], "float32").endswith("nats from the original")


def test_a_goal_that_no_point_meets_is_refused():
    with pytest.raises(ValueError, match=r"99\.00% of the held-out images at best, with 4 layers"):
        _choose(POINTS, QuantizationOptions(curve=True, agreement=1.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kept": 2}, "ask for the curve, too"),
        ({"curve": True, "kept": -1}, "a whole number of 0 or more"),
        ({"curve": True, "kept": 1, "agreement": 0.9}, "leave out one"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        QuantizationOptions(**options)


def test_more_layers_than_there_are_are_refused():
    options = QuantizationOptions("minmax", (), curve=True, kept=99)
    with pytest.raises(ValueError, match="kept=99: of 8 layers"):
        dw.quantize(mixed(), SHAPE, images(64), options=options)


def kept_in_bfloat16() -> Encoding:
    """Return a network whose expansion and projection are kept in bfloat16."""
    encoding = encoded(capture(mixed(), SHAPE), images(32))
    names = {
        name
        for name, node in encoding.placement.layers.items()
        if node.path in ("expand.0", "project")
    }
    kept = keep_layers(encoding, frozenset(names))
    return Encoding(kept.graph, kept.values, kept.weights, kept.kept, "bfloat16")


def test_kept_layers_are_compiled_in_bfloat16():
    encoding = kept_in_bfloat16()
    graph = insert_quantization(encoding)
    rewritten = pipeline.rewrite(graph, precision="bfloat16")
    narrow = {node.path for node in rewritten if node.type.dtype == "bfloat16"}
    assert {"expand.0", "project"} <= narrow
    library = dw.compile(graph, precision="bfloat16")
    verification = library.manifest.verification
    assert verification.error < 1e-6
    assert verification.distance.error < 0.05
    x = images(16, seed=6)
    own = np.concatenate([library(each[None]) for each in x])
    judged = Runner(as_tensor(encoding.graph, x))(encoding).numpy()
    in_float = simulate(graph, x)
    # an image of which no number is a tie has the same scores; in float32 none has
    off, if_not = (np.abs(own - each).max(1).min() for each in (judged, in_float))
    assert off < 1e-4 * np.abs(own).max() < if_not


def test_where_no_layer_is_kept_there_is_nothing_to_narrow():
    graph = insert_quantization(encoded(capture(mixed(), SHAPE), images(32)))
    with pytest.raises(ValueError, match="no layer is left that is not in bytes"):
        dw.compile(graph, precision="bfloat16")


@pytest.mark.slow
def test_the_command_line(tmp_path, capsys):
    dw.save_graph(dw.open(mixed(), SHAPE).graph, tmp_path / "net.safetensors")
    folder = save_photographs(tmp_path / "photographs", 40)
    args = ["quantize", tmp_path / "net.safetensors", "--data", folder, "--observer", "minmax"]
    code, out, err = command(
        *args, "--curve", "--kept", "1", "--out", tmp_path / "q", capsys=capsys
    )
    assert code == 0, err
    assert "1 *" in out
    assert "same class" in out
    assert (tmp_path / "q/curve.png").stat().st_size > 10_000
    code, _, err = command(*args, "--kept", "1", "--out", tmp_path / "p", capsys=capsys)
    assert code == 2
    assert "--curve" in err


def test_ticks_of_the_picture_are_numbers(found, tmp_path):
    curve_picture(found.record, tmp_path / "curve.svg")
    drawn = (tmp_path / "curve.svg").read_text()
    assert "$" not in drawn
    assert f"kept in {found.record.curve.kept_in}" in drawn
