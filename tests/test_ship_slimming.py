"""`depthwise ship` with a budget: trained, slimmed, compiled; one report; resumed like all else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from shipping_requests import (
    make_network,
    make_request,
    measured_elsewhere,  # noqa: F401  (a fixture, used by all)
)
from terminal import run as command
from torch import nn

import depthwise as dw
from depthwise.analysis.tables import render
from depthwise.report.changed_record import SlimmingStageRecord, TrainingStageRecord
from depthwise.report.record import (
    Baseline,
    Comparison,
    Compilation,
    CostSummary,
    LayerProfile,
    Report,
)
from depthwise.runtime.artifact import STATE
from depthwise.shipping import STAGES, Stage, pipeline
from depthwise.shipping.request import SlimmingPlan
from depthwise.shipping.summary import summary

CHANGING = [stage for stage in STAGES if stage.name in ("train", "slim", "count", "compile")]
OPTIONS = dw.SlimmingOptions(moves=("channels",), build=dw.CompileOptions("aarch64"))


def net_of(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(32, classes)).eval()  # fmt: skip


def paint(folder, count, size=32):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture
def few_stages(monkeypatch):
    """Leave out what takes times, which has tests of its own."""
    monkeypatch.setattr(pipeline, "STAGES", CHANGING)


def stages_of(request, network):
    """Return the stages that ran, and the report."""
    done = []
    report = pipeline.run_stages(
        request, network, lambda stage, cached: None if cached else done.append(stage.name)
    )
    return done, report


def planned(tmp_path, budget="50%", **options):
    loose = tmp_path / "loose"
    if not loose.exists():
        paint(loose, 40)
    plan = SlimmingPlan(dw.Budget.read(budget), str(loose), replace(OPTIONS, **options))
    return make_request(tmp_path, slim=plan)


@pytest.mark.usefixtures("few_stages")
def test_what_is_compiled_is_the_slimmed_network(tmp_path):
    told = []
    network = make_network(net_of())
    request = replace(planned(tmp_path), say=told.append)
    done, report = stages_of(request, network)
    assert done == ["slim", "count", "compile"]
    record = report.find(SlimmingStageRecord)
    assert record.found.after.macs <= record.found.before.macs / 2
    assert report.find(CostSummary).macs == record.found.after.macs
    library = dw.load(request.directory)
    slimmed = dw.open(record.network)
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    np.testing.assert_allclose(library(x), slimmed.run([x])[0], atol=1e-4)
    assert dw.cost(slimmed.graph).macs == record.found.after.macs
    assert [layer.path for layer in record.found.layers] == ["0", "3", "7"]
    assert any(line.startswith("round 1") for line in told)
    text = render(summary(report, request.directory), 120)
    assert "slimmed" in text
    assert "50 % of the MACs" in text
    again = Report.model_validate_json(report.model_dump_json())
    assert again.find(SlimmingStageRecord) == record


@pytest.mark.usefixtures("few_stages")
def test_the_same_again_slims_nothing_again(tmp_path):
    request = planned(tmp_path)
    stages_of(request, make_network(net_of()))
    assert stages_of(request, make_network(net_of()))[0] == []
    other = planned(tmp_path, "70%")
    assert stages_of(other, make_network(net_of()))[0] == ["slim", "count", "compile"]
    paint(tmp_path / "more", 1, 20)
    (tmp_path / "more" / "000.png").rename(tmp_path / "loose" / "new.png")
    assert stages_of(other, make_network(net_of()))[0][0] == "slim"


@pytest.mark.usefixtures("few_stages")
def test_a_slimmed_network_that_is_gone_is_made_again(tmp_path):
    request = planned(tmp_path)
    stages_of(request, make_network(net_of()))
    (request.directory / STATE / "slimmed" / "network.safetensors").unlink()
    done, _ = stages_of(request, make_network(net_of()))
    assert done == ["slim"]  # it came out as it was


@pytest.mark.usefixtures("few_stages")
def test_rounds_of_an_interrupted_slimming_are_kept(tmp_path):
    told = []

    def stop_after_a_round(text):
        if text.startswith("round 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages_of(replace(planned(tmp_path), say=stop_after_a_round), make_network(net_of()))
    done, _ = stages_of(replace(planned(tmp_path), say=told.append), make_network(net_of()))
    assert done == ["slim", "count", "compile"]
    assert "going on after round 1" in told


def test_a_network_without_a_budget_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "STAGES", CHANGING)
    network = make_network(net_of())
    _, report = stages_of(make_request(tmp_path), network)
    assert list(report.stages) == ["count", "compile"]
    assert report.find(CostSummary).macs == dw.cost(net_of(), (1, 3, 32, 32)).macs


def coloured(folder):
    """Paint 40 images of two classes, red ones and blue ones, each in the folder of its class."""
    for name, channel in (("red", 0), ("blue", 2)):
        paint(folder / name, 20, 24)
        for path in (folder / name).iterdir():
            pixels = np.asarray(Image.open(path)).copy()
            pixels[..., channel] |= 192
            Image.fromarray(pixels).save(path)
    return folder


FILE = """
from torch import nn
def made(num_classes=5):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes),
    )
