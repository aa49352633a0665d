"""Hostile names through everything that writes them: they stay names."""

import ast
import csv
import html
import io
import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import CANARY, NAMES, hostile_names
from pydantic import BaseModel
from shipping_requests import make_network, make_request
from torch import nn

import depthwise as dw
from depthwise.analysis import cost_of_graph
from depthwise.cli.arguments import default_directory
from depthwise.compiler.codegen.literals import number
from depthwise.compiler.pipeline import show_stage
from depthwise.compiler.planning import make_plan
from depthwise.console import Screen
from depthwise.escaping import check_c, in_c_comment, in_file_name, in_json, in_line
from depthwise.graph import capture, show
from depthwise.report.cost_picture import cost_picture
from depthwise.report.network_picture import network_picture
from depthwise.report.page import render_page
from depthwise.report.record import (
    Baseline,
    Comparison,
    Compilation,
    FeatureRecord,
    GuessRecord,
    ImageRecord,
    KindTimeRecord,
    LayerProfile,
    LayerTimeRecord,
    Predictions,
)
from depthwise.report.svg import document, words
from depthwise.runtime.artifact import render_template
from depthwise.runtime.target import find_target
from depthwise.shipping.pipeline import start_report
from depthwise.shipping.stages.counting import count_costs

ZIG = (sys.executable, "-m", "ziglang")
STRICT = ("-O0", "-Wall", "-Wextra", "-Werror", "-trigraphs", "-Wno-unused-function")
FEW = hostile_names(len(set(NAMES)))


class Hostile(nn.Module):
    """A module and an output for each name, one after the other."""

    def __init__(self, names):
        super().__init__()
        self.network = names[0]
        self.steps = nn.ModuleDict({f":{name}".replace(".", ":"): nn.PReLU() for name in names})
        self.names = names

    def forward(self, x):
        outputs = {}
        for name, step in zip(self.names, self.steps.values(), strict=True):
            x = step(x)
            outputs[name] = x
        return outputs


def build(names):
    unlike = {name.replace(".", ":"): name for name in names}  # no module's name has a dot
    return Hostile(list(unlike.values())).eval()


@pytest.fixture(scope="module")
def net():
    return build(FEW)


@pytest.fixture(scope="module")
def library(net):
    return dw.compile(net, (1, 2, 3, 3))


@pytest.fixture(scope="module")
def folder(library, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "library"
    library.save(directory)
    return directory


def check_c_files(folder, scratch):
    """Compile all that was saved as strictly as compilers do; nothing of a name is in it."""
    for compiler, file in (("cc", "net.c"), ("cc", "example.c"), ("c++", "example.cpp")):
        standard = "-std=c++17" if compiler == "c++" else "-std=c11"
        made = scratch / f"{file}.o"
        command = (*ZIG, compiler, standard, *STRICT, "-c", str(folder / file), "-o", str(made))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{file}: {done.stderr[:800]}"
        assert CANARY.encode() not in made.read_bytes()
    for name in ("net.c", "net.h", "example.c", "example.cpp"):
        text = (folder / name).read_bytes()
        assert text.isascii()
        assert check_c(text.decode())


def check_library(library, folder, names, tmp_path, monkeypatch):
    """Hold a saved library to its names: C that compiles and is silent, JSON with the true keys."""
    monkeypatch.chdir(tmp_path)
    check_c_files(folder, tmp_path)
    (shared,) = folder.glob("libnet.*")
    assert CANARY.encode() not in shared.read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert [output["name"] for output in manifest["network"]["outputs"]] == names
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 3), np.float32)
    assert list(library(x)) == list(dw.load(folder)(x)) == names
    assert not list(tmp_path.rglob(f"*{CANARY}*"))


