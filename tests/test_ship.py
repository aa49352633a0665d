"""`depthwise ship`: what it writes, what it says, and that no finished stage is ever lost."""

import errno
import json
import re
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from pydantic import ValidationError
from shipping_requests import (
    make_network,
    make_request,
    measured_elsewhere,  # noqa: F401  (a fixture, used by all)
    paint,
    tiny,
)
from terminal import run

import depthwise as dw
from depthwise.analysis.tables import render
from depthwise.bench import layers
from depthwise.bench import record as bench_record
from depthwise.bench.record import RuntimeRecord
from depthwise.compiler.options import CompileOptions
from depthwise.hardware import Spread, calibration
from depthwise.report.record import (
    Baseline,
    Comparison,
    Compilation,
    CostSummary,
    FindingRecord,
    LayerProfile,
    LayerTimeRecord,
    Predictions,
    Report,
)
from depthwise.runtime import artifact
from depthwise.runtime.artifact import STATE
from depthwise.shipping import CurrentNetwork, Request, asked, pipeline, ship
from depthwise.shipping.pipeline import run_stages
from depthwise.shipping.request import MOST_IMAGES, find_images
from depthwise.shipping.stages.comparing import summarise
from depthwise.shipping.state import CachedStage
from depthwise.shipping.summary import summary

STAGES = asked(Request("net", CompileOptions(), Path(), ""))  # what every request asks for
NAMES = [stage.name for stage in STAGES]
FILE = """
from torch import nn
def tiny():
    layers = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
def plain():
    return nn.Conv2d(4, 8, 3)
"""


class Shipped(NamedTuple):
    request: Request
    network: CurrentNetwork
    report: Report

    def find(self, kind):
        return self.report.find(kind)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    request, network = make_request(tmp_path_factory.mktemp("shipped")), make_network()
    return Shipped(request, network, ship(request, network))


@pytest.fixture
def copied(shipped, tmp_path):
    """Return the request for a finished directory, in a copy of it."""
    shutil.copytree(shipped.request.directory, tmp_path / "out")
    return replace(shipped.request, directory=tmp_path / "out")


def stages_run(request, network):
    """Return the stages that ran, and the report."""
    done = []
    report = ship(
        request, network, lambda stage, cached: None if cached else done.append(stage.name)
    )
    return done, report


# ----------------------------------------------------------------------------------- what is found


def test_every_stage_finds_what_the_library_and_the_machine_say(shipped):
    cost, found = dw.cost(shipped.network.source.net, (1, 3, 32, 32)), shipped.find(CostSummary)
    assert found.macs == cost.macs
    assert sum(layer.macs or 0 for layer in found.layers) == cost.macs
    assert found.macs_saved == found.baseline_macs / cost.macs
    library = dw.load(shipped.request.directory)
    manifest = library.manifest.model_copy(update={"report": None})
    assert manifest == shipped.find(Compilation).manifest
    assert library.manifest.verification.inputs == 2 + 2  # random, and the images
    images = shipped.find(Predictions).images
    assert [image.file for image in images] == ["a.jpg", "b.png"]
    assert all(image.error < 1e-4 for image in images)
    profile = shipped.find(LayerProfile)
    assert sum(row.share for row in profile.layers) == pytest.approx(1)
    whole = sum(row.microseconds for row in profile.layers) / 1e3
    assert profile.milliseconds == pytest.approx(whole, rel=1e-12)
    assert profile.library > 0
    assert profile.calibrated.startswith("calibrated ")
    assert sum(kind.macs_share for kind in profile.kinds) == pytest.approx(1)


def test_the_library_names_what_pytorch_names(shipped):
    prepare = shipped.network.preprocessing
    for path, image in zip(shipped.request.images, shipped.find(Predictions).images, strict=True):
        with torch.no_grad():
            expected = shipped.network.source.net(prepare.apply(path))[0].softmax(0)
        assert image.guesses[0].name == f"class {expected.argmax()}"
        assert image.guesses[0].probability == pytest.approx(expected.max().item(), abs=1e-4)


def test_ours_is_timed_beside_pytorch(shipped):
    found = shipped.find(Comparison)
    assert found.rounds == 2
    assert found.ours.name == "depthwise"
    eager = found.line("pytorch")
    assert eager.ratio == found.found.ratio(found.found.peers[0])
    assert found.ours.p10 <= found.ours.median <= found.ours.p90


