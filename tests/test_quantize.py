"""dw.quantize and `depthwise quantize`: the road, what is kept of it, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from quantization_networks import SHAPE, images, mixed, save_photographs
from terminal import run as command
from torch import nn

import depthwise as dw
from depthwise.graph import capture, interpret, ops
from depthwise.precision.options import QuantizationOptions
from depthwise.quantization.integer import to_integers
from depthwise.quantization.integer_ops import IntegerLayer
from depthwise.quantization.judging import QuantizationError
from depthwise.quantization.steps import agrees_more, diverges_less
from depthwise.sources.slimmed_folder import SlimmedRecord, write_slimmed
from depthwise.training.judging import open_classifier
from depthwise.weights import Preprocessing


@pytest.fixture(scope="module")
def found():
    x = images(120, seed=3)
    labels = mixed()(torch.from_numpy(x)).argmax(1).numpy()
    told = []
    return dw.quantize(mixed(), SHAPE, (x, labels), tell=told.append), told


def test_steps_are_judged_and_taken_back(found):
    record = found[0].record
    names = [step.name for step in record.steps]
    assert names[:4] == ["minmax", "percentile", "mse", "entropy"]
    assert names[4:] == ["equalise", "bias", "scale", "rounding"]
    taken = [step.nats for step in record.steps if step.taken]
    assert taken == sorted(taken, reverse=True)
    assert record.nats == taken[-1]
    best = np.minimum.accumulate([step.nats for step in record.steps])
    for step, before in zip(record.steps[1:], best, strict=False):
        assert step.taken == (step.nats < before)


def test_it_knows_nearly_as_much(found):
    record = found[0].record
    assert record.accuracy[0] == 1
    assert record.accuracy[1] > 0.9
    assert record.agreement > 0.9
    assert record.simulated_agreement > 0.9
    assert record.weight_bytes < 0.6 * record.float_bytes
    assert "in int8: the same class in" in str(found[0])
    assert len(record.layers) == 8
    assert all(each.own > 15 for each in record.layers)


def test_a_directory_holds_the_network(found, tmp_path):
    found[0].save(tmp_path / "q")
    source = dw.open(f"quantized:{tmp_path / 'q'}")
    x = images(1, seed=9)
    assert np.array_equal(source.run([x])[0], dw.simulate(found[0].graph, x))
    assert json.loads((tmp_path / "q/quantization.json").read_text())["network"] == "Mixed"
    (tmp_path / "q/network.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="quantize the network again"):
        dw.open(f"quantized:{tmp_path / 'q'}")
    with pytest.raises(ValueError, match="no quantized network"):
        dw.open(f"quantized:{tmp_path}")


def test_a_quantised_network_is_judged_as_others_are(found, tmp_path):
    look = Preprocessing(
        resize=12, crop=12, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)
    )
    named = replace(found[0], classes=tuple("abcde"), preprocessing=look)
    named.save(tmp_path / "q")
    classifier = open_classifier(f"quantized:{tmp_path / 'q'}")
    assert classifier.classes == tuple("abcde")


def test_onnx_out_and_in_again(found, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    graph, path = found[0].graph, tmp_path / "q.onnx"
    dw.export_onnx(graph, path)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    x = images(8, seed=4)
    theirs = np.concatenate(
        [session.run(None, {session.get_inputs()[0].name: i[None]})[0] for i in x]
    )
    ours = np.concatenate([interpret(graph, i[None])[graph.outputs[0].value] for i in x])
    assert np.mean(np.abs(theirs - ours) < 1e-4) > 0.9  # but for ties that a last digit decides
    again = dw.open(path).traced
    layers = [n for n in to_integers(again) if isinstance(n.op, IntegerLayer)]
    assert len(layers) == 8
    assert np.array_equal(dw.simulate(again, x), dw.simulate(graph, x))


def test_without_images_it_says_what_it_needs():
    with pytest.raises(ValueError, match="--data bundled"):
        dw.quantize(mixed(), SHAPE)


def test_images_of_another_preprocessing_are_told():
    told = []
    x = images(64) * 40 + 100
    dw.quantize(mixed(), SHAPE, x, options=QuantizationOptions("minmax", ()), tell=told.append)
    assert "do not look like those" in told[0]
    told.clear()
    dw.quantize(
        mixed(), SHAPE, images(64), options=QuantizationOptions("minmax", ()), tell=told.append
    )
    assert "do not look like" not in " ".join(told)


def test_a_network_whose_numbers_vanish_is_told_of():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    with torch.no_grad():
        net[1].weight.mul_(1e-12)
        net[1].bias.zero_()
    told = []
    options = QuantizationOptions("minmax", ())
    record = dw.quantize(net, SHAPE, images(64), options=options, tell=told.append).record
    (note,) = record.notes
    assert note in told
    assert note.startswith("1 of 3 values are less than 2e-10 on every image and become 0")
    assert ", the first that of 1: is the network trained" in note


def test_constant_images_have_ranges():
    found = dw.quantize(mixed(), SHAPE, np.zeros((32, *SHAPE[1:]), np.float32))
    assert found.record.agreement == 1


def test_a_network_of_nan_is_refused():
    net = mixed()
    with torch.no_grad():
        net.classifier.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="infinite or none"):
        dw.quantize(net, SHAPE, images(32))


def test_a_network_without_layers_is_refused():
    with pytest.raises(ValueError, match="nothing to quantise"):
        dw.quantize(nn.Sequential(nn.ReLU()), SHAPE, images(32))


def hard():
    """A network whose classes lie so close together that eight bits tell them apart by chance."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 50)).eval()
    with torch.no_grad():
        net[3].weight.copy_(net[3].weight[:1] + 1e-4 * net[3].weight)
        net[3].bias.zero_()
    return net


