"""A convolution's picture: what it marks is what NumPy's convolution reads."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from terminal import run

from depthwise.analysis import cost, cost_of_graph
from depthwise.families.single import CONVOLUTIONS
from depthwise.graph import ops, trace
from depthwise.graph.interpret import evaluate
from depthwise.report.conv_picture import MARGIN, conv_picture
from depthwise.report.planes import spread_of
from depthwise.report.svg import text_width
from depthwise.report.windows import TURN, find_stages, trace_back

SVG = "{http://www.w3.org/2000/svg}"
SIZE = 6
CASES = [
    ("standard", {}),
    ("standard", {"stride": "2", "padding": "0"}),
    ("standard", {"kernel_size": "5"}),
    ("grouped", {"groups": "2"}),
    ("depthwise", {"multiplier": "2", "stride": "2"}),
    ("pointwise", {"stride": "2"}),
    ("separable", {"stride": "2"}),
    ("plain_separable", {}),
    ("dilated", {"dilation": "2"}),
    ("dilated", {"dilation": "3", "padding": "1"}),
    ("transposed", {}),
    ("transposed", {"kernel_size": "3"}),
    ("transposed", {"kernel_size": "5", "stride": "3"}),
    ("deformable", {}),
    ("deformable", {"stride": "2", "dilation": "2"}),
    ("ghost", {"kernel_size": "3"}),
    ("ghost", {"ratio": "3", "out_channels": "7"}),
]
KINDS = sorted({kind for kind, _ in CASES})


def graph_of(kind, options, size=SIZE):
    entry = CONVOLUTIONS.find(kind)
    with torch.device("meta"):
        net = entry.construct(**options).eval()
    channels = entry.parse("in_channels", options.get("in_channels", "3"))
    if "in_channels" not in options:
        channels = entry.options["in_channels"].default
    return trace(net, (1, channels, size, size))


def stages_of(kind, options):
    graph = graph_of(kind, options)
    return find_stages(graph, cost_of_graph(graph).layers)


def turned_offsets(stage):
    """Return (1, 2 · R · S, H', W') offsets that move each tap as TURN does."""
    taps = np.stack(np.meshgrid(*map(np.arange, stage.kernel), indexing="ij"), -1).reshape(-1, 2)
    rest = (taps - taps.mean(0)) * stage.op.dilation
    moved = (rest @ np.array(TURN).T - rest).reshape(1, -1, 1, 1)
    return np.broadcast_to(moved, (1, moved.shape[1], *stage.output[1:]))


def responses(stage, images):
    """Return NumPy's convolution of images with a kernel of ones: not 0 where they are read."""
    weight = np.ones(stage.weight)
    if isinstance(stage.op, ops.DeformConv2d):
        offsets = np.repeat(turned_offsets(stage), len(images), 0)
        return evaluate(stage.op, images, weight, None, offsets)
    return evaluate(stage.op, images, weight)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_marked_elements_are_those_that_numpy_reads(kind, options):
    stages = stages_of(kind, options)
    shape = stages[0].input
    values = np.eye(np.prod(shape)).reshape(-1, *shape)  # an image for each element, 1 there alone
    for stage in stages:
        values = responses(stage, values)
    channels, height, width = stages[-1].output
    for k in range(channels):
        for y, x in np.ndindex(height, width):
            marked = trace_back(stages, k, (y, x))[0]
            assert np.array_equal(marked, (values[:, k, y, x] != 0).reshape(shape)), (k, y, x)


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_marks_them_where_they_are(kind):
    options = {"kernel_size": "3"} if kind == "ghost" else {}
    graph = graph_of(kind, options)
    stages = stages_of(kind, options)
    svg = conv_picture(graph, kind, "", (1, 2))
    stage, marked = stages[0], trace_back(stages, stages[-1].output[0] // 2, (1, 2))[0]
    cells = [
        (element.get("class").split(), *(float(element.get(name)) for name in ("x", "y", "width")))
        for element in ElementTree.fromstring(svg).iter(f"{SVG}rect")
    ]
    unit = next(wide for style, _, _, wide in cells if "full" in style)
    spread = spread_of(stage)
    edge = MARGIN + spread.cells[1] * unit
    for c in range(stage.input[0]):
        inside = [(style[1], x, y) for style, x, y, _ in cells if style[0] == f"c{c}" and x < edge]
        inside = inside[: stage.input[1] * stage.input[2]]  # a second stage's stand below
        full = {(round((x - MARGIN) / unit), y) for shade, x, y in inside if shade == "full"}
        columns = {round(spread.cell(0, x)[1]) for _, x in np.argwhere(marked[c])}
        assert len(full) == marked[c].sum()
        assert {column for column, _ in full} == columns


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("standard", {}, ["4 × 3 × 3 × 3 = 108 weights", "27 elements of 3 channels"]),
        ("depthwise", {}, ["3 × 1 × 3 × 3 = 27 weights", "9 elements of 1 channel"]),
        ("pointwise", {}, ["4 × 3 × 1 × 1 = 12 weights", "3 elements of 3 channels"]),
        ("separable", {}, ["in all 39 parameters", "standard 3×3: 108 weights"]),
        ("grouped", {}, ["4 × 2 × 3 × 3 = 72 weights", "18 elements of 2 channels"]),
        ("dilated", {}, ["108 weights", "27 elements of 3 channels"]),
        ("transposed", {}, ["3 × 4 × 4 × 4 = 192 weights", "64 for each input element"]),
        ("ghost", {}, ["output: the maps 2 of step 1 and 2 of step 2"]),
        ("ghost", {"ratio": "3", "out_channels": "7"}, ["6 of step 2, cut to 7"]),
        ("deformable", {}, ["offsets: standard, to 18 channels, 504 parameters"]),
    ],
)
def test_the_picture_says_what_is_read_and_what_it_costs(kind, options, said):
    graph = graph_of(kind, options, 7)
    svg = conv_picture(graph, kind, "")
    for words in said:
        assert words in svg
    counted = cost(
        CONVOLUTIONS.find(kind).construct(**options).eval(), next(iter(graph.inputs.values())).shape
    )
    macs = [layer.macs for layer in counted.layers if layer.macs]
    for number in macs if kind != "deformable" else macs[1:]:
        assert f"{number:,} MACs" in svg
    assert len(macs) == 1 or "in all" in svg
    assert len(macs) == 1 or f"{counted.macs:,} MACs" in svg


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.parametrize("size", [5, 8])
def test_no_text_leaves_the_page(kind, options, size):
    root = ElementTree.fromstring(conv_picture(graph_of(kind, options, size), kind, "words " * 30))
    for text in root.iter(f"{SVG}text"):
        bold = "bold" in text.get("class")
        end = float(text.get("x")) + text_width(text.text, float(text.get("font-size")), bold)
        assert end <= float(root.get("width")), text.text
    for cell in root.iter(f"{SVG}rect"):
        assert float(cell.get("x")) + float(cell.get("width")) <= float(root.get("width"))
        assert float(cell.get("y")) + float(cell.get("height")) <= float(root.get("height"))