def test_the_time_saved_stands_beside_the_macs_saved(shipped):
    found = shipped.find(Baseline).times
    assert found.macs_saved == shipped.find(CostSummary).macs_saved
    assert found.realized == found.time_saved / found.macs_saved
    assert found.milliseconds > found.ours  # of resnet56, and of a network of two convolutions
    assert found.rounds == 2


def test_feature_maps_are_the_last_of_each_size(shipped):
    features = shipped.find(Predictions).features
    found = [(f.file, f.layer, f.shape, f.channels) for f in features]
    assert found[:2] == [("a.jpg", "1", (8, 15, 15), 8), ("a.jpg", "3", (8, 13, 13), 8)]
    assert all(f.picture.startswith("data:image/png;base64,") for f in features)


def test_all_is_kept_as_json_by_stage_and_read_again(shipped):
    text = shipped.report.model_dump_json()
    assert list(json.loads(text)["stages"]) == NAMES
    assert Report.model_validate_json(text) == shipped.report


def test_a_stage_of_no_name_is_no_part_of_a_report(shipped):
    report = shipped.report.model_dump()
    with pytest.raises(
        ValidationError, match="no stage is called 'bake'; there are accuracy, baseline, "
    ):
        Report.model_validate({**report, "stages": {"bake": {}}})


def test_the_summary_says_it_in_lines(shipped):
    text = render(summary(shipped.report, shipped.request.directory), 140)
    ratio = shipped.find(Comparison).line("pytorch").ratio
    assert f"{ratio:.2f} times as fast as PyTorch" in text
    assert "verified: equal to PyTorch within" in text
    assert "a.jpg: class " in text


def test_the_summary_counts_one_as_one(shipped):
    note = FindingRecord(
        rule="channels", severity="note", layer="0", also=(), what="", why="", advice=""
    )
    warning = note.model_copy(update={"severity": "warning"})
    costs = shipped.find(CostSummary).model_copy(update={"findings": (warning, note)})
    report = shipped.report.adding(costs)
    assert "lint: 1 warning, 1 note\n" in render(summary(report, Path("out")), 140)


@pytest.mark.parametrize(
    ("ours", "theirs", "busy"), [(1.4e-3, 1.4e-3, False), (3e-3, 1e-3, True), (1e-3, 3e-3, True)]
)
def test_a_busy_machine_is_mentioned_first(ours, theirs, busy, shipped, monkeypatch):
    monkeypatch.setattr(bench_record, "UNEVEN", 2.0)
    runtimes = (
        RuntimeRecord(name="depthwise", versions={}, rounds=((1e-3, ours, ours),)),
        RuntimeRecord(name="pytorch", versions={"torch": "2"}, rounds=((1e-3, theirs, theirs),)),
    )
    found = shipped.find(Comparison).found
    comparison = summarise(found.model_copy(update={"peaks": (1e11,), "runtimes": runtimes}), ())
    assert bool(comparison.disturbed) == busy
    text = render(summary(shipped.report.adding(comparison), Path("out")), 500)
    assert text.splitlines()[1].startswith("NOT A MEASUREMENT, timed beside other runtimes") == busy
    assert ("times as fast as" in text) != busy
    assert ("speed     not measured: runs took from 1.00 ms to 3.00 ms" in text) == busy


def test_what_was_disturbed_is_timed_again_and_only_that(copied, shipped):
    path = copied.directory / STATE / "compare.json"
    cached = CachedStage.model_validate_json(path.read_text())
    found = Comparison.model_validate_json(cached.found)
    busy = found.model_copy(update={"disturbed": "a compiler"}).model_dump_json()
    path.write_text(cached.model_copy(update={"found": busy}).model_dump_json())
    done, report = stages_run(copied, shipped.network)
    assert done == ["compare"]
    assert report.find(Comparison).disturbed == ""


# -------------------------------------------------------------------------------- above no roof