class Dense(nn.Module):
    """It gives a number for each pixel, and no classes."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 1, 1)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


def test_of_what_gives_no_classes_none_is_said(tmp_path, photographs, capsys):
    torch.manual_seed(0)
    dw.save_graph(dw.open(Dense().eval(), SHAPE).graph, tmp_path / "dense.safetensors")
    args = ["quantize", tmp_path / "dense.safetensors", "--data", photographs]
    code, out, err = command(*args, "--out", tmp_path / "q", capsys=capsys)
    assert code == 0, err
    assert "nats" in out
    assert "same class" not in out + err
    record = json.loads((tmp_path / "q/quantization.json").read_text())
    assert {each["agreement"] for each in (record, *record["steps"])} == {None}
    assert record["simulated_agreement"] is None
    with pytest.raises(ValueError, match=r"agreement=0\.9: it is of the classes of images"):
        dw.quantize(Dense().eval(), SHAPE, images(32), options=QuantizationOptions(agreement=0.9))


def test_layers_are_kept_by_classes_and_steps_stay_by_scores():
    closer, right = QuantizationError(0.1, 0.9, 30), QuantizationError(0.2, 1.0, 25)
    assert diverges_less(closer, right)
    assert not agrees_more(closer, right)
    assert agrees_more(right, closer)
    assert agrees_more(QuantizationError(0.1, 1.0, 30), right)
    assert not agrees_more(right, right)


def test_layers_are_kept_until_a_goal_is_met_or_it_is_refused():
    with pytest.raises(ValueError, match=r"an agreement of 100\.00% is not met"):
        dw.quantize(hard(), SHAPE, images(64), options=QuantizationOptions("minmax", (), 1.0))
    kept = dw.quantize(
        mixed(), SHAPE, images(64), options=QuantizationOptions("minmax", (), keep=("gate",))
    )
    assert len(kept.record.kept) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"observer": "median"}, "there are minmax"),
        ({"steps": ("luck",)}, "there are equalise"),
        ({"agreement": 1.5}, "a share of images"),
        ({"images": 0}, "a whole number"),
        ({"seed": -1}, "a whole number"),
        ({"steps": "bias"}, "a tuple of names"),
        ({"keep": None}, "a tuple of names"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        QuantizationOptions(**options)


@pytest.mark.parametrize("count", [1, 15])
def test_too_few_images_are_asked_for(count):
    options = QuantizationOptions("minmax", (), images=count)
    with pytest.raises(ValueError, match=f"on {count} images?: at least 16 are needed"):
        dw.quantize(mixed(), SHAPE, images(64), options=options)


def test_a_network_is_quantised_once(found):
    with pytest.raises(ValueError, match="is quantised already"):
        dw.quantize(found[0].source, data=images(64))


def test_a_slimmed_network_is_not_overwritten(tmp_path, capsys):
    write_slimmed(tmp_path, capture(mixed(), SHAPE), SlimmedRecord(network="mixed"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, _, err = command(
        "quantize", f"slimmed:{tmp_path}", "--data", "nowhere", "--out", str(tmp_path),
        capsys=capsys,
    )  # fmt: skip
    assert code == 2
    assert f"{tmp_path} holds a slimmed network: give another directory" in " ".join(err.split())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_simulator_takes_a_graph_and_arrays(found):
    with pytest.raises(ValueError, match="holds no value in eight bits"):
        dw.simulate(dw.open(mixed(), SHAPE).graph, images(1))
    with pytest.raises(ValueError, match="it takes a graph"):
        dw.simulate(found[0], images(1))
    with pytest.raises(ValueError, match="input 'x' is a list: an array of float32 is taken"):
        dw.simulate(found[0].graph, images(1).tolist())
    with pytest.raises(ValueError, match="input 'x' is an array of float64"):
        dw.simulate(found[0].graph, images(1).astype(np.float64))


def test_a_module_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"no module is called 'gates'.*gate"):
        dw.quantize(mixed(), SHAPE, images(32), options=QuantizationOptions(keep=("gates",)))


@pytest.mark.parametrize("path", ["stem.0", "classifier"])
def test_the_first_and_the_last_layer_may_be_kept(path):
    options = QuantizationOptions("minmax", keep=(path,))
    found = dw.quantize(mixed(), SHAPE, images(32), options=options)
    floats = [n for n in to_integers(found.graph) if isinstance(n.op, ops.Conv2d | ops.Linear)]
    assert [node.path for node in floats] == [path]


@pytest.mark.parametrize("at_once", [4, 9])  # 6 images are held out
def test_a_network_of_several_images_at_once_is_quantised(at_once):
    options = QuantizationOptions("minmax", ())
    one = dw.quantize(mixed(), SHAPE, images(32), options=options)
    found = dw.quantize(mixed(), (at_once, *SHAPE[1:]), images(32), options=options)
    assert found.record.nats == pytest.approx(one.record.nats, rel=1e-3)
    assert found.record.simulated == 6


class Decides(nn.Module):
    """A network that returns what follows from its scores."""

    def __init__(self, decision):
        super().__init__()
        self.net, self.decision = mixed(), decision

    def forward(self, x):
        return self.decision(self.net(x))


@pytest.mark.parametrize("decision", [lambda x: x.argmax(1), lambda x: x > 0])
def test_what_gives_whole_numbers_gives_no_scores(decision):
    found = dw.quantize(
        Decides(decision).eval(), SHAPE, images(32), options=QuantizationOptions("minmax", ())
    )
    assert found.record.agreement is None
    assert "nats" in str(found)


@pytest.fixture
def photographs(tmp_path):
    return save_photographs(tmp_path / "photographs", 24)


def test_the_command_line(tmp_path, photographs, capsys):
    dw.save_graph(dw.open(mixed(), SHAPE).graph, tmp_path / "net.safetensors")
    args = ["quantize", tmp_path / "net.safetensors", "--data", photographs]
    code, out, err = command(*args, "--out", tmp_path / "q", capsys=capsys)
    assert code == 0, err
    assert "taken back" in out
    assert "a network as quantized:" in " ".join(out.split())
    assert "rounding: " in err
    assert dw.open(f"quantized:{tmp_path / 'q'}").shapes == (SHAPE,)
    code, out, _ = command(*args, "--out", tmp_path / "p", "--json", capsys=capsys)
    assert code == 0
    assert json.loads(out)["held_out"] == 5


def test_damaged_images_are_left_out_and_told(photographs):
    options = QuantizationOptions("minmax", ())
    whole = (photographs / "7.png").read_bytes()
    (photographs / "7.png").write_bytes(whole[: len(whole) // 2])
    found = dw.quantize(mixed(), SHAPE, photographs, options=options).record
    assert found.images + found.held_out == 23
    assert any("7.png is damaged" in note for note in found.notes)
    for path in photographs.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of 24 images can be read: .*png is no image"):
        dw.quantize(mixed(), SHAPE, photographs, options=options)


def test_the_command_line_without_images(tmp_path, capsys):
    code, _, err = command("quantize", "mobilenet_v2", "--out", tmp_path / "q", capsys=capsys)
    assert code == 2
    assert "--data bundled" in " ".join(err.split())
    assert not (tmp_path / "q").exists()


def test_a_quantised_network_is_not_trained_on_other_classes(found, tmp_path):
    found[0].save(tmp_path / "q")
    with pytest.raises(ValueError, match="which is not to be changed"):
        dw.train(f"quantized:{tmp_path / 'q'}", "bundled", directory=tmp_path / "run")


def silent_channel(bias: float) -> nn.Module:
    """Return a network of which a channel has next to no weights: its bias is all that it gives."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1))
    with torch.no_grad():
        net[0].weight[0] = 1e-9
        net[0].bias[0] = bias
    return net.eval()


@pytest.mark.parametrize("bias", [1.0, -0.5])
def test_a_bias_is_held_where_a_channel_has_next_to_no_weights(bias):
    """Int32 at the scale of such weights would end at a ten-thousandth."""
    x = images(40)
    net = silent_channel(bias)
    found = dw.quantize(net, SHAPE, x, options=QuantizationOptions("minmax", ()))
    with torch.no_grad():
        wanted = net(torch.from_numpy(x)).numpy()
    apart = np.abs(dw.simulate(found.graph, x) - wanted).max()
    assert apart < 0.03 * np.abs(wanted).max()
