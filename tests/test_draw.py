"""A network's picture: every layer on it once, its true numbers, nothing covered or cut."""

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from matplotlib import get_data_path
from matplotlib.font_manager import get_font
from torch import nn
from torchvision import models

from depthwise.analysis import cost_of_graph
from depthwise.analysis.units import in_units
from depthwise.graph import trace
from depthwise.report.branches import Fork, Tangle, find_chain, steps_of
from depthwise.report.cards import find_cards
from depthwise.report.labels import labels
from depthwise.report.layout import BAND, Box
from depthwise.report.network_picture import draw_network, network_picture
from depthwise.report.steps import Step, find_steps
from depthwise.report.svg import document, shorten, text_width, words
from depthwise.sources.opening import describe

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"
NETWORKS = [
    *("mobilenet_v2", "mobilenet_v3_large", "ghostnet", "resnet50", "googlenet", "alexnet"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("mobilenet_v1", "inception_v3", "xception", "vgg16")
    ),
]

cached: dict = {}


def graph_of(name):
    if name not in cached:
        cached[name] = describe(name).traced
    return cached[name]


def traced(net, shape=(1, 4, 16, 16)):
    return trace(net.eval(), shape)


def chain_of(graph):
    steps = find_steps(graph, cost_of_graph(graph).layers)
    return steps, find_chain(graph, steps)


def cards_of(graph):
    return find_cards(graph, chain_of(graph)[1])


def forks(items):
    for item in items:
        if isinstance(item, Fork):
            yield item
            for branch in item.branches:
                yield from forks(branch)


# ------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", NETWORKS)
def test_each_card_has_the_cost_of_its_module(name):
    graph = graph_of(name)
    counted, cards = cost_of_graph(graph), cards_of(graph)
    for card in cards:
        if " – " in card.name:
            continue
        inside = [x for x in counted.layers if f"{x.path}.".startswith(f"{card.name}.")]
        assert card.macs == sum(x.macs for x in inside), card.name
        assert card.params == sum(x.params for x in inside), card.name
    assert sum(card.times * card.macs for card in cards) == counted.macs
    assert sum(card.times * card.params for card in cards) == counted.params


@pytest.mark.parametrize("name", NETWORKS)
def test_each_layer_is_in_one_step(name):
    graph = graph_of(name)
    steps, chain = chain_of(graph)
    layers = [layer.name for step in steps for layer in step.layers]
    assert sorted(layers) == sorted(node.name for node in graph)
    assert {step.name for step in steps_of(chain)} == {step.name for step in steps}
    assert len(steps_of(chain)) == len(steps)


@pytest.mark.parametrize("name", ["mobilenet_v2", "googlenet"])
def test_the_picture_says_the_numbers_of_its_cards(name):
    graph = graph_of(name)
    root = ElementTree.fromstring(network_picture(graph, name))
    written = [element.text for element in root.iter(f"{SVG}text")]
    start = 0
    for card in cards_of(graph):
        start = written.index(card.name, start)  # in the network's order
        times = f"{card.times} × " if card.times > 1 else ""
        heading = written[start + 1 : start + 4]
        macs, params = [word for word in heading if word != f"× {card.times}"][:2]
        expected = f"{times}{in_units(card.macs)} MACs" if card.macs else "no MACs"
        assert macs == expected
        assert params.startswith(f"{times}{in_units(card.params)}") or not card.params
    counted = cost_of_graph(graph)
    assert f"{in_units(counted.macs)} MACs (multiply-adds)" in written[1]


# ------------------------------------------------------------------------------- structure


def test_blocks_that_are_alike_are_one_card():
    names = {card.name: card.times for card in cards_of(graph_of("mobilenet_v2"))}
    assert names["blocks.7 – blocks.9"] == 3
    assert [card.times for card in cards_of(graph_of("resnet50"))] == [1, 1, 2, 1, 3, 1, 5, 1, 2, 1]


@pytest.mark.parametrize(
    ("name", "card", "branches"),
    [
        ("resnet50", "blocks.0", [3, 1]),  # a shortcut that changes the shape
        ("resnet50", "blocks.1 – blocks.2", [3, 0]),  # a plain shortcut
        ("googlenet", "blocks.inception_3a", [1, 2, 2, 2]),
        pytest.param(  # two of them part again
            "inception_v3", "blocks.mixed_7b", [1, 2, 3, 2], marks=pytest.mark.slow
        ),
        ("mobilenet_v3_large", "blocks.3", [3, 0]),  # squeeze and excitation
        ("ghostnet", "blocks.0", [4, 0]),  # two Ghost modules beside a shortcut
    ],
)
def test_branches_are_seen(name, card, branches):
    cards = {card.name: card for card in cards_of(graph_of(name))}
    fork = next(forks(cards[card].items))
    assert sorted(map(len, fork.branches)) == sorted(branches)


def test_ghost_maps_are_a_branch_beside_their_own_source():
    card = next(card for card in cards_of(graph_of("ghostnet")) if card.name == "blocks.0")
    inner = list(forks(next(forks(card.items)).branches[0]))
    assert [sorted(map(len, fork.branches)) for fork in inner] == [[0, 1], [0, 1]]