def slow_machine(of):
    """Return a machine that was calibrated while others had most of it."""
    third = [
        peak.model_copy(update={"gflops": Spread.of_rates([peak.gflops.best / 300])})
        for peak in of.peaks
    ]
    slow = [
        each.model_copy(update={"gigabytes": Spread.of_rates([each.gigabytes.best / 300])})
        for each in of.readings
    ]
    date = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    return of.model_copy(update={"peaks": tuple(third), "readings": tuple(slow), "date": date})


def test_a_calibration_of_a_busy_machine_is_renewed_when_a_layer_is_faster(copied, shipped):
    good = calibration.find()
    assert good is not None
    calibration.keep(slow_machine(good))
    (copied.directory / STATE / "profile.json").unlink()
    found = run_stages(copied, shipped.network).find(LayerProfile)
    assert found.calibrated.startswith(
        "calibrated just now: what was calibrated 3 days ago allowed"
    )
    assert found.machine.gigabytes("L1") > 10 * slow_machine(good).gigabytes("L1")
    assert calibration.find() == found.machine
    assert found.contradicted == ()
    assert all((row.of_ideal or 0) <= 1 and (row.of_peak or 0) <= 1 for row in found.layers)


def test_where_it_is_faster_still_there_is_no_share(copied, shipped, monkeypatch):
    good = calibration.find()
    assert good is not None
    slow = slow_machine(good)
    calibration.keep(slow)
    monkeypatch.setattr(layers, "calibrate", lambda: slow)
    (copied.directory / STATE / "profile.json").unlink()
    report = ship(copied, shipped.network)
    calibration.keep(good)
    found = report.find(LayerProfile)
    assert found.contradicted
    assert found.ideal is None
    rows = {row.path: row for row in found.layers}
    assert all(rows[path].of_ideal is rows[path].ideal is None for path in found.contradicted)
    assert all((row.of_ideal or 0) <= 1 for row in found.layers)
    text = render(summary(report, copied.directory), 200)
    assert f"the peak measured was lower than what {found.contradicted[0]}" in text
    assert "the rooflines of its layers add up to" not in text
    page = (copied.directory / "report.html").read_text()
    assert "are not usable" in page
    assert "Each layer below the roofs" not in page  # no chart of roofs that are none
    shares = [float(x) for x in re.findall(r">([\d.]+) %<", page)]
    assert max(shares) <= 100


@pytest.mark.parametrize("name", ["of_peak", "of_ideal", "share"])
def test_a_record_above_a_roof_cannot_be_made(name, shipped):
    row = shipped.find(LayerProfile).layers[0].model_dump()
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        LayerTimeRecord(**{**row, name: 2.41})
    with pytest.raises(ValidationError, match="faster than its ideal"):
        LayerTimeRecord(**{**row, "ideal": 2.41 * row["microseconds"]})


def test_layers_that_are_not_the_whole_cannot_be_recorded(shipped):
    found = shipped.find(LayerProfile).model_dump()
    with pytest.raises(ValidationError, match="do not add up"):
        LayerProfile(**{**found, "milliseconds": 1.1 * found["milliseconds"]})


def test_random_weights_name_nothing_and_say_so(copied, shipped):
    found, _ = STAGES[2].run(copied, replace(shipped.network, untrained=True), shipped.report)
    assert all(image.guesses == () for image in found.images)
    assert "The weights are random" in found.remarks[0]


def test_a_library_for_another_cpu_is_neither_run_nor_timed(tmp_path):
    request = make_request(tmp_path, build=CompileOptions(target="wasm32"))
    report = ship(request, make_network())
    assert (tmp_path / "out" / "net.wasm").is_file()
    assert report.find(Compilation).manifest.verification is None
    assert report.find(Predictions).images == ()
    assert report.find(Comparison).found is None
    assert report.find(LayerProfile).layers == ()
    assert report.find(Baseline).times is None
    text = render(summary(report, request.directory), 140)
    assert "not run here; its plan checked step by step in Python" in text
    assert "This machine cannot run a library for wasm32" in text


# ------------------------------------------------------------------------------------ going on


def test_the_same_again_does_nothing_again(copied, shipped):
    done, report = stages_run(copied, make_network())
    assert done == []
    assert report.stages == shipped.report.stages


