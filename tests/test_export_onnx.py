"""Networks written as ONNX: sound by onnx.checker, equal in ONNX Runtime, with readable names."""

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from operator_cases import CASES, LAYERS, Function
from random_graphs import draw_graph, draw_views
from torch import nn
from torch.utils._pytree import tree_flatten

import depthwise as dw
from depthwise.cli import main
from depthwise.errors import Unsupported
from depthwise.families import find_network, list_models
from depthwise.graph import (
    Constant,
    Graph,
    Node,
    Output,
    TensorType,
    capture,
    check,
    export,
    interpret,
    ops,
    save_graph,
)
from depthwise.graph.attributes import PARAMETERS
from depthwise.graph.exporters.onnx import file
from depthwise.graph.exporters.onnx.convert import write
from depthwise.graph.frontends.onnx import read_onnx
from depthwise.sources.exporting import export_onnx

TOLERANCE = 1e-5  # of the largest output


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "net.onnx"


def run(path: Path, *inputs: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def draw(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal(shape, np.float32) for shape in shapes]


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for y, wanted in zip(found, expected, strict=True):
        assert (y.shape, y.dtype) == (wanted.shape, wanted.dtype)
        exact = wanted.astype(float)
        largest = np.abs(exact).max(initial=0)
        assert np.abs(y - exact).max(initial=0) <= TOLERANCE * (largest or 1)


def assert_equal_to_the_interpreter(graph: Graph, inputs, path: Path) -> None:
    export_onnx(graph, path)
    values = interpret(graph, *inputs)
    assert_equal(run(path, *inputs), [values[output.value] for output in graph.outputs])


def graph_of(path: Path) -> onnx.GraphProto:
    return onnx.load(path).graph


def operators(path: Path) -> list[str]:
    return [node.op_type for node in graph_of(path).node]


# ---------------------------------------------------------------------------- every operator


def test_every_operator_has_a_rule():
    assert set(get_args(ops.Op)) <= set(write.registry)


def test_every_function_of_elements_is_equal(path):
    for function in get_args(ops.Function):
        op = ops.Activation(function, (0.5, 2.0)[: PARAMETERS.get(function, 0)])
        (x,) = draw((3, 4))
        positive = np.abs(x) + (function == "acosh")  # which all have a logarithm and a root
        inside = np.minimum(positive, 0.9) if function in ("asin", "acos", "atanh") else positive
        assert_equal_to_the_interpreter(one_operator(op, (3, 4), out=(3, 4)), [inside], path)


def test_functions_of_two_are_equal_for_every_sign_and_zero(path):
    numbers = [-7.5, -3.0, -2.0, -0.5, -0.0, 0.0, 0.3, 2.0, 3.0, 6.0, 1e-20, -1e20]
    a, b = np.meshgrid(np.array(numbers, np.float32), np.array(numbers, np.float32))
    for function in ("remainder", "fmod", "floor_divide", "arctan2", "hypot", "power"):
        x = np.abs(a) if function == "power" else a
        graph = one_operator(ops.Binary(function), x.shape, x.shape, out=x.shape)
        export_onnx(graph, path)
        with np.errstate(all="ignore"):
            expected = interpret(graph, x, b)["y"]
        np.testing.assert_allclose(run(path, x, b)[0], expected, 1e-6, err_msg=function)


def test_functions_near_zero_are_as_exact_as_they_are(path):
    x = np.array([1e-7, -1e-7, 1e-3, -0.3, 0.45, 0.55, 3.0, 80.0], np.float32)
    for function in ("log1p", "expm1"):
        graph = one_operator(ops.Activation(function), x.shape, out=x.shape)
        export_onnx(graph, path)
        np.testing.assert_allclose(run(path, x)[0], interpret(graph, x)["y"], 1e-6)


WITHOUT_FORM = {"lstm that projects": "an LSTM with projections has no form in ONNX"}
WRITTEN = [name for name in CASES if name not in WITHOUT_FORM]


@pytest.mark.parametrize("name", WITHOUT_FORM)
def test_what_has_no_form_is_refused(name, path):
    net, shapes = CASES[name]
    with pytest.raises(Unsupported, match=WITHOUT_FORM[name]):
        export_onnx(capture(net.eval(), *shapes), path)
    assert not path.exists()


def test_a_cell_that_is_read_at_every_step_is_refused(path):
    class Cells(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 4)

        def forward(self, x):
            return self.lstm(x)[0]

    graph = capture(Cells(), (3, 2, 5))
    recurrent = next(node for node in graph if isinstance(node.op, ops.Recurrent))
    export_onnx(graph, path)
    whole = replace(graph, outputs=(Output("", recurrent.name),))
    with pytest.raises(Unsupported, match="the cell's last state alone, and earlier ones are read"):
        export_onnx(whole, path)


@pytest.mark.parametrize("name", [*WRITTEN, *LAYERS])
def test_operators_are_equal_in_onnx_runtime(name, path):
    torch.manual_seed(0)
    net, shapes = {**CASES, **LAYERS}[name]
    assert_equal_to_the_interpreter(capture(net.eval(), *shapes), draw(*shapes), path)


# of which ONNX cannot say every one
FORMLESS = ("MaxUnpool2d", "the cell's last state alone", "an LSTM with projections")


def hold_random_graphs(drawn_by, seeds: range, path):
    formless = 0
    for seed in seeds:
        drawn = drawn_by(seed)
        if not drawn.graph.outputs:
            continue
        try:
            assert_equal_to_the_interpreter(drawn.graph, drawn.inputs, path)
        except Unsupported as reason:
            if not any(known in str(reason) for known in FORMLESS):
                raise
            formless += 1
    assert formless <= len(seeds) / 10


@pytest.mark.parametrize("drawn_by", [draw_graph, draw_views])
def test_random_graphs_are_equal_in_onnx_runtime(drawn_by, path):
    hold_random_graphs(drawn_by, range(25), path)


@pytest.mark.slow
@pytest.mark.parametrize("drawn_by", [draw_graph, draw_views])
def test_many_random_graphs_are_equal_in_onnx_runtime(drawn_by, path):
    hold_random_graphs(drawn_by, range(25, 1000), path)


def one_operator(op: ops.Op, *shapes: tuple[int, ...], out: tuple[int, ...]) -> Graph:
    inputs = {f"x{i}": TensorType(shape) for i, shape in enumerate(shapes)}
    node = Node("y", op, tuple(inputs), TensorType(out), "")
    return Graph(inputs, {}, (node,), (Output("", "y"),))


RARE = {
    "more output_padding than a stride": one_operator(
        ops.ConvTranspose2d((1, 1), ops.Padding(0, -1, 0, -2), (2, 2), 1),
        (1, 2, 4, 4), (2, 3, 3, 3), (3,), out=(1, 3, 9, 10),
    ),
    "a window that hangs over by more than itself": one_operator(
        ops.MaxPool2d((2, 2), (3, 3), ops.Padding(0, 0, 0, 0), (4, 4), True),
        (1, 2, 6, 6), out=(1, 2, 2, 2),
    ),
    "windows that count the padding, not what hangs over": one_operator(
        ops.AvgPool2d((3, 3), (2, 2), ops.Padding(1, 1, 1, 1), True, True, None),
        (1, 2, 6, 6), out=(1, 2, 4, 4),
    ),
    "nearest pixels that no scale gives": one_operator(
        ops.Resize("nearest", (9, 7), (0.7, 0.9)), (1, 2, 6, 6), out=(1, 2, 9, 7),
    ),
    "bilinear steps that no scale gives": one_operator(
        ops.Resize("bilinear", (9, 7), (0.5, 0.9)), (1, 2, 6, 6), out=(1, 2, 9, 7),
    ),
    "an even window over channels": one_operator(
        ops.LocalResponseNorm(4, 0.7, 0.75, 2.0), (2, 7, 3, 3), out=(2, 7, 3, 3),
    ),
    "an odd window over channels": one_operator(
        ops.LocalResponseNorm(5, 0.7, 0.75, 2.0), (2, 7, 3, 3), out=(2, 7, 3, 3),
    ),
    "no axes": one_operator(ops.Reduce("sum", (), False), (2, 3), out=(2, 3)),
    "bins of several sizes": one_operator(
        ops.AdaptivePool2d("max", (4, 5)), (1, 2, 6, 7), out=(1, 2, 4, 5),
    ),
    "an image cut and padded": one_operator(
        ops.Pad(((0, 0), (0, 0), (-1, 3), (2, -4)), "circular"),
        (1, 2, 6, 7), out=(1, 2, 8, 5),
    ),
}  # fmt: skip


def integers() -> Graph:
    """Return a graph that quantises for each channel, pools the integers and returns from them."""
    x, q = TensorType((1, 3, 6, 6)), TensorType((1, 3, 6, 6), "int8")
    pooled = replace(q, shape=(1, 3, 2, 2))
    constants = {
        "scale": Constant(TensorType((3,)), np.array([0.01, 0.02, 0.05], np.float32)),
        "zero": Constant(TensorType((3,), "int8"), np.array([0, -3, 5], np.int8)),
    }
    pool = ops.MaxPool2d((2, 2), (3, 3), ops.Padding(0, 0, 0, 0), (4, 4), True)
    nodes = (
        Node("q", ops.Quantize("int8", 1), ("x", "scale", "zero"), q, ""),
        Node("p", pool, ("q",), pooled, ""),
        Node(
            "y",
            ops.Dequantize("float32", 1),
            ("p", "scale", "zero"),
            replace(pooled, dtype="float32"),
            "",
        ),
        Node("i", ops.Cast("int32"), ("p",), replace(pooled, dtype="int32"), ""),
        Node(
            "c", ops.Activation("clamp", (-20.0, inf)), ("i",), replace(pooled, dtype="int32"), ""
        ),
    )
    return check(Graph({"x": x}, constants, nodes, (Output("y", "y"), Output("c", "c"))))


WHOLE = {"uint8": (0, 256), "int8": (-128, 128), "int16": (-90, 90), "int64": (-99, 99)}


def small_integers(a, b):
    """What ONNX Runtime computes of narrow integers in int32 alone."""
    c = torch.where(b == 0, 1, b).to(b.dtype)
    return (
        a + b, a - 3, a * b, -a, a.abs(), a // c, a % c, a > b, a == b, a.clamp(1, 9), a.relu(),
        a.argmax(1), a.min(2), a.sum(1), a.sort(dim=1, stable=True), torch.where(a > b, a, b),
        nn.functional.pad(a, (1, 0)), a.float() / 255, a.flip(1).cummax(1)[0],
        torch.maximum(a, b),
    )  # fmt: skip


def booleans(a, b):
    a, b = a > 3, b > 0
    return (a.max(1), a.int().argmax(1), a <= b, a + b, a == b, torch.where(a, b, ~a), a.any(1),
            a.cumsum(1))  # fmt: skip


@pytest.mark.parametrize("dtype", WHOLE)
def test_narrow_integers_are_equal_in_onnx_runtime(dtype, path):
    inputs = [np.random.default_rng(i).integers(*WHOLE[dtype], (2, 3, 4)).astype(dtype)
              for i in range(2)]  # fmt: skip
    net = Function(lambda a, b: (small_integers(a, b), booleans(a, b)))
    export_onnx(net, path, *(TensorType(x.shape, dtype) for x in inputs))
    expected = tree_flatten(net(*map(torch.from_numpy, inputs)))[0]
    for found, wanted in zip(run(path, *inputs), expected, strict=True):
        np.testing.assert_array_equal(found, wanted.numpy(), strict=True)


def test_integers_are_equal_in_onnx_runtime(path):
    assert_equal_to_the_interpreter(integers(), draw((1, 3, 6, 6)), path)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_scales_along_an_axis_are_equal_in_onnx_runtime(axis, path):
    x = TensorType((3, 2))
    q, count = replace(x, dtype="uint8"), 1 if axis is None else x.shape[axis]
    constants = {
        "scale": Constant(TensorType((count,)), np.array([0.01, 0.3, 0.05], np.float32)[:count]),
        "zero": Constant(TensorType((count,), "uint8"), np.array([9, 100, 128], np.uint8)[:count]),
    }
    nodes = (
        Node("q", ops.Quantize("uint8", axis), ("x", "scale", "zero"), q, ""),
        Node("y", ops.Dequantize("float32", axis), ("q", "scale", "zero"), x, ""),
    )
    graph = check(Graph({"x": x}, constants, nodes, (Output("", "y"),)))
    assert_equal_to_the_interpreter(graph, draw((3, 2)), path)


def test_bfloat16_is_written_as_its_bits(path):
    bits = np.array([0x3F80, 0xC000], np.uint16)  # 1 and -2
    constants = {"weight": Constant(TensorType((2,), "bfloat16"), bits)}
    node = Node("y", ops.Cast("float32"), ("weight",), TensorType((2,)), "")
    export_onnx(Graph({"x": TensorType((1,))}, constants, (node,), (Output("", "y"),)), path)
    assert graph_of(path).initializer[0].data_type == onnx.TensorProto.BFLOAT16
    assert np.array_equal(run(path, np.zeros(1, np.float32))[0], [1, -2])


@pytest.mark.parametrize("name", RARE)
def test_what_onnx_says_otherwise_is_equal(name, path):
    graph = RARE[name]
    inputs = draw(*(type_.shape for type_ in graph.inputs.values()))
    assert_equal_to_the_interpreter(graph, inputs, path)


def test_local_response_norm_is_one_operator(path):
    export_onnx(nn.LocalResponseNorm(5), path, (1, 8, 4, 4))
    assert operators(path) == ["LRN"]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_read_again(name, path):
    torch.manual_seed(0)
    net, shapes = CASES[name]
    graph = capture(net.eval(), *shapes)
    export_onnx(graph, path)
    again, inputs = read_onnx(path), draw(*shapes)
    assert list(again.inputs.items()) == list(graph.inputs.items())
    expected, found = interpret(graph, *inputs), interpret(again, *inputs)
    assert_equal(
        [found[o.value] for o in again.outputs], [expected[o.value] for o in graph.outputs]
    )


def test_a_network_comes_back_as_it_was(path):
    graph = capture(dw.create_model("ghostnet", num_classes=3).eval(), (1, 3, 64, 64))
    export_onnx(graph, path)
    again = read_onnx(path)
    expected = [(type(node.op), node.path, node.type) for node in graph]
    assert [(type(node.op), node.path, node.type) for node in again] == expected
    assert set(again.constants) == set(graph.constants)


# --------------------------------------------------------------------------------- networks


def assert_equal_to_pytorch(name: str, pixels: int, path: Path) -> None:
    torch.manual_seed(0)
    net = find_network(name).construct().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data.uniform_(0.8, 1.2)
    shape = (1, 3, pixels, pixels)
    dw.export_onnx(net, path, shape)
    (x,) = draw(shape)
    with torch.no_grad():
        assert_equal(run(path, x), [net(torch.from_numpy(x)).numpy()])


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "ghostnet", "googlenet"])
def test_networks_are_equal_in_onnx_runtime(name, path):
    assert_equal_to_pytorch(name, 64, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_network_is_equal_in_onnx_runtime(name, path):
    assert_equal_to_pytorch(name, find_network(name).resolution, path)


def test_names_are_those_of_modules_and_of_the_state_dict(path):
    net = dw.create_model("mobilenet_v2", num_classes=3)
    export_onnx(net, path, (1, 3, 64, 64))
    graph = graph_of(path)
    weights = {name for name in net.state_dict() if not name.endswith("num_batches_tracked")}
    names = {node.name for node in graph.node}
    assert weights <= {tensor.name for tensor in graph.initializer}
    assert {"stem.conv", "blocks.3.expand.conv", "blocks.4.add", "head.1"} <= names
    assert [value.name for value in graph.input] == ["x"]
    assert [value.name for value in graph.output] == ["output"]
    paths = {name for name, _ in net.named_modules()}
    assert {name.split("/")[0].rpartition(".")[0] for name in names} <= paths


def test_the_types_of_all_values_of_the_network_are_noted(path):
    net = nn.Sequential(nn.Conv2d(6, 4, 3), nn.SiLU(), nn.Flatten()).eval()  # SiLU becomes two
    graph = capture(net, (2, 6, 9, 11))
    export_onnx(graph, path)
    noted = graph_of(path)
    shapes = [
        tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*noted.value_info, *noted.output)
    ]
    assert sorted(shapes) == sorted(node.type.shape for node in graph)


