"""`depthwise look`: which maps it looks at, what it finds, what it draws and what it refuses."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from terminal import run
from torch import nn

from depthwise.analysis.feature_maps import convolution_layers, feature_maps, find_layer
from depthwise.graph import trace
from depthwise.weights import PHOTOGRAPHS, create_model, find_pretrained

CAT = PHOTOGRAPHS[0]

NETWORK = '''
import torch
from torch import nn

class Copies(nn.Module):
    """Eight maps of which four are copies of the others, with another sign and scale."""

    def __init__(self, channels=3):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(channels, 8, 3, padding=1, stride=2)
        with torch.no_grad():
            self.conv.weight[4:] = -3 * self.conv.weight[:4]
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.Identity()
        self.one = nn.Conv2d(8, 1, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        y = self.act(self.norm(self.conv(x)))
        return self.head(y.mean((2, 3))), self.one(y)

def colour():
    return Copies()

def grey():
    return Copies(1)

def signal():
    return nn.Conv1d(3, 8, 3)

class Bytes(Copies):
    def forward(self, x):
        return super().forward(x.float())

def numbers():
    return Bytes()

def broken():
    net = Copies()
    with torch.no_grad():
        net.conv.bias[2] = float("nan")
    return net
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def look(*arguments, capsys):
    return run("look", *arguments, capsys=capsys)


def test_a_layers_maps_are_those_that_pytorch_computes_after_norm_and_activation():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(),
        nn.Conv2d(4, 4, 1, groups=4), nn.MaxPool2d(2), nn.ReLU(),
    ).eval()  # fmt: skip
    with torch.no_grad():
        net[1].running_mean += 0.3
    graph = trace(net, (1, 3, 20, 20))
    x = torch.randn(1, 3, 20, 20)
    layers = convolution_layers(graph)
    assert [(layer.name, layer.kind) for layer in layers] == [("0", "standard"), ("3", "depthwise")]
    layers = (*layers, find_layer(graph, "1"), find_layer(graph, "5"))
    with torch.inference_mode():
        expected = [net[:3](x), net[:4](x), net[:2](x), net(x)]
    maps = feature_maps(graph, layers, [x.numpy()])
    for layer, found, y in zip(layers, maps, expected, strict=True):
        assert layer.shape == tuple(y.shape)
        np.testing.assert_allclose(found, y[0].numpy(), atol=1e-5)


def test_a_convolution_whose_result_goes_two_ways_is_looked_at_before_both():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            y = self.conv(x)
            return y.relu() + y, self.conv(x.flip(3)).relu()

    graph = trace(Fork(), (1, 3, 8, 8))
    first, second = convolution_layers(graph)
    # the same module twice: the layers are named as their values are
    assert (first.name, second.name) == (first.value, second.value)
    convolutions = [node.name for node in graph if node.path == "conv"]
    assert first.value == convolutions[0]
    assert second.value not in convolutions


def test_what_was_copied_is_found_and_drawn(folder, capsys):
    code, out, err = look("net.py:colour", CAT, "--shape", "1,3,32,48", capsys=capsys)
    assert (code, "ImageNet's usual is assumed" in err) == (0, True)
    head, row, *_ = out.splitlines()
    assert head.split() == [
        "layer", "kind", "pixels", "maps", "intrinsic", "affine", "3x3", "dead", "cheap", "%", "s",
    ]  # fmt: skip
    assert row.split() == ["conv", "standard", "16x24", "8", "4", "4", "0", "0", "50.0", "2.00"]
    assert "left out: 1 layer, as one: 1 map of 16 x 24 pixels: a ghost is made of another" in out
    assert out.endswith("drawn: net.py_colour_conv.png\n")
    with Image.open(folder / "net.py_colour_conv.png") as picture:
        assert picture.format == "PNG"
        assert picture.getpixel((2, 2)) == (255, 255, 255, 255)


def test_json_says_the_same(folder, capsys):
    arguments = ("net.py:colour", CAT, "--shape", "1,3,32,48", "--json", "--out", "a.svg")
    code, out, _ = look(*arguments, "--layer", "conv", "--dark", capsys=capsys)
    assert code == 0
    found = json.loads(out)
    (layer,) = found.pop("layers")
    assert found == {
        "network": "net.py:colour", "image": str(CAT), "random_weights": False, "left_out": [],
        "picture": "a.svg",
    }  # fmt: skip
    ghosts = [(ghost["map"], ghost["parent"], ghost["operation"]) for ghost in layer["ghosts"]]
    assert sorted(map(sorted, (g[:2] for g in ghosts))) == [[i, i + 4] for i in range(4)]
    assert {g[2] for g in ghosts} == {"affine"}
    for ghost in layer["ghosts"]:
        scale = -3 if ghost["map"] > ghost["parent"] else -1 / 3
        assert ghost["weights"] == [[pytest.approx(scale, rel=1e-4)]]
    assert (layer["layer"], layer["kind"], layer["height"], layer["width"]) == (
        "conv", "standard", 16, 24,
    )  # fmt: skip
    assert (layer["maps"], layer["cheap_share"], layer["ratio"], layer["dead"]) == (8, 0.5, 2, [])
    drawn = (folder / "a.svg").read_text()
    assert "8 maps: 4 intrinsic, 4 ghosts (4 affine, 0 by a 3×3 filter), 0 dead" in drawn
    for ghost in layer["ghosts"]:  # each says what it is made of
        assert f"× {ghost['parent']}, 0% left" in drawn


@pytest.mark.usefixtures("folder")
def test_a_network_of_one_channel_sees_the_luminance(capsys):
    code, out, _ = look(
        "net.py:grey", CAT, "--shape", "1,1,32,32", "--tolerance", "0.01", "--json", capsys=capsys
    )
    assert code == 0
    assert json.loads(out)["layers"][0]["ratio"] == 2


def test_random_weights_are_said_wherever_results_are(folder, capsys):
    arguments = ("mobilenet_v1", CAT, "--shape", "1,3,32,32", "--set", "width=0.25")
    code, out, err = look(*arguments, "--until", "stem", "--out", "a.svg", "--json", capsys=capsys)
    assert code == 0
    assert "mobilenet_v1 has random weights: its maps, and the ghosts among them, are not" in err
    assert json.loads(out)["random_weights"] is True
    assert "with random weights" in (folder / "a.svg").read_text()


@pytest.mark.usefixtures("folder")
def test_the_bundled_weights_are_taken_where_nothing_else_is_said(capsys):
    arguments = ("mobilenet_v2", CAT, "--shape", "1,3,64,64", "--until", "stem", "--json")
    code, out, err = look(*arguments, capsys=capsys)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["random_weights"] is False
    assert found["layers"][0]["maps"] == 32
    net = create_model("mobilenet_v2", weights="imagenet").eval()
    pixels = find_pretrained(net).preprocessing.for_side(64).apply(CAT)
    with torch.inference_mode():
        maps = net.stem(pixels)[0]
    dead = [i for i, each in enumerate(maps) if each.max() == each.min()]
    assert found["layers"][0]["dead"] == dead != []  # negative everywhere, before ReLU6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("net.py:colour", "none.jpg"), "no image file at none.jpg"),
        (("net.py:colour", "net.py"), "net.py is no image that Pillow can read"),
        (
            ("net.py:colour", CAT, "--layer", "cnov"),
            "layer cnov: no module and no value of the network has that name: the nearest are conv",
        ),
        (
            ("net.py:colour", CAT, "--layer", ""),
            "layer : no module and no value of the network has that name: none is near",
        ),
        (
            ("net.py:colour", CAT, "--layer", "head"),
            "layer head gives 1x3, and no 2-D maps (N, C, H, W); layers that do: conv, one",
        ),
        (
            ("net.py:colour", CAT, "--layer", "one"),
            "layer one gives 1 map of 16 x 16 pixels: a ghost is made of another map",
        ),
        (("net.py:broken", CAT), "layer conv: its maps have values that are not finite"),
        (("net.py:colour", CAT, "--out", "a.jpg"), "--out a.jpg: a picture of maps ends in .png"),
        (("net.py:colour", CAT, "--tolerance", "1.5"), "less than or equal to 0.999"),
        (("net.py:signal", CAT, "--shape", "1,3,32"), "net.py:signal takes 1x3x32: look feeds one"),
        (
            ("net.py:numbers", CAT, "--shape", "1,3,32,32:uint8"),
            "net.py:numbers takes uint8: look feeds images as floating-point numbers, normalised",
        ),
        (
            ("net.py:colour", CAT, "--shape", "1,3,8,8"),
            "has no convolution to look at: the first gives 8 maps of 4 x 4 pixels",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_said(arguments, message, folder, capsys):
    shape = () if "--shape" in arguments else ("--shape", "1,3,32,32")
    code, out, err = look(*arguments, *shape, capsys=capsys)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert sorted(path.name for path in folder.iterdir() if path.suffix != "") == ["net.py"]