def check_tables(graph, name, tmp_path):
    """Hold what is printed and drawn of a graph to lines, cells and elements of its own."""
    found = cost_of_graph(graph, name)
    assert printable(str(found))
    rows = list(csv.DictReader(io.StringIO(found.to_csv(), newline="")))
    assert len(rows) == len(found.layers)
    assert not [row for row in rows if row["path"].startswith(("=", "+", "-", "@"))]
    paths = [layer["path"] for layer in json.loads(json.dumps(found.to_dict()))["layers"]]
    assert paths == [layer.path for layer in found.layers]
    shown = show(graph)
    assert printable(shown)
    assert len(shown.splitlines()) == len(graph.inputs) + len(graph.nodes) + 1
    ET.fromstring(network_picture(graph, name))
    cost_picture(found, tmp_path / "cost.svg")
    ET.parse(tmp_path / "cost.svg")


def check_picture(name):
    """Hold an SVG file to its own elements, with the name as text."""
    drawn = ET.fromstring(document(100, 100, name, [words(0, 0, name, 11)]))
    found = {element.tag.rpartition("}")[2]: element.text for element in drawn}
    assert set(found) == {"title", "style", "rect", "text"}
    assert found["title"] == found["text"] == in_line(name)
    assert in_line(name).isprintable()


def printable(text):
    return all(c.isprintable() or c == "\n" for c in text)


def test_c_and_manifest_of_a_network_of_hostile_names(net, library, folder, tmp_path, monkeypatch):
    check_library(library, folder, net.names, tmp_path, monkeypatch)


def test_tables_and_pictures_of_a_network_of_hostile_names(net, tmp_path):
    graph = capture(net, (1, 2, 3, 3))
    assert {node.path.removeprefix("steps.") for node in graph} >= {
        name for name in net.steps if "@" not in name
    }
    check_tables(graph, net.network, tmp_path)


def test_the_plan_of_a_network_of_hostile_names_has_a_line_a_call(net):
    graph = capture(net, (1, 2, 3, 3))
    plan = show_stage(capture(net, (1, 2, 3, 3)), "plan")
    assert printable(plan)
    steps = make_plan(graph, find_target("native")).steps
    numbers = [line.split()[0] for line in plan.splitlines() if line.strip()]
    assert [n for n in numbers if n.isdecimal()] == [
        str(i) for i in (len(steps), *range(1, len(steps) + 1))
    ]
    assert len(steps) > len(net.names)


@pytest.mark.parametrize("name", FEW)
def test_a_picture_holds_a_name_as_text(name):
    check_picture(name)


def test_layers_of_hostile_names_are_drawn(tmp_path):
    names = ["$\\frac{", "<b>", "日本", "😀", "\x1b[31m\x00", "$x$ & ]]>", "\u202e", "x" * 10_000]
    net = nn.Sequential()
    for name in names:
        net.add_module(name, nn.Conv2d(2, 2, 1))
    graph = capture(net, (1, 2, 3, 3))
    cost_picture(cost_of_graph(graph, "$\\frac{<i>"), tmp_path / "cost.svg")
    drawn = "".join(ET.parse(tmp_path / "cost.svg").getroot().itertext())
    assert all(in_line(name, 80) in drawn for name in [*names, "$\\frac{<i>"])


@pytest.mark.slow
def test_a_thousand_hostile_names(report, elements, tmp_path, monkeypatch):
    names = hostile_names(1100)  # some become alike: no module's name has a dot
    tried = 0
    for at in range(0, len(names), 100):
        net = build(names[at : at + 100])
        tried += len(net.names)
        made = dw.compile(net, (1, 2, 3, 3))
        made.save(tmp_path / f"{at}")
        check_library(made, tmp_path / f"{at}", net.names, tmp_path, monkeypatch)
        check_tables(capture(net, (1, 2, 3, 3)), net.network, tmp_path)
        for name in net.names:
            check_page(report, elements, name)
            check_picture(name)
    assert tried >= 1000


# ------------------------------------------------------------------------------ through a file


def test_code_in_an_output_key_of_a_file_is_not_compiled(tmp_path, monkeypatch):
    names = [
        name for name in FEW if not set(name) & set(",;()[]") and name.strip()
    ]  # of torch's own list
    net = build(names[:40])
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.randn(1, 2, 3, 3),)), path)
    made = dw.compile(path)
    made.save(tmp_path / "saved")
    check_library(made, tmp_path / "saved", net.names, tmp_path, monkeypatch)


