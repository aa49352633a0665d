"""What a network returns is given back as it came, and it is called as its forward is."""

import json
import random
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import nests
import numpy as np
import onnx
import pytest
import torch
from operator_cases import Function
from torch import nn
from torch.utils import _pytree as pytree
from toy import make_library

import depthwise as dw
from depthwise.cli.arguments import parse_shapes
from depthwise.graph import TensorType, capture, classes
from depthwise.graph.structure import (
    ForwardParameter,
    Leaf,
    Nest,
    Plain,
    bind,
    decode,
    decode_signature,
    encode_signature,
    fill,
)
from depthwise.runtime.manifest import NetworkRecord
from depthwise.training.classifier import classifier_of_library

X = (1, 2, 4, 5)


class Pair(NamedTuple):
    """A named tuple."""

    first: Any
    second: Any


@dataclass
class Data:
    """A dataclass that torch.export knows."""

    a: Any
    b: Any = None
    c: Any = 3


@dataclass
class ModelOutput(OrderedDict):
    """A dict and dataclass of those of its fields that are not None, as transformers has them."""

    loss: Any = None
    logits: Any = None

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


class Odd:
    """A class that was registered with torch, and is no container otherwise."""

    def __init__(self, p, q):
        self.p, self.q = p, q


torch.export.register_dataclass(Data)
pytree.register_pytree_node(
    ModelOutput, lambda x: (list(x.values()), list(x)),
    lambda parts, keys: ModelOutput(**dict(zip(keys, parts, strict=True))),
)  # fmt: skip
pytree.register_pytree_node(
    Odd, lambda x: ([x.p, x.q], ("known", {"of": 1})), lambda parts, _: Odd(*parts),
    flatten_with_keys_fn=lambda x: (
        [(pytree.GetAttrKey("p"), x.p), (pytree.GetAttrKey("q"), x.q)], ("known", {"of": 1})
    ),
)  # fmt: skip

KEYS = ("a", "0", "1", 0, 1, 8, "", "a.b", "*/", "ключ", (1, "x"), 2.5, None, True, "it's", "\n")


def draw_nest(draw, depth, leaf):
    """Return a random nest, of every container that is known."""
    if depth == 0 or draw.random() < 0.3:
        return leaf()
    count = draw.randint(0, 3)
    parts = [draw_nest(draw, depth - 1, leaf) for _ in range(count)]
    keys = dict.fromkeys(draw.sample(KEYS, count))  # 1 and True are one key
    pairs = list(zip(keys, parts, strict=False))
    made = [
        lambda: tuple(parts), lambda: parts, lambda: deque(parts), lambda: dict(pairs),
        lambda: OrderedDict(pairs), lambda: defaultdict(draw.choice([list, None]), pairs),
        lambda: Pair(leaf(), parts), lambda: Data(parts, draw.choice([None, 1.5]), leaf()),
        lambda: ModelOutput(logits=leaf()), lambda: Odd(leaf(), parts),
    ]  # fmt: skip
    return draw.choice(made)()


class Returning(nn.Module):
    """A network that returns random nests: of values, inputs and constants, and what is none."""

    def __init__(self, seeds):
        super().__init__()
        self.seeds = seeds
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.register_buffer("anchors", torch.arange(6.0))

    def forward(self, x):
        y = self.conv(x)
        values = (y, y * 2, y.mean(), y[:, 0], x, self.anchors, self.conv.bias,
                  None, 3, 2.5, True, "text", float("inf"))  # fmt: skip
        draws = [random.Random(seed) for seed in self.seeds]
        return y, [draw_nest(draw, 3, lambda draw=draw: draw.choice(values)) for draw in draws]