# ------------------------------------------------------------------------ inputs and outputs


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x.relu(), ["output"]),
        (lambda x: (x.relu(), x.tanh()), ["0", "1"]),
        (lambda x: {"low": x.relu(), "high": x.tanh()}, ["low", "high"]),
        (lambda x: {"x": x.relu(), "output": x}, ["x", "output"]),
        (lambda x: [x, x], ["0", "1"]),
    ],
    ids=["one", "two", "named", "an input", "one twice"],
)
def test_outputs_are_those_of_the_network(function, names, path):
    graph = capture(Function(function), (1, 3, 4, 4))
    assert_equal_to_the_interpreter(graph, draw((1, 3, 4, 4)), path)
    assert [value.name for value in graph_of(path).output] == names


def test_an_output_that_has_the_name_of_an_input_is_numbered(path):
    node = Node("y", ops.Activation("relu"), ("x",), TensorType((2,)), "")
    graph = Graph({"x": TensorType((2,))}, {}, (node,), (Output("x", "y"), Output("", "x")))
    assert_equal_to_the_interpreter(graph, draw((2,)), path)
    assert [value.name for value in graph_of(path).output] == ["x.1", "output"]


def test_a_constant_can_be_an_output(path):
    constants = {"weight": Constant(TensorType((2,)), np.array([1, 2], np.float32))}
    graph = Graph({"x": TensorType((1,))}, constants, (), (Output("", "weight"),))
    assert_equal_to_the_interpreter(graph, draw((1,)), path)


