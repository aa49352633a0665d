"""A graph saved and opened is the same graph; a file that holds anything else is refused."""

import json
from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
import torch
from operator_cases import CASES, LAYERS, Function
from random_graphs import draw_graph, draw_views
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from depthwise.graph import (
    Constant,
    Graph,
    Node,
    Output,
    TensorType,
    capture,
    check,
    ops,
    show,
    trace,
)
from depthwise.graph.serialize import KEY, OPERATORS, open_graph, save_graph
from depthwise.graph.typed_json import decode, encode, load


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.fixture
def graph() -> Graph:
    return capture(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), (1, 3, 5, 5))


def reopened(graph: Graph, path) -> Graph:
    save_graph(graph, path)
    return open_graph(path)


def assert_same(ours: Graph, other: Graph) -> None:
    assert list(ours.inputs.items()) == list(other.inputs.items())
    assert (ours.nodes, ours.outputs) == (other.nodes, other.outputs)
    assert list(ours.constants) == list(other.constants)
    for name, constant in ours.constants.items():
        found = other.constants[name]
        assert replace(constant, data=None).__dict__ == replace(found, data=None).__dict__
        assert (constant.data is None) == (found.data is None)
        if constant.data is not None:
            assert (constant.data.dtype, constant.data.shape) == (
                found.data.dtype,
                found.data.shape,
            )
            assert constant.data.tobytes() == found.data.tobytes()


@pytest.mark.parametrize("name", [*CASES, *LAYERS])
def test_every_operator_comes_back(name, path):
    net, shapes = {**CASES, **LAYERS}[name]
    graph = capture(net.eval(), *shapes)
    assert_same(graph, reopened(graph, path))


def test_numbers_of_halves_come_back_exact(path):
    net = Function(lambda x: x * 0.1)
    graph = capture(torch.export.export(net, (torch.ones(1, 2, dtype=torch.half),)))
    assert [c.exact for c in graph.constants.values()] == [0.1]
    assert_same(graph, reopened(graph, path))


def test_the_cases_hold_every_operator():
    graphs = [capture(net.eval(), *shapes) for net, shapes in CASES.values()]
    found = {type(node.op).__name__ for graph in graphs for node in graph}
    drawn = {type(node.op).__name__ for seed in range(60) for node in draw_graph(seed).graph}
    conversions = {"Cast", "Quantize", "Dequantize"}  # they are in the test of types below
    assert found | drawn >= set(OPERATORS) - conversions - {"Opaque", "LocalResponseNorm"}


def test_other_types_come_back(path):
    constants = {
        "weight": Constant(
            TensorType((2, 3), "bfloat16"), np.arange(6, dtype=np.uint16).reshape(2, 3)
        ),
        "scale": Constant(TensorType(()), np.array(0.5, np.float32)),
        "zero": Constant(TensorType((), "int8"), np.array(-3, np.int8)),
    }
    x = TensorType((1, 3), "bfloat16")
    nodes = (
        Node("y", ops.Linear(), ("x", "weight"), TensorType((1, 2), "bfloat16"), ""),
        Node("f", ops.Cast("float32"), ("y",), TensorType((1, 2)), ""),
        Node("q", ops.Quantize("int8"), ("f", "scale", "zero"), TensorType((1, 2), "int8"), ""),
        Node("r", ops.Dequantize("float32"), ("q", "scale", "zero"), TensorType((1, 2)), ""),
    )
    graph = check(Graph({"x": x}, constants, nodes, (Output("", "r"),)))
    assert_same(graph, reopened(graph, path))


@pytest.mark.parametrize("draw", [draw_graph, draw_views])
def test_random_graphs_come_back(draw, path):
    for seed in range(25):
        graph = draw(seed).graph
        assert_same(graph, reopened(graph, path))