def check_nests(seeds, folder):
    """Compile a network that returns nests, and compare what it returns here and elsewhere."""
    torch.manual_seed(0)
    net, x = Returning(seeds).eval(), torch.randn(X)
    expected = net(x)
    library = dw.compile(net, X)
    found = library(x)
    assert pytree.tree_structure(found) == pytree.tree_structure(expected)
    for one, other in zip(*map(pytree.tree_leaves, (found, expected)), strict=True):
        if isinstance(other, torch.Tensor):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
        else:
            assert (type(one), one) == (type(other), other)
    library.save(folder / "out")
    np.save(folder / "x.npy", x.numpy())
    command = [sys.executable, nests.__file__, str(folder / "out"), str(folder / "x.npy")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text, arrays = json.loads(said)
    known: list[np.ndarray] = []
    assert text == nests.spell(elsewhere(expected), known)
    for one, other in zip(arrays, known, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


def elsewhere(value):
    """Return a nest as a process sees it that knows none of our classes but by their fields."""
    if isinstance(value, Odd):
        return {"p": elsewhere(value.p), "q": elsewhere(value.q)}
    if isinstance(value, Data):
        return replace(value, **{key: elsewhere(part) for key, part in vars(value).items()})
    if isinstance(value, Pair):
        return Pair(*map(elsewhere, value))
    if isinstance(value, tuple | list | deque):
        return type(value)(map(elsewhere, value))
    if isinstance(value, dict) and not isinstance(value, ModelOutput):
        made = {key: elsewhere(part) for key, part in value.items()}
        known = isinstance(value, defaultdict)
        return defaultdict(value.default_factory, made) if known else type(value)(made)
    return value


def test_nests_are_given_back_as_they_came_here_and_in_another_process(tmp_path):
    check_nests(range(8), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(8, 64, 8))
def test_more_nests_are_given_back_as_they_came(start, tmp_path):
    check_nests(range(start, start + 8), tmp_path)


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        (lambda x: x + 1, [""]), (lambda x: (x + 1,), ["0"]), (lambda x: [{"": x}], ["0.''"]),
        (lambda x: {"0": x + 1, 0: x * 2}, ["0", "0.1"]),
        (lambda x: {"a.b": x + 1, "a": {"b": x, "c": None}}, ["a.b", "a.b.1"]),
        (lambda x: (x, [x + 1, {(1, "k"): x}], 3), ["0", "1.0", "1.1.1,k"]),
        (lambda x: Data(Pair(x, x + 1), c="text"), ["a.first", "a.second"]),
        (lambda x: Odd(None, [x]), ["q.0"]), (lambda x: x.shape and [x.amax(1), x.shape], ["0"]),
    ],
)  # fmt: skip
def test_names_are_paths_and_unique(returned, names):
    graph = capture(Function(returned), X)
    assert [output.name for output in graph.outputs] == names
    assert graph.signature is not None
    said = json.loads(json.dumps(encode_signature(graph.signature)))
    assert decode_signature(said, list(graph.inputs), names) == graph.signature
    values = {name: torch.ones(1) for name in names}
    spec = pytree.tree_structure(returned(torch.zeros(X)))
    assert pytree.tree_structure(fill(graph.signature.returns, values)) == spec


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda _: (None, 3), "the network returns no tensor: return tensors in"),
        (lambda x: {torch.float32: x}, "holds torch.float32, which is no plain data: return ten"),
    ],
)
def test_what_cannot_be_given_back_is_refused_and_counted(returned, message):
    net = nn.Sequential(nn.Conv2d(2, 2, 1), Function(returned))
    assert dw.cost(net, X).macs == 2 * 2 * 20
    with pytest.raises(dw.Unsupported, match=message):
        capture(net, X)


class Attributes(dict):
    """A container that torch does not know."""


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        (lambda x: Attributes(x=x), r"[\w.]*Attributes"), (lambda x: (x, x.dtype), "torch.dtype"),
        (lambda x: (x, pytree.LeafSpec), r"[\w.]+"), (lambda x: (x, {1}), "set"),
    ],
)  # fmt: skip
def test_what_torch_does_not_know_is_named(returned, named):
    with pytest.raises(dw.Unsupported, match=f"trace it: it returns {named}: return tensors in tu"):
        dw.cost(Function(returned), X)


# ------------------------------------------------------------------------------- hostile files


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "pickle", "parts": []}, "no part of a structure"),
        ({"kind": "tuple"}, "no part of a structure"), ({"tensor": 3}, "no part of a structure"),
        ({"tensor": "", "kind": "tuple"}, "no part of a structure"),
        ({"number": "1e9"}, "no part of a structure"), ([], "no part of a structure"),
        ({"kind": "tuple", "parts": [], "code": ""}, "and code"),
        ({"kind": "tuple", "parts": [1], "keys": ["a"]}, "a tuple of 1 parts with 1 keys"),
        ({"kind": "dict", "parts": [1], "keys": []}, "a dict of 1 parts with 0 keys"),
        ({"kind": "dict", "parts": [1, 2], "keys": [1, True]}, "with the keys"),
        ({"kind": "dict", "parts": [1], "keys": [{"tensor": ""}]}, "with the keys"),
        ({"kind": "dict", "parts": [1], "keys": [{"kind": "list", "parts": []}]}, "with the keys"),
        ({"kind": "dataclass", "parts": [1], "keys": ["a b"], "origin": "a:B"}, "with the keys"),
        ({"kind": "namedtuple", "parts": [1], "keys": [1], "origin": "a:B"}, "with the keys"),
    ],
)  # fmt: skip
def test_structures_that_nobody_wrote_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        decode(value)


def test_structures_without_end_are_refused():
    deep: Any = None
    for _ in range(100):
        deep = {"kind": "tuple", "parts": [deep]}
    with pytest.raises(ValueError, match="more than 60 levels"):
        decode(deep)