def test_names_that_are_no_text_are_written_as_numbers(path):
    node = Node("y", ops.Activation("relu"), ("x",), TensorType((2,)), "half \ud800")
    graph = Graph({"x": TensorType((2,))}, {}, (node,), (Output("", "y"),))
    export_onnx(graph, path)
    assert [node.name for node in graph_of(path).node] == ["half \\ud800"]


# ------------------------------------------------------------------------------------- files


def test_every_form_of_a_network_gives_the_same_file(tmp_path):
    shape = (1, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU()).eval()
    program = export(net, [shape])
    torch.export.save(program, tmp_path / "net.pt2")
    save_graph(capture(net, shape), tmp_path / "net.safetensors")
    path = tmp_path / "net.onnx"
    export_onnx(net, path, shape)
    expected = path.read_bytes()
    given = [program, capture(program), tmp_path / "net.pt2", str(tmp_path / "net.safetensors")]
    for form in given:
        path.unlink()
        export_onnx(form, path)
        assert path.read_bytes() == expected
    with pytest.raises(ValueError, match=r"net.txt: no front end reads such a file"):
        export_onnx(tmp_path / "net.txt", path)
    with pytest.raises(ValueError, match=r"this graph is for inputs of \(\(1, 3, 8, 8\),\)"):
        export_onnx(given[1], path, (1, 3, 9, 9))


