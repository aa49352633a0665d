"""`dw.slim` on a small network: what is asked, what it returns, what it refuses."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from slimming_networks import block, classifier
from torch import nn

import depthwise as dw
from depthwise.graph import interpret
from depthwise.slimming import state
from depthwise.slimming.fitting.recovery import HIGHEST, LOWEST, peak_rate
from depthwise.slimming.notes import missed
from depthwise.training.calibration_data import gather
from depthwise.training.data.arrays import ArrayImages
from depthwise.training.data.dataset import Dataset, ImageSplit
from depthwise.training.framing import choose_framing
from depthwise.weights import Preprocessing

ELSEWHERE = dw.CompileOptions("aarch64")  # so that nothing is timed


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return classifier()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((80, 3, 12, 12)).astype(np.float32)


OPTIONS = dw.SlimmingOptions(moves=("channels", "channel_pair"), build=ELSEWHERE)


def test_half_of_the_multiply_adds(net, images, tmp_path):
    told: list[str] = []
    found = dw.slim(
        net, (1, 3, 12, 12), "50%", images, options=OPTIONS, directory=tmp_path, tell=told.append
    )
    before, after = found.record.before, found.record.after
    assert after.macs <= before.macs / 2
    assert after.macs == dw.cost(found.graph).macs
    assert 0 < len(found.steps) == sum(len(each.steps) for each in found.record.rounds)
    assert found.record.rounds[-1].divergence < 0.5
    assert after.agreement > 0.6
    assert any("round 1" in line for line in told)
    x = torch.from_numpy(images[:4])
    again = dw.open(f"slimmed:{tmp_path}")
    with torch.no_grad():
        torch.testing.assert_close(found.module.eval()(x), again.module.eval()(x))  # type: ignore[attr-defined]
    assert not (tmp_path / state.FOLDER).exists()
    record = json.loads((tmp_path / "slimming.json").read_text())
    assert record["limit"] == before.macs / 2
    scores = found.module.train()(x)  # an ordinary module, which learns
    scores.square().mean().backward()
    assert all(p.grad is not None for p in found.module.parameters())


def test_a_width_keeps_what_is_frozen(net, images, tmp_path):
    partly = copy.deepcopy(net)
    partly.get_submodule("3").requires_grad_(False)  # 16 to 32 channels
    options = dw.SlimmingOptions(alpha=0.5, build=ELSEWHERE)
    found = dw.slim(partly, (1, 3, 12, 12), data=images, options=options, directory=tmp_path)
    assert [found.graph.type(f"{name}.weight").shape[:2] for name in (0, 3, 7, 12)] == [
        (16, 3), (32, 16), (16, 32), (5, 16),
    ]  # fmt: skip
    (step,) = found.steps
    assert (step.move, step.words) == ("width", "32 to 16 channels")
    weight = partly.get_parameter("3.weight").detach().numpy()
    np.testing.assert_array_equal(found.graph.constants["3.weight"].data, weight)


def test_a_curve_first(net, images):
    from depthwise.slimming.budget import Budget
    from depthwise.slimming.request import SlimmingRequest
    from depthwise.slimming.slim import Slimming

    source = dw.open(net, (1, 3, 12, 12))
    found = Slimming(SlimmingRequest(source, Budget.read("50%"), images, OPTIONS)).curve()
    costs = [point.cost for point in found.points]
    damages = [point.damage for point in found.points]
    assert len(costs) > 5
    assert costs == sorted(costs, reverse=True)
    assert damages == sorted(damages)
    assert costs[-1] < found.original / 2


@pytest.mark.parametrize(("budget", "fault"), [
    ("900M", "meets a budget of 900.00 M MACs already"),
    ("9 s", "meets a budget of 9.00 s already"),
    ("0.01%", r"cannot be met by the moves channels, channel_pair: the smallest that can is"),
    ("many", "accepted are"),
])  # fmt: skip
def test_budgets_that_cannot_be_held(net, images, budget, fault):
    with pytest.raises(ValueError, match=fault):
        dw.slim(net, (1, 3, 12, 12), budget, images, options=OPTIONS)


def test_networks_and_options_that_cannot_be(net, images):
    with pytest.raises(ValueError, match="of one image, as in"):
        dw.slim(net, (2, 3, 12, 12), "50%", images, options=OPTIONS)
    with pytest.raises(ValueError, match="no move is named 'chanels': the nearest are channels"):
        dw.SlimmingOptions(moves=("chanels",))
    with pytest.raises(ValueError, match="images=0"):
        dw.SlimmingOptions(images=0)
    with pytest.raises(ValueError, match=r"recover='soon'|no length of time"):
        dw.SlimmingOptions(recover="soon")
    for alpha in (2.0, 0.0, "half"):
        with pytest.raises(ValueError, match=f"alpha={alpha!r}: the share of the channels that"):
            dw.SlimmingOptions(alpha=alpha)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a width of 0\.5 and a budget of 25%: give one"):
        dw.slim(net, (1, 3, 12, 12), "25%", images, options=dw.SlimmingOptions(alpha=0.5))
    with pytest.raises(ValueError, match="seed=-1: a whole number of 0 or more"):
        dw.SlimmingOptions(seed=-1)
    with pytest.raises(ValueError, match="no move is named 'q': none is near; there are channels"):
        dw.SlimmingOptions(moves=("q",))
    with pytest.raises(ValueError, match="no multiply-adds: there is nothing to slim"):
        dw.slim(nn.ReLU(), (1, 3, 12, 12), "50%", images)
    recovering = dw.SlimmingOptions(build=ELSEWHERE, recover="1min")
    with pytest.raises(ValueError, match="give one"):
        dw.slim(net, (1, 3, 12, 12), "50%", images, options=recovering)
    with pytest.raises(ValueError, match="float32 networks are slimmed"):
        dw.slim(nn.Conv2d(3, 4, 1).half(), (1, 3, 12, 12), "50%", images)


@pytest.mark.parametrize(("data", "fault"), [
    (np.zeros((20, 3, 9, 9), np.float32), "takes .N, 3, 12, 12."),
    (np.zeros((5, 3, 12, 12), np.float32), "at least 16 are needed"),
    ((np.zeros((20, 3, 12, 12), np.float32), np.full(20, 5)), "0 to 4 are accepted"),
    ((np.zeros((20, 3, 12, 12), np.float32), np.zeros(19, int)), "0 to 4 are accepted"),
    (7, "data is an int"),
])  # fmt: skip
def test_images_that_cannot_be_used(net, data, fault):
    graph = dw.open(net, (1, 3, 12, 12)).graph
    with pytest.raises(ValueError, match=fault):
        gather(data, graph, None, 100)


def coloured(classes: int) -> Dataset:
    """Return 60 images of 12 x 12 pixels in so many classes."""
    pixels = np.random.default_rng(1).integers(0, 256, (60, 12, 12, 3), np.uint8)
    images = ArrayImages("these", pixels, np.arange(60))
    labels = np.arange(60) % classes
    split = ImageSplit(images, labels)
    return Dataset("these", tuple(f"c{i}" for i in range(classes)), split, split, None)


def test_labelled_images_must_have_the_networks_classes(net):
    graph = dw.open(net, (1, 3, 12, 12)).graph
    found = gather(coloured(5), graph, None, 40)
    assert found.images.shape == (32, 3, 12, 12)
    assert found.held.shape == (8, 3, 12, 12)
    assert found.validation is not None
    assert sorted(set(found.validation[1].tolist())) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="3 classes, the network 5 scores"):
        gather(coloured(3), graph, None, 40)


def test_images_that_are_all_alike_slim_nevertheless(net):
    """Their gradients have one direction, and rounding errors."""
    black = np.zeros((80, 3, 12, 12), np.float32)
    options = dw.SlimmingOptions(moves=("channels",), build=ELSEWHERE)
    found = dw.slim(net, (1, 3, 12, 12), "70%", black, options=options)
    assert found.record.after.macs <= 0.7 * found.record.before.macs


def test_a_network_that_gives_no_numbers_is_refused(net, images):
    spoiled = copy.deepcopy(net)
    with torch.no_grad():
        spoiled[0].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="returns numbers that are infinite or none"):
        dw.slim(spoiled, (1, 3, 12, 12), "50%", images, options=OPTIONS)


@pytest.mark.parametrize(("took", "told"), [(2.0, 1), (1.06, 1), (1.04, 0), (0.5, 0)])
def test_a_budget_that_is_missed_is_said(took, told):
    notes = list(missed(took, 1.0))
    assert len(notes) == told
    assert all("the budget of 1.00 ms is NOT MET" in note for note in notes)


def test_a_file_is_no_directory(net, images, tmp_path):
    (tmp_path / "net").write_text("mine")
    with pytest.raises(ValueError, match="net is a file: give the name of a directory"):
        dw.slim(net, (1, 3, 12, 12), "50%", images, options=OPTIONS, directory=tmp_path / "net")


def test_recovery_keeps_the_better_network_and_is_of_one_slimming_alone(net, tmp_path):
    """A second slimming in the folder would go on with the training of another network."""
    options = dw.SlimmingOptions(moves=("channels",), build=ELSEWHERE, recover="1s")
    shape, data = (1, 3, 12, 12), coloured(5)
    found = dw.slim(net, shape, "50%", data, options=options, directory=tmp_path)
    recovery = found.record.recovery
    assert recovery is not None
    assert recovery.kept == (recovery.after > recovery.before)
    assert found.record.after.accuracy == pytest.approx(max(recovery.before, recovery.after))
    with pytest.raises(ValueError, match=r"holds the recovery of a network .* another directory"):
        dw.slim(net, shape, "70%", data, options=options, directory=tmp_path)


def test_recovery_trains_weights_whatever_they_are_called(net, tmp_path, monkeypatch):
    """Files of other exporters name weights otherwise than training does."""
    graph = dw.open(net, (1, 3, 12, 12)).graph
    called = {name: f"onnx::{i}" for i, name in enumerate(graph.constants)}
    nodes = tuple(
        replace(node, inputs=tuple(called.get(name, name) for name in node.inputs))
        for node in graph
    )
    constants = {called[name]: known for name, known in graph.constants.items()}
    seen = []
    monkeypatch.setattr(
        "depthwise.slimming.fitting.recovery._better",
        lambda found, trained, *_: seen.append(trained) or found,
    )
    options = dw.SlimmingOptions(moves=("channels",), build=ELSEWHERE, recover="0.5s")
    foreign = replace(graph, nodes=nodes, constants=constants)
    dw.slim(foreign, None, "50%", coloured(5), options=options, directory=tmp_path)
    x = np.random.default_rng(3).standard_normal((1, 3, 12, 12), np.float32)
    with torch.no_grad():
        expected = dw.Run.open(tmp_path / "recovery").network()(torch.from_numpy(x)).numpy()
    (trained,) = seen
    found = interpret(trained, x)[trained.outputs[0].value]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_network_near_the_original_is_trained_at_a_smaller_rate():
    assert peak_rate(1.0) == LOWEST
    assert peak_rate(0.96) == pytest.approx(0.02)
    assert peak_rate(0.1) == HIGHEST


@pytest.mark.parametrize("resize", [24, 20])
def test_images_are_prepared_as_the_batchnorms_remember(resize):
    """Of weights that record nothing: what they were trained on is found among the usual ways."""
    random = np.random.default_rng(2)
    small = [(random.integers(0, 120, (20, 20), np.uint8), f"image {i}") for i in range(32)]
    how = Preprocessing(
        resize=resize, crop=24, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )
    x = torch.cat([how.apply(Image.fromarray(pixels)) for pixels, _ in small])
    net = nn.Sequential(*block(3, 16), *block(16, 16)).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net(x)
    graph = dw.open(net.eval(), (1, 3, 24, 24)).graph
    found, notes = choose_framing(graph, None, small)
    assert found == how
    assert "fits its BatchNorms best" in notes[0]
