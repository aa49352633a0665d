"""Stages that change the network stand between others: what follows sees what they handed on."""

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from shipping_requests import (
    make_network,
    make_request,
    measured_elsewhere,  # noqa: F401  (a fixture, used by all)
)
from torch import nn

import depthwise as dw
from depthwise.analysis.tables import render
from depthwise.compiler.options import CompileOptions
from depthwise.report.record import (
    Baseline,
    Comparison,
    Compilation,
    CostSummary,
    LayerProfile,
    Predictions,
    StageRecord,
)
from depthwise.shipping import CurrentNetwork, Request, Stage, asked, pipeline, ship
from depthwise.shipping.pipeline import run_stages
from depthwise.shipping.summary import summary
from depthwise.sources.source import graph_source, torch_source

STAGES = asked(Request("net", CompileOptions(), Path(), ""))  # what every request asks for
SHAPE = (1, 3, 32, 32)
WEIGHTS = "scale.pth"  # what the toy stage leaves beside its record


class Scaled(StageRecord):
    """What a toy stage did: it multiplied the weights of the last layer, as training might."""

    stage: ClassVar[str] = "scale"
    factor: float


def source_of(net):
    return torch_source(net, [SHAPE])


def scale(net, factor):
    scaled = deepcopy(net)
    with torch.no_grad():
        scaled[-1].weight.mul_(factor)
    return scaled


def scaling(factor):
    """Return the toy stage. It saves its weights, as training would, rather than train again."""

    def run(request, network, _report):
        net = scale(network.source.net, factor)
        torch.save(net.state_dict(), request.directory.parent / WEIGHTS)
        return Scaled(factor=factor), replace(network, source=source_of(net))

    def restore(request, network, _found):
        saved = request.directory.parent / WEIGHTS
        if not saved.is_file():
            return None
        net = deepcopy(network.source.net)
        net.load_state_dict(torch.load(saved))
        return replace(network, source=source_of(net))

    return Stage(Scaled, "scaling", run, lambda *_: [factor], restore=restore)


def with_stage(stage):
    """Return all stages with one more, where stages that change the network belong."""
    return (STAGES[0], stage, *STAGES[1:])


def shipped(request, network):
    """Return the stages that ran, and the report."""
    done = []
    report = run_stages(
        request, network, lambda stage, cached: None if cached else done.append(stage.name)
    )
    return done, report


LATER = ["compile", "classify", "accuracy", "compare", "profile", "baseline"]


@pytest.fixture(scope="module")
def scaled_once(tmp_path_factory):
    """A directory that was shipped with the toy stage, of which tests get copies."""
    base = tmp_path_factory.mktemp("scaled")
    request = make_request(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "STAGES", with_stage(scaling(3.0)))
        done, report = shipped(request, make_network())
    assert done == ["count", "scale", *LATER]
    return base, report


@pytest.fixture
def request_(scaled_once, tmp_path):
    shutil.copytree(scaled_once[0], tmp_path / "copy")
    return make_request(tmp_path / "copy")


def replayed(stage, report):
    """Return a stage that takes its record from an earlier report rather than measure."""
    return stage._replace(run=lambda _request, network, _report: (report.find(stage.kind), network))


@pytest.fixture
def use(monkeypatch, scaled_once):
    """Put a stage among the others, of which those that take times replay an earlier run."""

    def put(stage):
        timed = (Comparison, LayerProfile, Baseline)
        stages = [replayed(s, scaled_once[1]) if s.kind in timed else s for s in with_stage(stage)]
        monkeypatch.setattr(pipeline, "STAGES", stages)

    return put


def test_later_stages_compile_and_compare_the_changed_network(scaled_once):
    base, report = scaled_once
    request, net = make_request(base), make_network().source.net
    x = torch.zeros(1, 3, 32, 32)
    library = dw.load(request.directory)
    with torch.no_grad():
        changed, unchanged = scale(net, 3.0)(x).numpy(), net(x).numpy()
    assert np.allclose(library(x.numpy()), changed, atol=1e-6)
    assert not np.allclose(changed, unchanged, atol=1e-2)
    # what they compare the library with is the changed network, too
    assert library.manifest.verification.error < 1e-4
    assert all(image.error < 1e-4 for image in report.find(Predictions).images)
    assert all(line.error < 1e-4 for line in report.find(Comparison).lines)
    assert report.find(Scaled).factor == 3.0
    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_the_network_that_a_stage_gets_stays_as_it_was():
    network = make_network()
    before = network.digest
    changed = scale(network.source.net, 2.0)
    assert replace(network, source=source_of(changed)).digest != before
    assert network.digest == make_network().digest == before