def test_what_stages_of_earlier_versions_found_is_removed(copied, shipped):
    old = copied.directory / STATE / "accounting.json"
    old.write_text("{}")
    ship(copied, shipped.network)
    assert sorted(path.stem for path in old.parent.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("at", range(len(STAGES)), ids=NAMES)
@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), SystemExit]
)
def test_a_stage_that_breaks_off_loses_none_before_it(at, failure, copied, shipped, monkeypatch):
    for stage in STAGES[at:]:
        (copied.directory / STATE / f"{stage.name}.json").unlink()

    def fail(*_):
        raise failure

    broken = [*STAGES[:at], STAGES[at]._replace(run=fail), *STAGES[at + 1 :]]
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "STAGES", broken)
        with pytest.raises(type(failure) if isinstance(failure, BaseException) else failure):
            run_stages(copied, shipped.network)
    ran = []
    counted = [s._replace(run=lambda *a, s=s: ran.append(s.name) or s.run(*a)) for s in STAGES]
    monkeypatch.setattr(pipeline, "STAGES", counted[: at + 1])
    run_stages(copied, shipped.network)
    assert ran == NAMES[at : at + 1]


def test_a_disk_that_fills_up_leaves_whole_files(copied, shipped, monkeypatch):
    path = copied.directory / STATE / "classify.json"
    before = path.read_text()
    changed = replace(copied, left_out=7)

    def fill(self, text, **_):
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fill)
        with pytest.raises(OSError, match="No space left"):
            ship(changed, shipped.network)
    assert path.read_text() == before
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(f"{n}.json" for n in NAMES)


def test_saving_a_library_keeps_the_state_and_an_interrupt_keeps_both(copied, monkeypatch):
    library = dw.load(copied.directory)
    library.save(copied.directory)
    assert (copied.directory / STATE / "count.json").is_file()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact, "exchange", interrupt)
    with pytest.raises(KeyboardInterrupt):
        library.save(copied.directory)
    assert (copied.directory / STATE / "count.json").is_file()
    assert (copied.directory / artifact.SOURCE).is_file()
    assert [p.name for p in copied.directory.parent.iterdir()] == ["out"]


def replay(stage, report):
    """Return a stage that takes what it finds from a report of an earlier run."""
    return stage._replace(run=lambda _request, network, _report: (report.find(stage.kind), network))


def test_what_changed_is_done_again_and_what_follows_from_it(copied, shipped, monkeypatch):
    timed = (Comparison, LayerProfile, Baseline)
    quick = [replay(s, shipped.report) if s.kind in timed else s for s in STAGES]
    monkeypatch.setattr(pipeline, "STAGES", quick)

    (copied.directory / artifact.WEIGHTS).write_bytes(b"cut")
    assert stages_run(copied, shipped.network)[0] == ["compile"]
    assert stages_run(replace(copied, images=copied.images[:1]), shipped.network)[0] == NAMES[1:]
    other = tiny()
    with torch.no_grad():
        other[0].weight[0, 0, 0, 0] += 1
    assert stages_run(copied, make_network(other))[0] == NAMES


@pytest.mark.parametrize("damaged", ["{", '{"key": "", "found": "{}"}', ""])
def test_a_record_that_cannot_be_read_is_made_again(damaged, copied, shipped):
    (copied.directory / STATE / "classify.json").write_text(damaged)
    assert stages_run(copied, shipped.network)[0] == ["classify"]


# -------------------------------------------------------------------------------- the command line