"""


def untimed(stage: Stage) -> Stage:
    """Return a stage that times nothing in the place of one that does, which has its own tests."""
    empty = {
        Comparison: Comparison(
            found=None, rounds=0, lines=(), missing=(), failed={}, remarks=(), disturbed=""
        ),
        LayerProfile: LayerProfile(
            milliseconds=0.0, library=None, ideal=None, rate=0.0, peak=0.0, of_peak=None, layers=(),
            kinds=(), machine=None, calibrated="", contradicted=(), remarks=(), disturbed="",
        ),
        Baseline: Baseline(times=None, disturbed=""),
    }.get(stage.kind)  # fmt: skip
    return stage._replace(run=lambda _, network, __: (empty, network)) if empty else stage


def test_trained_slimmed_recovered_and_reported_by_one_command(tmp_path, capsys, monkeypatch):
    """From random weights and a folder of images; the page tells before and after."""
    monkeypatch.setattr(pipeline, "STAGES", [untimed(stage) for stage in STAGES])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FILE)
    photos, images = coloured(tmp_path / "photos"), paint(tmp_path / "images", 2)
    arguments = [
        "ship", "net.py:made", "--shape", "1,3,32,32", "--data", photos, "--images", images,
        "--train", "2s", "--budget", "60%", "--recover", "1s", "--out", "out",
    ]  # fmt: skip
    code, out, err = command(*arguments, capsys=capsys)
    assert code == 0, err
    report = Report.model_validate_json((tmp_path / "out" / "report.json").read_text())
    trained, slimmed = report.find(TrainingStageRecord), report.find(SlimmingStageRecord)
    assert trained.validation.images > 0
    assert slimmed.found.recovery is not None
    assert slimmed.found.after.macs <= 0.6 * slimmed.found.before.macs
    assert report.find(Compilation).manifest.network.labels == ("blue", "red")
    page = (tmp_path / "out" / "report.html").read_text()
    for said in ("How it was trained", "What slimming changed", "Layer by layer"):
        assert said in page
    assert "recovery, " in err
    assert "trained here" in out
    code, _, err = command(*arguments, capsys=capsys)
    assert code == 0
    assert "1 of 9: training (cached)" in err
    assert "2 of 9: slimming (cached)" in err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--recover", "1min"], "--recover is for a network that is slimmed: give a --budget, too"),
    (["--mimic", "1min"], "--mimic is for a network that is slimmed: give a --budget, too"),
    (["--train", "1min"], "--train needs labelled images to train on: give --data"),
    (["--budget", "much"], "budget 'much': accepted are"),
    (["--train", "1min", "--data", "x", "--until", "3"], "a network is trained as a whole"),
    (["--budget", "2ms", "--data", "nosuch"], "a folder of images alone, without labels"),
])  # fmt: skip
def test_bad_input_is_one_message(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FILE)
    code, _, err = command("ship", "net.py:made", "--shape", "1,3,32,32", *arguments, "--out",
                           "out", capsys=capsys)  # fmt: skip
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()