@pytest.mark.parametrize(
    ("kind", "options", "at", "message"),
    [
        ("standard", {"in_channels": "64"}, None, "at most 8 channels"),
        ("standard", {}, (6, 0), r"there is no element \(6, 0\): the output is 6×6"),
        ("resize", {}, None, "windows are drawn of convolutions alone"),
    ],
)
def test_what_cannot_be_seen_is_refused(kind, options, at, message):
    graph = graph_of(kind, options)
    with pytest.raises(ValueError, match=message):
        conv_picture(graph, kind, "", at)


def test_padding_is_an_option_of_single_convolutions():
    assert cost(CONVOLUTIONS.find("standard").construct(padding=0), (1, 3, 5, 5)).layers[
        0
    ].output_shape == (1, 4, 3, 3)
    with pytest.raises(ValueError, match="padding=-1: expected zeros on each side"):
        CONVOLUTIONS.find("depthwise").construct(padding=-1)


# ------------------------------------------------------------------------------- command line


def draw(*arguments, capsys):
    return run("draw", *arguments, capsys=capsys)


def test_flags_and_settings_draw_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ("conv", "--kind", "depthwise", "--channels", "2", "--kernel", "5", "--size", "7")
    code, out, _ = draw(*flags, capsys=capsys)
    assert (code, out) == (0, "drawn: conv_depthwise.svg\n")
    settings = ("--set", "in_channels=2", "--set", "kernel_size=5", "--shape", "1,2,7,7")
    code, out, _ = draw("conv:depthwise", *settings, "--out", "b.svg", "--json", capsys=capsys)
    assert json.loads(out) == {"picture": "b.svg"}
    pictures = [(tmp_path / name).read_text() for name in ("conv_depthwise.svg", "b.svg")]
    assert pictures[0] == pictures[1]
    assert "2 × 1 × 5 × 5 = 50 weights" in pictures[0]


def test_a_network_of_a_file_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\ndef net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())\n"
    )
    code, out, _ = draw("mine.py:net", "--shape", "1,3,8,8", capsys=capsys)
    assert (code, out) == (0, "drawn: mine.py_net.svg\n")
    assert "3×3 → 8 · ReLU" in (tmp_path / "mine.py_net.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobilenet_v1", "--kernel", "3"], "--kind, --size, --kernel and the like are for"),
        (["conv:ghost", "--kind", "ghost"], "conv:ghost names the kind already"),
        (["conv", "--kind", "gost"], "no convolution is named 'gost': the nearest are ghost"),
        (["conv", "--kind", "ghost", "--groups", "2"], "ghost has no option 'groups'"),
        (["conv", "--size", "5", "--shape", "1,3,5,5"], "leave one out"),
        (["conv", "--at", "1"], "--at 1: expected a row and a column"),
        (["conv", "--out", "a.png"], "--out a.png: a picture ends in .svg"),
        (["conv", "--out", "no/a.svg"], "there is no folder no"),
    ],
)
def test_what_it_cannot_draw_is_said(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = draw(*arguments, capsys=capsys)
    assert code == 2
    assert message in err.replace("\n", " ")
    assert not list(tmp_path.iterdir())