class Twice(nn.Module):
    """Reads each of two maps twice: no order of branches lays its lines side by side."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(4, 4, 1) for _ in range(4))

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        return self.c(a + b) * self.d(a - b)


def test_lines_that_cross_are_listed():
    graph = traced(Twice())
    _, chain = chain_of(graph)
    assert [type(item) for item in chain] == [Tangle, Step]
    assert "6 steps, their lines cross:" in network_picture(graph, "twice")


class Own(nn.Module):
    """Swish by hand, an activation before a convolution, a second output, an unread branch."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 8, 3)

    def forward(self, x):
        x = self.first(x)
        x = x * torch.sigmoid(x)
        return x + 1, self.second(torch.relu(x))


def test_a_network_of_ones_own_is_drawn():
    graph = traced(Own())
    steps, chain = chain_of(graph)
    assert [step.node.path for step in steps] == ["first", "", "second"]
    assert [type(node.op).__name__ for node in steps[0].after] == ["Activation", "Binary"]
    assert [type(node.op).__name__ for node in steps[2].before] == ["Activation"]
    assert isinstance(chain[-1], Fork)
    assert chain[-1].join is None
    ElementTree.fromstring(network_picture(graph, "own <&>"))


def test_the_narrowest_wording_still_says_what_a_pooling_does():
    graph = traced(nn.AvgPool2d(3, 1))
    (step,) = chain_of(graph)[0]
    assert [wording.lines for wording in labels(graph, step, 50)][-1] == ("mean", "4")


def test_a_network_without_layers_is_refused():
    with pytest.raises(ValueError, match="nothing has no layers to draw"):
        network_picture(traced(nn.Identity()), "nothing")


# ------------------------------------------------------------------------------- looks


def overlapping(a, b):
    across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return across > 0 and down > 0


def check_looks(svg, boxes=()):
    root = ElementTree.fromstring(svg)
    width, height = float(root.get("width")), float(root.get("height"))
    assert width <= 440  # a phone's
    for i, box in enumerate(boxes):
        assert not any(overlapping(box, other) for other in boxes[i + 1 :]), box
        assert box.x >= 0
        assert box.x + box.width <= width
        for line in box.lines:
            used = text_width(line, box.size) + text_width(box.right, box.size)
            assert used <= box.width - BAND or line in "+×", box
    for text in root.iter(f"{SVG}text"):
        style, size, x = text.get("class").split(), float(text.get("font-size")), text.get("x")
        wide = text_width(text.text or "", size, "bold" in style)
        left = float(x) - wide * (1 if "end" in style else 0.5 if "middle" in style else 0)
        assert left >= 0, text.text
        assert left + wide <= width, text.text
        assert float(text.get("y")) <= height


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_covered_or_cut(name):
    picture = draw_network(graph_of(name), name)
    check_looks(picture.svg, picture.boxes)
    assert len(picture.boxes) > 5


def test_the_measure_of_looks_sees_faults():
    box = Box(10, 10, 60, 20, ("a label",))
    svg = document(440, 100, "", [words(400, 20, "too far to the right", 11)])
    with pytest.raises(AssertionError, match="too far to the right"):
        check_looks(svg)
    for other in (Box(60, 20, 60, 20), Box(10, 40, 20, 20, ("a label",))):
        with pytest.raises(AssertionError):
            check_looks(document(440, 100, "", []), (box, other))
    check_looks(document(440, 100, "", []), (box, Box(70, 10, 60, 20, ("a label",))))


def test_other_networks_are_drawn_whole():
    with torch.device("meta"):
        graph = trace(models.shufflenet_v2_x0_5(weights=None).eval(), (1, 3, 64, 64))
    picture = draw_network(graph, "a name that is far too long for the width of a telephone")
    check_looks(picture.svg, picture.boxes)


@pytest.mark.parametrize("face", ["DejaVuSans", "DejaVuSans-Bold"])
def test_text_is_never_wider_than_estimated(face):
    font = get_font(f"{get_data_path()}/fonts/ttf/{face}.ttf")
    font.set_size(1000, 72)
    for letter in [chr(code) for code in range(32, 127)] + list("×→·–…²−÷"):
        wide = font.load_char(ord(letter)).linearHoriAdvance / 65536
        assert text_width(letter, 1000, face.endswith("Bold")) >= wide - 0.5, letter


def test_long_names_are_cut_in_the_middle():
    assert shorten("features.denseblock1", 70, 11) == "featu…ock1"
    assert shorten("short", 100, 11) == "short"


def test_the_documentation_shows_what_is_drawn(tmp_path):
    tool = runpy.run_path(str(ROOT / "tools" / "draw_architectures.py"))
    tool["draw_all"](tmp_path)
    for name in tool["COMMANDS"]:
        kept = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text()
        assert kept == (tmp_path / f"{name}.svg").read_text(), (
            f"{name}: run tools/draw_architectures.py"
        )


def test_no_picture_reads_from_elsewhere():
    for path in (ROOT / "docs" / "pictures").glob("draw_*.svg"):
        found = set(re.findall(r"https?://[^\"\s]+", path.read_text()))
        assert found == {"http://www.w3.org/2000/svg"}