def test_a_stage_may_drop_a_layer_and_costs_stay_those_before_it(tmp_path, monkeypatch):
    class Dropped(StageRecord):
        stage: ClassVar[str] = "drop"

    def drop(_request, network, _report):
        net = network.source.net
        return Dropped(), replace(network, source=source_of(nn.Sequential(*net[:2], *net[4:])))

    stages = [s for s in with_stage(Stage(Dropped, "dropping", drop)) if s.kind is not Comparison]
    monkeypatch.setattr(pipeline, "STAGES", stages)
    report = run_stages(make_request(tmp_path), make_network())
    assert [layer.path for layer in report.find(CostSummary).layers][:2] == ["0", "2"]
    assert "depthwise" in {layer.kind for layer in report.find(CostSummary).kinds}
    assert "depthwise" not in {row.kind for row in report.find(LayerProfile).layers}


def test_a_network_that_came_as_a_graph_is_shipped_too(tmp_path):
    request = make_request(tmp_path)
    network = CurrentNetwork(graph_source(make_network().source.graph))
    report = ship(request, network)
    assert report.find(Comparison).remarks == (
        "The network did not come from PyTorch, which writes the files that runtimes read.",
    )
    images, check = report.find(Predictions), report.find(Compilation).manifest.verification
    assert [image.file for image in images.images] == ["a.jpg", "b.png"]
    assert all(image.error < 1e-4 for image in images.images)
    assert images.features == ()
    assert report.find(LayerProfile).layers
    assert check.reference != "PyTorch"
    page = (request.directory / "report.html").read_text()
    assert f"verified against {check.reference}" in page
    assert f"equal to {check.reference}" in render(summary(report, request.directory), 140)


def test_the_same_again_does_nothing_again(use, request_, scaled_once):
    use(scaling(3.0))
    done, report = shipped(request_, make_network())
    assert done == []
    assert report.stages == scaled_once[1].stages


def test_a_change_of_the_stage_renews_it_and_the_later_ones_and_only_them(use, request_):
    use(scaling(2.0))
    done, _ = shipped(request_, make_network())
    assert done == ["scale", *LATER]
    x = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        expected = scale(make_network().source.net, 2.0)(x).numpy()
    assert np.allclose(dw.load(request_.directory)(x.numpy()), expected, atol=1e-6)
    assert shipped(request_, make_network())[0] == []


def test_another_network_at_the_start_renews_all(use, request_):
    use(scaling(3.0))
    other = make_network(scale(make_network().source.net, 1.5))
    assert shipped(request_, other)[0] == ["count", "scale", *LATER]


def test_what_cannot_be_restored_is_made_again_and_alone_where_it_comes_out_the_same(use, request_):
    use(scaling(3.0))
    (request_.directory.parent / WEIGHTS).unlink()
    assert shipped(request_, make_network())[0] == ["scale"]


def test_a_network_restored_otherwise_than_it_was_handed_on_is_made_again(use, request_):
    use(scaling(3.0))
    torch.save(make_network().source.net.state_dict(), request_.directory.parent / WEIGHTS)
    assert shipped(request_, make_network())[0] == ["scale"]


def test_a_stage_that_comes_out_differently_renews_the_later_ones(use, request_):
    use(scaling(3.0)._replace(is_current=lambda *_: False))
    assert shipped(request_, make_network())[0] == ["scale"]
    again = scaling(4.0)._replace(inputs=scaling(3.0).inputs, is_current=lambda *_: False)
    use(again)  # under the same key, as a training that is not repeatable
    assert shipped(request_, make_network())[0] == ["scale", *LATER]
