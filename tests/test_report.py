"""Pictures are files that hold what they should; how they look is for eyes."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from depthwise.analysis import cost
from depthwise.families import construct
from depthwise.report import cost_picture
from depthwise.report.cost_picture import GOOD_ROWS, group_layers


@pytest.fixture(scope="module")
def mobilenet():
    with torch.device("meta"):
        return cost(construct("mobilenet_v1"), (1, 3, 224, 224))


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_the_same_cost_gives_the_same_bytes(mobilenet, tmp_path, suffix, start):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        cost_picture(mobilenet, path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith(start)


def test_the_picture_names_layers_kinds_totals_and_the_convention(mobilenet, tmp_path):
    path = tmp_path / "cost.svg"
    cost_picture(mobilenet, path)
    text = path.read_text()
    words = re.findall(r">([^<>]+)</text>", text)
    expected = [f"blocks.{i}.{part}.conv" for i in range(13) for part in ("depthwise", "pointwise")]
    assert [word for word in words if word.startswith("blocks.")] == expected
    assert {"stem.conv", "pool", "head", "pointwise", "depthwise", "normalisation"} <= set(words)
    assert "dilated" not in words  # there is none: the legend has what the picture has
    for part in ("mobilenet_v1 on 1x3x224x224", "568.74 M MACs", "16.93 MB", "FLOPs = 2 x MACs"):
        assert part in text


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("mobilenet_v1", "stem.conv", "head"),
        ("mobilenet_v3_large", "stem.conv", "head.linear"),
        ("resnet152", "stem.cell", "head"),
        ("alexnet", "stem.conv", "head.fc8"),
    ],
)
def test_rows_hold_every_layer_once_in_order(name, first, last):
    with torch.device("meta"):
        counted = cost(construct(name), (1, 3, 224, 224))
    rows = group_layers(counted.layers)
    assert (rows[0].label, rows[-1].label) == (first, last)
    assert len(rows) <= 2 * GOOD_ROWS
    layers = [layer for row in rows for layer in row.layers]
    assert sum(layer.macs or 0 for layer in layers) == counted.macs
    assert sum(layer.params for layer in layers) == counted.params
    assert {x.name for x in counted.layers} - {x.name for x in layers} <= {
        x.name for x in counted.layers if x.kind == "view"
    }
    assert len({layer.name for layer in layers}) == len(layers)


def test_a_convolution_keeps_its_normalisation_and_activation():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Sigmoid()
    )
    rows = group_layers(cost(net, (1, 3, 8, 8)).layers)
    assert [(row.label, [x.path for x in row.layers]) for row in rows] == [
        ("0", ["0", "1", "2"]), ("3", ["3", "4"]),
    ]  # fmt: skip


def test_what_a_module_computes_itself_joins_its_last_layer():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return torch.relu(self.conv(x)) + x

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Block(), Block()

        def forward(self, x):
            return torch.tanh(self.second(self.first(x)))

    rows = group_layers(cost(Net(), (1, 4, 8, 8)).layers)
    assert [(row.label, [x.kind for x in row.layers]) for row in rows] == [
        ("first.conv", ["pointwise", "activation", "arithmetic"]),
        ("second.conv", ["pointwise", "activation", "arithmetic", "activation"]),
    ]


def test_other_endings_and_empty_networks_are_refused(mobilenet):
    with pytest.raises(ValueError, match=r"cost\.txt: a picture ends in \.svg or \.png"):
        cost_picture(mobilenet, Path("cost.txt"))
    with pytest.raises(ValueError, match="Flatten has no layers to draw"):
        cost_picture(cost(nn.Flatten(), (1, 3, 2, 2)), Path("cost.svg"))