# -------------------------------------------------------------------------------- names, one by one


@pytest.mark.parametrize("name", ["class", "1x", 'a"b', '"); open("CANARY", "w"); ("', "a\\b", "é"])
def test_a_module_may_have_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = nn.Sequential()
    net.add_module(name, nn.Conv2d(2, 3, 1))
    made = dw.compile(net.eval(), (1, 2, 3, 3))
    assert made.manifest.verification.layers[0].path == name
    assert not list(tmp_path.iterdir())


def test_a_key_that_no_file_can_hold_is_refused():
    net = Hostile(["a", "b\ud800"])
    with pytest.raises(dw.Unsupported, match=r"key 'b\\ud800', which holds half of a character"):
        dw.compile(net, (1, 2, 3, 3))


@pytest.mark.parametrize("name", ["a\udc80", "x" * 10_000, "\u202e\x1b"])
def test_module_names_and_the_network_s_are_kept_where_a_file_can_hold_them(name, tmp_path):
    net = nn.Sequential()
    net.add_module(name, nn.PReLU())
    net.network = name
    dw.compile(net.eval(), (1, 2, 3, 3)).save(tmp_path / "saved")
    made = dw.load(tmp_path / "saved").manifest
    assert made.network.name == made.verification.layers[0].path == in_line(name)


@pytest.mark.parametrize("template", ["net.h", "example.c", "example.cpp"])
def test_a_stranger_s_manifest_writes_no_code(library, template):
    manifest = library.manifest
    spoilt = manifest.model_copy(update={"depthwise": "1 */ int CANARY; /*"})
    lines = render_template(template, spoilt).splitlines()
    plain = render_template(template, manifest).splitlines()
    assert len(lines) == len(plain)
    assert not any("*/ int" in line for line in lines)


@pytest.mark.parametrize("name", FEW)
def test_a_comment_of_c_neither_ends_nor_goes_on(name):
    text = in_c_comment(name)
    assert not re.search(r"\*|\\|\?\?|[^ -~]", text)
    assert len(text) <= max(2010, 12 * len(name))
    assert check_c(f"/* {text} */\n// {text}\nint x;\n")


@pytest.mark.parametrize(
    "text", ["/* a /* b */", "/* a */ */", "a /* b", "int \\\n x;", "??/", "é", "a\r", '"\\x41"']
)
def test_c_that_can_be_misread_is_a_fault_of_ours(text):
    with pytest.raises(AssertionError):
        check_c(text)


def test_different_names_are_spelled_differently():
    spelled = [in_c_comment(name) for name in FEW]
    assert len(set(spelled)) == len(spelled)


@pytest.mark.parametrize("name", [*FEW, "a\udc80", ""])
def test_a_file_stays_in_its_folder(name):
    for path in (default_directory(name, "native"), Path(f"{in_file_name(name, '_')}.svg")):
        assert len(path.parts) == 1
        assert not path.name.startswith((".", "-"))
        assert len(path.name.encode()) < 140
        assert printable(path.name)


@pytest.mark.parametrize(
    ("network", "directory"),
    [("mobilenet_v2", "mobilenet_v2-native"), ("timm:resnet18", "timm-resnet18-native"),
     ("nets/my.py:tiny", "nets-my.py-tiny-native"), ("net.pt2", "net.pt2-native"),
     ("../my.py:tiny", "my.py-tiny-native")],
)  # fmt: skip
def test_directories_of_ordinary_networks(network, directory):
    assert str(default_directory(network, "native")) == directory


@pytest.mark.parametrize("name", FEW)
def test_json_says_the_same_and_shows_all(name):
    text = in_json(json.dumps({name: [name]}, ensure_ascii=False))
    assert json.loads(text) == {name: [name]}
    assert printable(text)


@pytest.mark.parametrize("name", FEW)
def test_a_terminal_is_not_spoken_to(name):
    out = io.StringIO()
    Screen(file=out, force_terminal=True, color_system="truecolor", width=80).print(name)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert all(c.isprintable() or c in "\n\t" for c in plain)
    assert "\x1b[31" not in out.getvalue()
    if name.isprintable() and len(name) < 60 and name.strip() == name:
        assert plain.rstrip("\n") == name


