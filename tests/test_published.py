"""What is published of networks: stated figures with a source, counts of our own."""

import csv
import json
from collections import defaultdict
from decimal import Decimal
from math import isnan
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from terminal import run
from test_networks import TWINS
from torch import nn

from depthwise.analysis.published import count_on_meta, read_published

FACTS = list(
    csv.DictReader((Path(__file__).parent / "facts" / "networks.csv").read_text().splitlines())
)


ROWS = read_published()
# each network, its options and the side of its images
AT = {(row.network, json.dumps(row.options), row.resolution): row for row in ROWS}


def key(fact):
    return fact["network"], fact["options"] or "{}", int(fact["input"])


@pytest.mark.parametrize(
    ("select", "least"),
    [
        pytest.param(lambda name: name in ("mobilenet_v1", "vgg16_cifar"), 18, id="few"),
        pytest.param(lambda _: True, 50, id="all", marks=pytest.mark.slow),
    ],
)
def test_counts_are_those_of_the_facts(select, least):
    facts = [fact for fact in FACTS if key(fact) in AT and select(fact["network"])]
    assert len(facts) >= least
    for fact in facts:
        counts = AT[key(fact)].counts
        assert counts.params == int(fact["params"]), fact
        if fact["macs"]:
            assert counts.macs == int(fact["macs"]), fact


def test_a_convolution_counts_its_weights_once_an_output_position_and_a_second_time_alike():
    with torch.device("meta"):
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(6, 5),
        )  # fmt: skip
    assert count_on_meta(net, 9) == count_on_meta(net, 9) == 4 * 4 * 6 * 9 + 6 * 5


def test_every_accuracy_of_the_facts_is_shown():
    for fact in FACTS:
        if fact["published_top1"]:
            shown = {a.top1 for a in AT[key(fact)].accuracies}
            assert Decimal(fact["published_top1"]) in shown, fact


def test_no_figure_stands_without_a_source_or_twice():
    for row in ROWS:
        sources = [a.source for a in row.accuracies]
        assert len(set(sources)) == len(sources) > 0
        for source in sources:
            assert source.startswith(("arXiv:", "timm ", "torchvision ", "tf-slim ")), source
    assert len(AT) == len(ROWS)


def test_torchvision_states_these_accuracies():
    stated = defaultdict(dict)
    for row in ROWS:
        for accuracy in row.accuracies:
            if accuracy.source.startswith("torchvision "):
                _, name, weights = accuracy.source.split()
                stated[name][weights] = (float(accuracy.top1), row.resolution)
    assert len(stated) == 13
    for name, found in stated.items():
        weights = torchvision.models.get_model_weights(name)
        metrics = {w.name: w.meta["_metrics"]["ImageNet-1K"]["acc@1"] for w in weights}
        sides = {w.name: w.transforms().crop_size[0] for w in weights}
        # of VGG-16 torchvision has features of which it states no accuracy
        assert found == {w: (top1, sides[w]) for w, top1 in metrics.items() if not isnan(top1)}


def test_checkpoints_of_timm_have_the_layers_that_are_counted():
    twins = {spec.partition(":")[2] for _, _, spec in TWINS}
    for row in ROWS:
        names = [a.source for a in row.accuracies if a.source.startswith("timm ")]
        for name in {name.removeprefix("timm ").partition(".")[0] for name in names}:
            if name not in twins:  # whose layers tests/test_networks.py compares
                with torch.device("meta"):
                    net = timm.create_model(name)
                assert sum(p.numel() for p in net.parameters()) == row.counts.params, name


def test_the_table_fits_and_json_has_the_same(capsys, monkeypatch):
    monkeypatch.setattr("depthwise.analysis.published.read_published", lambda: ROWS[:5])
    monkeypatch.setenv("COLUMNS", "72")
    code, out, _ = run("networks", "--published", capsys=capsys)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 72
    assert "ghostnet width=1.3" in out
    assert "227.00 M" in out
    assert "75.7   arXiv:1911.11907" in out
    found = json.loads(run("networks", "--published", "--json", capsys=capsys)[1])
    assert found[1] == {
        "network": "ghostnet", "options": {"width": 1.3}, "resolution": 224, "dataset": "ImageNet",
        "params": 7358820, "macs": 227003256,
        "accuracies": [{"top1": 75.7, "source": "arXiv:1911.11907"}],
    }  # fmt: skip