def test_numbers_that_json_has_not_come_back(path):
    x = TensorType((1, 4))
    nodes = (
        Node("a", ops.Activation("clamp", (-inf, 0.1 + 0.2)), ("x",), x, "one.two"),
        Node("b", ops.Pad(((0, 0), (1, 0)), "constant", nan), ("a",), TensorType((1, 5)), ""),
        Node("c", ops.Pad(((0, 0), (1, 0)), "constant", -inf), ("a",), TensorType((1, 5)), ""),
    )
    outputs = (Output("left", "b"), Output("right", "c"))
    found = reopened(Graph({"x": x}, {}, nodes, outputs), path).nodes
    assert found[0] == nodes[0]
    assert np.isnan(found[1].op.value)
    assert found[2] == nodes[2]


def test_types_sources_and_names_come_back(path):
    data = np.arange(6, dtype=np.int64).reshape(2, 3)
    constants = {
        "α.weight": Constant(TensorType((3, 2), "int64"), data.T, True, ("α", "β")),
        "half": Constant(TensorType((), "float16"), np.array(0.5, np.float16)),
        "nothing": Constant(TensorType((0, 2)), np.zeros((0, 2), np.float32)),
        "flags": Constant(TensorType((2,), "bool"), np.array([True, False])),
        "unknown": Constant(TensorType((7,), "bfloat16"), None, True),
    }
    graph = Graph({}, constants, (), (Output("", "half"),))
    assert_same(graph, reopened(graph, path))


def test_a_network_without_memory_comes_back(path):
    with torch.device("meta"):
        net = nn.Conv2d(3, 4, 3)
    graph = trace(net, (1, 3, 8, 8))
    found = reopened(graph, path)
    assert_same(graph, found)
    assert found.constants["weight"].data is None


def test_an_operator_that_is_not_known_comes_back(path):
    node = Node("y", ops.Opaque("aten.sort.default"), ("x",), TensorType((2,)), "top")
    graph = Graph({"x": TensorType((2,))}, {}, (node,), (Output("", "y"),))
    assert_same(graph, reopened(graph, path))


def test_the_text_of_a_graph_is_what_show_says(graph):
    assert str(graph) == show(graph)
    assert f"{graph}".startswith("input   1x3x5x5  input\n")


def test_the_weights_are_those_of_a_checkpoint(graph, path):
    save_graph(graph, path)
    with safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == {"0.weight", "0.bias"}
        document = json.loads(file.metadata()[KEY])
    assert document["format"] == 1
    assert document["nodes"][0] == {
        "name": "conv2d", "operator": "Conv2d", "inputs": ["input", "0.weight", "0.bias"],
        "type": {"shape": [1, 4, 5, 5], "dtype": "float32"}, "path": "0",
        "attributes": {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1},
    }  # fmt: skip


# ---------------------------------------------------------------------- what is not written


def test_another_suffix_is_refused(graph, tmp_path):
    with pytest.raises(ValueError, match=r"a str is no graph: give dw.open\(...\).graph"):
        save_graph("net.onnx", tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"net.graph: a graph is saved to a file that ends in .sa"):
        save_graph(graph, tmp_path / "net.graph")
    assert not list(tmp_path.iterdir())


def test_a_constant_of_a_reserved_name_is_refused(path):
    constants = {"__metadata__": Constant(TensorType((1,)), np.zeros(1, np.float32))}
    with pytest.raises(ValueError, match="a constant is named __metadata__"):
        save_graph(Graph({}, constants, (), ()), path)
    assert not path.exists()