def test_a_class_of_another_kind_is_never_called(monkeypatch):
    """Nor is anything imported: a manifest may name whatever it likes."""
    ran = []
    monkeypatch.setattr(classes.sys.modules["subprocess"].Popen, "__init__", ran.append)
    before = set(sys.modules)
    for origin in ("subprocess:Popen", "antigravity:geohash", "os:system", ":", "nests:spell", ""):
        for kind in ("namedtuple", "structseq", "dataclass", "object"):
            made = fill(Nest(kind, (Plain(1),), (Plain("args"),), origin), {})
            assert (made if kind == "object" else {"args": made.args}) == {"args": 1}
    assert not ran
    assert set(sys.modules) == before


def test_the_library_s_manifest_says_what_its_tensors_are(tmp_path):
    make_library().save(tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["network"].pop("structure") is None  # as earlier versions wrote it
    record = NetworkRecord.model_validate(manifest["network"])
    assert record.signature.returns == Leaf("")
    manifest["network"]["structure"] = {"takes": [], "returns": {"tensor": "other"}}
    del manifest["seal"]
    (tmp_path / "out/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="what it takes is not each of the tensors x0 once"):
        dw.load(tmp_path / "out")


# -------------------------------------------------------------------------------------- arguments


class Mixed(nn.Module):
    """A network with every kind of argument."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x, batch, mask=None, scale=2.0, *, extra=None, mode="sum"):
        y = self.conv(x) * scale + batch["bias"] + batch["parts"][1]
        y = y if mask is None else y * mask
        y = y if extra is None else y - extra
        return {"y": y, "x": x} if mode == "sum" else y


BATCH = {"bias": (1, 3, 1, 1), "parts": [(2,), (1,)]}
NAMED = {"extra": (1, 3, 1, 1), "mask": (1, 1, 4, 5)}


def mixed_arguments():
    """Return the network, and tensors for its arguments."""
    torch.manual_seed(0)
    parts = (torch.randn(2), torch.randn(1))
    batch = {"bias": torch.randn(1, 3, 1, 1), "parts": parts}
    named = {"mask": torch.randn(1, 1, 4, 5), "extra": torch.randn(1, 3, 1, 1)}
    return Mixed().eval(), torch.randn(X), batch, named


def check_equal(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def test_a_library_is_called_as_forward_is(tmp_path):
    net, x, batch, named = mixed_arguments()
    library = dw.compile(net, X, BATCH, kwargs={**NAMED, "scale": 3.0})
    inputs = [tensor.name for tensor in library.manifest.network.inputs]
    assert inputs == ["x", "batch_bias", "batch_parts_0", "batch_parts_1", "mask", "extra"]
    library.save(tmp_path / "out")
    assert "in[4]: 1 x 1 x 4 x 5, mask\n" in (tmp_path / "out/net.h").read_text()
    expected = net(x, batch, named["mask"], 3.0, extra=named["extra"])
    for each in (library, dw.load(tmp_path / "out")):
        check_equal(each(x, batch, **named), expected)
        check_equal(each(x, batch, named["mask"], 3.0, extra=named["extra"]), expected)
        check_equal(each(batch=batch, x=x, scale=3.0, **named), expected)


def test_a_program_brings_its_arguments(tmp_path):
    net, x, batch, named = mixed_arguments()
    torch.export.save(torch.export.export(net, (x, batch), named), tmp_path / "net.pt2")
    source = dw.open(tmp_path / "net.pt2")
    found = dw.compile(source)(x, batch, **named)
    check_equal(found, net(x, batch, **named))
    expected = list(net(x, batch, **named).values())
    tensors = [x, batch["bias"], *batch["parts"], named["extra"], named["mask"]]
    order = {"extra": 4, "mask": 5} if list(source.graph.inputs)[4] == "extra" else {}
    if not order:
        tensors[4:] = [named["mask"], named["extra"]]
    for one, other in zip(source.run([t.numpy() for t in tensors]), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other)


@pytest.mark.parametrize("mask", [TensorType((1, 1, 4, 5), "bool"), torch.ones(1, 1, 4, 5) > 0])
def test_an_input_may_have_an_element_type_of_its_own(mask):
    net = Function(lambda x, mask: torch.where(mask, x, 0.0))
    source = dw.open(net, X, mask)
    assert [str(type_) for type_ in source.graph.inputs.values()] == ["1x2x4x5", "1x1x4x5 bool"]
    assert source.output_shapes == [X]


TAKES = (
    ForwardParameter("x", Leaf("x")),
    ForwardParameter("batch", Nest("dict", (Leaf("a"), Plain(3)), (Plain("a"), Plain("k")))),
    ForwardParameter("scale", Plain(2.0)), ForwardParameter("mask", Leaf("mask"), by_name=True),
)  # fmt: skip


def test_what_is_no_tensor_may_be_left_out():
    expected = {"x": 1, "a": 2, "mask": 3}
    assert bind(TAKES, (1, {"k": 3, "a": 2}), {"mask": 3}, "net") == expected
    assert bind(TAKES, (1, {"k": 3, "a": 2}, 2.0), {"mask": 3}, "net") == expected


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        ((1,), {"mask": 3}, "net takes 3 inputs: x; batch, a dict ('a': a tensor, 'k': 3); "
                            "mask by name; found none for 'batch'"),
        ((1, 2, 2.0, 3), {}, "found 4 by position"),
        ((1,), {"x": 2}, "found 'x' twice"),
        ((1,), {"y": 2}, "found 'y'; what was left out when it was compiled stays as it was then"),
        ((1, {"a": 2, "k": 3}, 2), {"mask": 3}, "scale is 2: the network was compiled for 2.0"),
        ((1, {"a": 2}), {"mask": 3}, "batch is a dict with the keys 'a': give a dict ("),
        ((1, (2, 3)), {"mask": 3}, "batch is a tuple of 2: give a dict ("),
        ((1, {"a": 2, "k": None}), {"mask": 3}, "batch['k'] is None: the network was compiled"),
    ],
)  # fmt: skip
def test_calls_that_do_not_fit_are_refused(given, named, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the text is compared as it is)
        bind(TAKES, given, named, "net")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("shapes", "kwargs", "message"),
    [
        ([X], {}, "missing a required argument: 'batch': forward(x, batch, mask=None, scale=2.0,"),
        ([X, BATCH], {"foo": (1,)}, "got an unexpected keyword argument 'foo': forward(x, batch,"),
        ([X, BATCH], {"x": (1,)}, "multiple values for argument 'x': forward(x, batch, mask="),
        ([X, BATCH, X, X, X], {}, "too many positional arguments: forward(x, batch, mask=None"),
        ([1, 3, 8, 8], {}, "the shape 1: give each input a tuple of whole numbers of 1 or more"),
        ([(1, 3, 2.5, 4)], {}, "the shape (1, 3, 2.5, 4): give each input a tuple of whole numb"),
        ([X, {"bias": (1,), "parts": object()}], {}, "an input is given as an object: give"),
        ([], {}, "no input shape: give one such as (1, 3, 224, 224) for each input"),
    ],
)  # fmt: skip
def test_shapes_that_forward_does_not_take_are_refused(shapes, kwargs, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the text is compared as it is)
        dw.cost(Mixed(), *shapes, kwargs=kwargs)
    assert message in str(raised.value)


def test_shapes_on_the_command_line_have_names():
    assert parse_shapes(["1,3,8,8", "mask=1,1,8,8"]) == (((1, 3, 8, 8),), {"mask": (1, 1, 8, 8)})
    assert parse_shapes(["input.1=2"]) == ((), {"input.1": (2,)})
    assert parse_shapes(["ids=1,9:int64"]) == ((), {"ids": TensorType((1, 9), "int64")})
    for texts, message in (
        (["=1,2"], "--shape =1,2: no name before the ="),
        (["x=1", "x=2"], "--shape x=2: x has a shape already"),
        (["x=1,a"], "--shape x=1,a: expected whole numbers"),
        (["1,2:int63"], "--shape 1,2:int63: .*'int63'"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_shapes(texts)


# ------------------------------------------------------------------------------- other formats


def test_onnx_and_saved_graphs_keep_names_and_structure(tmp_path):
    net, _, _, _ = mixed_arguments()
    source = dw.open(net, X, BATCH, kwargs=NAMED)
    dw.save_graph(source.graph, tmp_path / "net.safetensors")
    assert dw.open_graph(tmp_path / "net.safetensors").signature == source.graph.signature
    dw.export_onnx(Returning([1, 2]), tmp_path / "net.onnx", X)
    graph = onnx.load(tmp_path / "net.onnx").graph
    names = [output.name for output in capture(Returning([1, 2]), X).outputs]
    assert [output.name for output in graph.output] == names
    with pytest.raises(ValueError, match="the model has no input 'y'; its inputs are: x"):
        dw.open(tmp_path / "net.onnx", kwargs={"y": X})
    assert dw.open(tmp_path / "net.onnx", kwargs={"x": X}).shapes == (X,)


def test_a_classifier_whose_scores_lie_in_a_dict_names_photographs(tmp_path):
    class Classifier(nn.Module):
        def forward(self, x):
            return {"scores": x.mean((2, 3)), "name": "classifier"}

    dw.compile(Classifier(), (1, 3, 8, 8), labels=("r", "g", "b")).save(tmp_path / "out")
    found = classifier_of_library(dw.load(tmp_path / "out"), tmp_path / "out")
    image = np.ones((1, 3, 8, 8), np.float32) * np.array([0, 9, 1], np.float32).reshape(1, 3, 1, 1)
    assert found.classes[found.scores(image)[0].argmax()] == "g"