# ------------------------------------------------------------------------------------------- pages


class Tags(HTMLParser):
    """Collects the elements of a page with the names of their attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag != "wbr":  # a path may be broken at its dots
            self.found.append((tag, tuple(name for name, _ in attributes)))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a network that was counted, compiled and shown images, but not timed."""
    request, network = make_request(tmp_path_factory.mktemp("pages")), make_network()
    started = start_report(request, network)
    made = dw.compile(network.source.net, (1, 3, 32, 32))
    guesses = (GuessRecord(name="a", probability=0.5),)
    image = ImageRecord(file="a.png", picture="data:,", guesses=guesses, error=0.0)
    feature = FeatureRecord(layer="a", file="a", shape=(1, 1, 1), channels=1, picture="data:,")
    numbers = dict.fromkeys(("microseconds", "ideal", "share"), 1.0)
    rates = dict.fromkeys(("rate", "of_peak", "of_ideal", "intensity"), 1.0)
    layer = LayerTimeRecord(
        path="a", kind="linear", kernel="a", shape=(1,), bound="a", **numbers, **rates
    )
    kind = KindTimeRecord(kind="linear", macs_share=1.0, microseconds=1.0, share=1.0)
    costs, _ = count_costs(request, network, started)
    named = started.request.model_copy(update={"settings": {"a": "b"}})
    return started.model_copy(update={"request": named}).adding(
        costs,
        Compilation(manifest=made.manifest, values_compared=1, source_bytes=1, library_bytes=1),
        Predictions(images=(image,), features=(feature,), remarks=("a",)),
        Comparison(
            found=None, rounds=1, lines=(), missing=("a",), failed={"a": "b"}, remarks=("a",),
            disturbed="",
        ),
        LayerProfile(
            milliseconds=1e-3, ideal=1, rate=1, peak=1, of_peak=1, layers=(layer,), kinds=(kind,),
            machine=None, remarks=("a",), library=1, calibrated="a", contradicted=(), disturbed="",
        ),
        Baseline(times=None, disturbed=""),
    )  # fmt: skip


# Texts that are one of a few of ours, or made of others that are spelled already.
OURS = {"kind", "target", "severity", "optimize", "picture", "dtype", "layout"}


def renamed(value, name):
    """Return a record in which every text of somebody else is `name`."""
    match value:
        case str():
            return name
        case tuple():
            return tuple(renamed(part, name) for part in value)
        case dict() if any(isinstance(part, BaseModel) for part in value.values()):
            return {key: renamed(part, name) for key, part in value.items()}  # stages have ours
        case dict():
            return {name: name} if value else {}
        case BaseModel():
            parts = {key: renamed(part, name) for key, part in value if key not in OURS}
            return value.model_copy(update=parts)
    return value


@pytest.fixture(scope="module")
def elements(report):
    """The elements of its page where every name is an ordinary one."""
    return Tags(render_page(renamed(report, "plain"))).found


def check_page(report, elements, name):
    """Hold the page to its own elements, whatever the names are."""
    page = render_page(renamed(report, name))
    assert Tags(page).found == elements
    assert all(c.isprintable() or c in "\n\t" for c in page)


@pytest.mark.parametrize("name", FEW[::4])
def test_a_page_of_hostile_names_has_the_same_elements(report, elements, name):
    check_page(report, elements, name)


def test_what_a_page_gives_to_copy_is_one_word_and_one_string(report):
    name = "a'; touch CANARY; \"$(b)\\"
    page = html.unescape(render_page(renamed(report, name)))
    (word,) = re.findall(r"--library (.*)</code>", page)
    (literal,) = re.findall(r"dw\.load\((.*)\)\n", page)
    assert shlex.split(word) == [name]
    assert ast.literal_eval(literal) == name


def test_numbers_that_are_none_are_c_too():
    assert [number(float(text)) for text in ("nan", "inf", "-inf", "0.1")] == [
        "NAN", "INFINITY", "-INFINITY", "0.1f",
    ]  # fmt: skip