def test_what_was_there_stays_where_writing_fails(graph, path, monkeypatch):
    save_graph(graph, path)
    before = path.read_bytes()

    def fail(_tensors, file, _metadata):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("depthwise.graph.serialize.save_file", fail)
    with pytest.raises(OSError, match="No space"):
        save_graph(graph, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# ----------------------------------------------------------------------- what is not opened


def changed(path, change, tensors=None) -> None:
    """Write the file again, after `change` of its document and with other tensors."""
    with safe_open(path, framework="numpy") as file:
        document = json.loads(file.metadata()[KEY])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(document)
    save_file(held if tensors is None else tensors(held), path, {KEY: json.dumps(document)})


def setting(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(document):
        for key in keys:
            document = document[key]
        document[last] = value

    return change


NODE = r"nodes\[0\], 'conv2d': Conv2d"

MALFORMED = {
    "another version": (
        setting("format", 2), r"format 2, written by depthwise 0.1.0: this version reads format 1",
    ),
    "no version": (lambda d: d.pop("format"), "format None"),
    "no nodes": (lambda d: d.pop("nodes"), "no list of nodes"),
    "a text as a list": (setting("nodes", "all"), "no list of nodes"),
    "an unknown operator": (
        setting("nodes", 0, "operator", "Exec"), r"nodes\[0\], 'conv2d': the operator 'Exec' is no",
    ),
    "an attribute too many": (
        setting("nodes", 0, "attributes", "code", "x"), f"{NODE}: Conv2d has no 'code': it has str",
    ),
    "an attribute too few": (
        lambda d: d["nodes"][0]["attributes"].pop("groups"), f"{NODE}: Conv2d needs 'groups'",
    ),
    "a text as a number": (
        setting("nodes", 0, "attributes", "groups", "1"), rf'{NODE}.groups is "1": a whole number',
    ),
    "true as a number": (
        setting("nodes", 0, "attributes", "groups", True), f"{NODE}.groups is true: a whole",
    ),
    "a pair of three": (
        setting("nodes", 0, "attributes", "stride", [1, 1, 1]), rf"{NODE}.stride is .*: a list of",
    ),
    "a padding of two": (
        setting("nodes", 0, "attributes", "padding", [1, 1]), rf"{NODE}.padding is .*: a list of 4",
    ),
    "a stride of nothing": (
        setting("nodes", 0, "attributes", "stride", [0, 1]), r"conv2d at 0: stride=\(0, 1\): 1 or",
    ),
    "a stride to the left": (
        setting("nodes", 0, "attributes", "stride", [-1, 1]), r"conv2d at 0: stride=\(-1, 1\): 1",
    ),
    "an unknown function": (
        setting("nodes", 1, "attributes", "function", "eval"),
        r"nodes\[1\], 'relu': Activation.function is \"eval\": one of relu, relu6",
    ),
    "parameters too many": (
        setting("nodes", 1, "attributes", "parameters", [1]), r"relu at 1: parameters=\(1.0,\): 0",
    ),
    "inputs too many": (
        setting("nodes", 1, "inputs", ["conv2d", "conv2d"]), "relu at 1: Activation does not take",
    ),
    "a shape that does not follow": (
        setting("nodes", 1, "type", "shape", [1, 4, 5, 6]), "relu at 1: .* gives",
    ),
    "a negative shape": (
        setting("inputs", 0, "type", "shape", [1, 3, -5, -5]), r"inputs\[0\].*\(1, 3, -5, -5\)",
    ),
    "an unknown type": (
        setting("inputs", 0, "type", "dtype", "float33"), r"inputs\[0\].type: element type 'flo",
    ),
    "two inputs of one name": (
        lambda d: d["inputs"].append(d["inputs"][0]), "two values are named 'input'",
    ),
    "two nodes of one name": (setting("nodes", 1, "name", "conv2d"), "two values are named conv2d"),
    "a circle": (
        setting("nodes", 0, "inputs", ["relu", "0.weight", "0.bias"]),
        "conv2d reads relu, which is not computed before it",
    ),
    "an output of nothing": (setting("outputs", 0, "value", "y"), "output '' is y, which is not"),
    "two outputs of one name": (
        lambda d: d["outputs"].append(d["outputs"][0]), "two outputs are named ''",
    ),
    "another constant's shape": (
        setting("constants", 1, "type", "shape", [5]), r"'0.bias' is 5, its tensor 4",
    ),
    "another constant's type": (
        setting("constants", 1, "type", "dtype", "int32"), "'0.bias' is 4 int32, its tensor 4",
    ),
    "a constant that is not stored": (
        setting("constants", 1, "stored", False), "tensor '0.bias' belongs to no constant",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_graph_is_refused(case, graph, path):
    change, message = MALFORMED[case]
    save_graph(graph, path)
    changed(path, change)
    with pytest.raises(ValueError, match=f"net.safetensors: .*{message}"):
        open_graph(path)


def test_a_missing_tensor_is_refused(graph, path):
    save_graph(graph, path)
    changed(path, lambda _: None, lambda held: {"0.bias": held["0.bias"]})
    with pytest.raises(ValueError, match=r"constant '0.weight' has no tensor in the file"):
        open_graph(path)


def test_a_truncated_file_is_refused(graph, path):
    save_graph(graph, path)
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(
            ValueError, match=r"net.safetensors is no .safetensors file, or a trunc"
        ):
            open_graph(path)


def test_a_checkpoint_is_no_graph(path):
    save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(ValueError, match="there are tensors in it, and no graph"):
        open_graph(path)


def test_a_missing_file_is_named(path):
    with pytest.raises(ValueError, match=r"no file at .*net.safetensors"):
        open_graph(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[1]", "format None"),
        ('{"format": 1, "format": 1}', "the key 'format' stands twice"),
        ('{"format": true}', "format True, written by"),
        ('{"format": 1.0}', r"format 1\.0, written by"),
        ('{"format": NaN}', "NaN is no number of JSON"),
        ("[" * 100_000 + "]" * 100_000, "lists within lists without end"),
        ('{"format": ' + "9" * 5000 + "}", "limit"),
    ],
)
def test_a_text_that_is_no_graph_is_refused(text, message, path):
    save_file({}, path, {KEY: text})
    with pytest.raises(ValueError, match=message):
        open_graph(path)


# ------------------------------------------------------------------------ values by their hints


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 3), (float, 2.5), (float, inf), (float, -inf), (bool, True), (str, "x"),
        (int | None, None), (int | None, 4), (tuple[int, ...], ()), (tuple[int, ...], (1, 2, 3)),
        (tuple[int, float], (1, 0.5)), (ops.Padding, ops.Padding(0, 1, 2, 3)),
        (ops.PadMode, "reflect"), (ops.Softmax, ops.Softmax(1)),
        (tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
    ],
)  # fmt: skip
def test_values_come_back_by_their_hints(hint, value):
    found = decode(hint, load(json.dumps(encode(value), allow_nan=False)), "here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("hint", "value", "accepted"),
    [
        (int, 1.0, "a whole number"), (int, None, "a whole number"), (float, "1", "a number"),
        (float, True, "a number"), (float, 10**400, "a number"), (bool, 1, "true or false"),
        (str, 1, "a text"),
        (int | None, "", "a whole number"), (tuple[int, ...], "12", "a list"),
        (ops.Padding, {"top": 1}, "a list"), (ops.Softmax, [1], "the attributes of Softmax"),
        (ops.PadMode, "zeros", "one of constant, reflect"), (ops.PadMode, [], "one of constant"),
    ],
)  # fmt: skip
def test_values_of_other_types_are_refused(hint, value, accepted):
    with pytest.raises(ValueError, match=f"here.* is .*: {accepted}"):
        decode(hint, value, "here")


def test_a_whole_number_is_a_number():
    found = decode(tuple[float, ...], [0, 6], "here")
    assert found == (0.0, 6.0)
    assert {type(number) for number in found} == {float}


def test_numpy_numbers_are_written_as_numbers():
    assert encode((np.int64(3), np.float32(0.5), np.bool_(True))) == [3, 0.5, True]