@pytest.fixture
def nets_py(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(FILE)


@pytest.mark.usefixtures("nets_py")
def test_a_users_own_file_end_to_end(tmp_path, capsys):
    paint(tmp_path / "images")
    torch.manual_seed(3)
    torch.save(tiny().state_dict(), "trained.pth")
    arguments = ["ship", "nets.py:tiny", "--shape", "1,3,32,32", "--images", "images"]
    arguments += ["--weights", "trained.pth", "--out", "here/tiny"]
    code, out, err = run(*arguments, capsys=capsys)
    assert code == 0
    stages = [line for line in err.splitlines() if " of 7: " in line]
    assert stages[0] == "depthwise: 1 of 7: counting and linting"
    assert len(stages) == 7
    assert "nets.py:tiny on 1x3x32x32, trained.pth" in out
    assert "times as fast as PyTorch" in out
    code, out, _ = run(*arguments, "--json", capsys=capsys)
    assert code == 0
    report = Report.model_validate(json.loads(out))
    assert report.request.weights == "trained.pth"
    assert report.request.command == (
        "depthwise ship nets.py:tiny --shape 1,3,32,32 --images images --weights trained.pth "
        "--out here/tiny"
    )
    x = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(dw.load("here/tiny")(x), tiny()(x), atol=1e-5)


def test_a_flag_named_pretrained_is_no_record_of_weights(copied, shipped):
    net = tiny()
    net.pretrained = True
    network = make_network(net)
    assert network.preprocessing == shipped.network.preprocessing
    assert STAGES[1].run(copied, network, shipped.report)


@pytest.mark.usefixtures("nets_py")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nets.py:tiny", "--images", "nowhere"], "--images nowhere: no such folder"),
        (["nets.py:tiny", "--images", "."], "--images .: no image in it, of .jpg, .jpeg"),
        (
            ["nets.py:plain", "--shape", "1,4,9,9", "--images", "."],
            "--images .: nets.py:plain takes",
        ),
        (["nets.py:tiny", "--target", "arm"], "no target is named 'arm'"),
        (["nets.py:tiny", "--threads", "65"], "threads=65: a library runs on 1 to 64 threads"),
        (["nets.py:tiny", "--out", "nets.py"], "nets.py is a file: give the name of a directory"),
        (["nets.py:tiny", "--weights", "no.pth"], "no checkpoint file at no.pth"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(arguments, message, tmp_path, capsys):
    code, out, err = run("ship", *arguments, capsys=capsys)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} <= {"nets.py", "__pycache__"}


@pytest.mark.usefixtures("nets_py")
@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "depthwise: interrupted; what was finished is kept in out"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 2, "out/x: No space left on"),
    ],
)
def test_breaking_off_says_how_to_go_on(failure, code, message, monkeypatch, capsys):
    def fail(*_):
        raise failure

    monkeypatch.setattr(pipeline, "STAGES", (STAGES[0], STAGES[1]._replace(run=fail)))
    found, out, err = run("ship", "nets.py:tiny", "--out", "out", capsys=capsys)
    assert (found, out) == (code, "")
    assert message in err
    assert "the same command again goes on there" in err
    assert Path("out", STATE, "count.json").is_file()


@pytest.mark.usefixtures("nets_py")
def test_nothing_is_promised_of_a_directory_that_cannot_be_made(capsys):
    code, out, err = run("ship", "nets.py:tiny", "--out", "nets.py/out", capsys=capsys)
    assert (code, out) == (2, "")
    assert "Not a directory" in err
    assert "what was finished is kept" not in err


def test_images_are_taken_by_name_and_not_too_many(tmp_path):
    for i in range(MOST_IMAGES + 3):
        (tmp_path / f"{i:02}.JPG").touch()
    found, left_out = find_images(tmp_path)
    assert [path.name for path in found] == [f"{i:02}.JPG" for i in range(MOST_IMAGES)]
    assert left_out == 3


@pytest.mark.usefixtures("nets_py")
def test_a_broken_image_is_left_out_and_named(monkeypatch, capsys):
    folder = paint(Path("images"))
    (folder / "bad.jpg").touch()
    (folder / "dir.jpg").mkdir()
    monkeypatch.setattr(pipeline, "STAGES", STAGES[:3])
    monkeypatch.setattr(pipeline, "render_page", lambda _: "")  # it shows all stages, or none
    arguments = ("nets.py:tiny", "--shape", "1,3,32,32", "--images", folder, "--out", "out")
    code, out, err = run("ship", *arguments, "--json", capsys=capsys)
    assert code == 0
    assert err.splitlines()[0] == "depthwise: left out: images/bad.jpg is empty"
    assert err.count("left out") == 1
    report = json.loads(out)
    assert report["request"]["images"] == ["a.jpg", "b.png"]
    predictions = report["stages"]["classify"]
    assert [image["file"] for image in predictions["images"]] == ["a.jpg", "b.png"]
    assert "Left out: images/bad.jpg is empty." in predictions["remarks"]
    for name in ("a.jpg", "b.png"):
        (folder / name).write_text("")
    code, out, err = run("ship", *arguments, capsys=capsys)
    assert (code, out) == (2, "")
    assert "images/a.jpg is empty; images/b.png is empty; images/bad.jpg is empty" in err