def test_tensors_that_do_not_fit_lie_in_a_file_beside(path, monkeypatch):
    monkeypatch.setattr(file, "LARGEST", 100)
    graph = capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), (1, 3, 8, 8))
    for _ in range(2):  # the second time both are replaced
        assert_equal_to_the_interpreter(graph, draw((1, 3, 8, 8)), path)
        assert sorted(entry.name for entry in path.parent.iterdir()) == [
            "net.onnx",
            "net.onnx.data",
        ]
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        places = {entry.key: entry.value for entry in tensor.external_data}
        assert places["location"] == "net.onnx.data"
        assert int(places["offset"]) % file.ALIGNMENT == 0
    assert path.stat().st_size < 2000


def test_no_model_is_left_with_the_tensors_of_another(path, monkeypatch):
    monkeypatch.setattr(file, "LARGEST", 100)
    export_onnx(nn.Conv2d(3, 4, 3), path, (1, 3, 8, 8))
    replace = Path.replace

    def fail_at_the_model(self, target):
        if target == path:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_model)
    with pytest.raises(OSError, match="Input/output"):
        export_onnx(nn.Conv2d(3, 4, 3), path, (1, 3, 8, 8))
    assert not path.exists()


def test_what_was_there_stays_where_the_checker_objects(path, monkeypatch):
    path.write_bytes(b"before")
    monkeypatch.setattr(file, "IR_VERSION", 1000)
    with pytest.raises(onnx.checker.ValidationError):
        export_onnx(nn.ReLU(), path, (1, 3, 8, 8))
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


def test_the_model_says_who_wrote_it(path):
    export_onnx(nn.ReLU(), path, (1, 3, 8, 8))
    model = onnx.load(path)
    assert (model.producer_name, model.producer_version) == ("depthwise", dw.__version__)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]


# ------------------------------------------------------------------------------ what is refused


def test_an_unknown_operator_is_refused(path):
    node = Node("y", ops.Opaque("aten.sort.default"), ("x",), TensorType((2,)), "")
    graph = Graph({"x": TensorType((2,))}, {}, (node,), (Output("", "y"),))
    with pytest.raises(Unsupported, match=r"operator aten.sort.default is not known"):
        export_onnx(graph, path)
    assert not path.exists()


def test_weights_without_data_are_refused(path):
    with torch.device("meta"):
        net = nn.Conv2d(3, 4, 3)
    with pytest.raises(Unsupported, match=r"weight has no data: .* meta device"):
        export_onnx(net, path, (1, 3, 8, 8))


def test_without_onnx_the_error_says_what_to_install(path, monkeypatch):
    monkeypatch.setattr("depthwise.graph.exporters.onnx.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"needs onnx: pip install 'depthwise\[onnx\]'"):
        export_onnx(nn.ReLU(), path, (1, 3, 8, 8))


# ------------------------------------------------------------------------------ command line


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_the_command_line_writes_onnx(path, capsys):
    assert call("export", "conv:depthwise", "--out", path) == 0
    assert capsys.readouterr().out.startswith(f"{path}: ONNX, ")
    assert operators(path) == ["Conv"]


def test_the_command_line_saves_a_graph(tmp_path, capsys):
    path = tmp_path / "net.safetensors"
    assert call("export", "conv:depthwise", "--out", path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(path), "format": "safetensors", "nodes": 1,
    }  # fmt: skip
    assert [type(node.op) for node in dw.open_graph(path)] == [ops.Conv2d]


def test_the_command_line_refuses_other_files(tmp_path, capsys):
    assert call("export", "conv:depthwise", "--out", tmp_path / "net.pb") == 2
    assert "expected a file that ends in .onnx or .safetensors" in capsys.readouterr().err
    assert call("export", "conv:depthwise", "--out", tmp_path / "no" / "net.onnx") == 2
    assert "there is no folder" in capsys.readouterr().err
