"""Element types: what each operator gives, and how its numbers are rounded in each type."""

import re
from copy import deepcopy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from onnx.reference import ReferenceEvaluator
from operator_cases import CASES, Function, movement, plain, types

from depthwise.analysis import cost
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.graph import (
    Constant,
    Graph,
    Node,
    Output,
    TensorType,
    check,
    interpret,
    ops,
    show,
    trace,
)
from depthwise.graph.dtypes import DTYPES, find_dtype
from depthwise.graph.infer import infer
from depthwise.runtime.target import find_target
from depthwise.sources.exporting import export_onnx

HALVES = ("float16", "bfloat16")


def graph_of(op: ops.Op, *inputs: TensorType) -> Graph:
    """Return the graph of one operator."""
    named = {f"x{i}": type_ for i, type_ in enumerate(inputs)}
    node = Node("y", op, tuple(named), infer(op, *inputs), "")
    return check(Graph(named, {}, (node,), (Output("", "y"),)))


def of(dtype: str, *arrays: np.ndarray) -> list[TensorType]:
    return [TensorType(x.shape, dtype) for x in arrays]


def apply(op: ops.Op, *inputs: np.ndarray) -> np.ndarray:
    """Return what the interpreter makes of one operator of arrays."""
    types = [TensorType(x.shape, str(x.dtype)) for x in inputs]
    return interpret(graph_of(op, *types), *inputs)["y"]


# ---------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("name", DTYPES)
def test_each_type_is_pytorchs_of_that_name(name):
    row, known = DTYPES[name], getattr(torch, name)
    assert row.bits == 8 * known.itemsize
    assert row.is_floating == known.is_floating_point
    assert torch.zeros(1, dtype=known).view(getattr(torch, str(row.storage))).numel() == 1


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="element type 'float8' is not known: there are float32, "):
        TensorType((1,), "float8")
    with pytest.raises(ValueError, match="element type 'half' is not known"):
        find_dtype("half")


def test_bfloat16_is_rounded_as_in_pytorch():
    random = np.random.default_rng(0)
    numbers = np.frombuffer(random.bytes(400_000), np.float32)
    ties = (np.arange(1000, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    numbers = np.concatenate(
        (numbers, ties, np.float32([np.inf, -np.inf, np.nan, 0, -0.0, 3.4e38]))
    )
    expected = torch.from_numpy(numbers).bfloat16()
    row = DTYPES["bfloat16"]
    stored, known = row.encode(numbers), ~np.isnan(numbers)
    np.testing.assert_array_equal(stored[known], expected.view(torch.uint16).numpy()[known])
    np.testing.assert_array_equal(row.decode(stored), expected.float().numpy())


# -------------------------------------------------------------------------------------- conversions


def test_a_cast_is_pytorchs():
    x = np.float32([[-3.7, -0.5, 0, 0.1, 2.5, 1e-8, 70000.0]])
    for dtype in ("float16", "float64", "int32", "int64", "bool"):
        expected = torch.from_numpy(x).to(getattr(torch, dtype)).numpy()
        found = apply(ops.Cast(dtype), x)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        apply(ops.Cast("bfloat16"), x), torch.from_numpy(x).bfloat16().float().numpy()
    )
    np.testing.assert_array_equal(apply(ops.Cast("float32"), np.int8([-3, 7])), np.float32([-3, 7]))


def in_onnx(kind: str, *inputs: np.ndarray, **attributes: int) -> np.ndarray:
    """Return what ONNX's reference makes of an operator."""
    names = ["x", "scale", "zero_point"][: len(inputs)]
    types = [helper.np_dtype_to_tensor_dtype(x.dtype) for x in inputs]
    made = helper.make_graph(
        [helper.make_node(kind, names, ["y"], **attributes)], "one",
        [helper.make_tensor_value_info(n, t, x.shape)
         for n, t, x in zip(names, types, inputs, strict=True)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))[0]


PER_AXIS = np.float32([0.5, 0.01, 2])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("axis", [None, 0, 2])
def test_quantize_and_dequantize_are_onnxs(dtype, axis):
    random = np.random.default_rng(0)
    x = (random.standard_normal((3, 4, 3)) * 60).astype(np.float32)
    x[0, 0], x[1, 0] = (0.25, 0.75, 1.25), (1e6, -1e6, 0)  # ties, and what lies out of range
    scale = np.float32(0.5) if axis is None else PER_AXIS
    points = {"uint8": (3, 128, 255), "int8": (-5, 0, 100)}.get(dtype, (1, 300, 30000))
    zero_point = np.array(points, dtype)[0 if axis is None else slice(None)]
    named = {} if axis is None else {"axis": axis}
    found = apply(ops.Quantize(dtype, axis), x, np.asarray(scale), np.asarray(zero_point))
    expected = in_onnx("QuantizeLinear", x, np.asarray(scale), np.asarray(zero_point), **named)
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    back = apply(ops.Dequantize("float32", axis), found, np.asarray(scale), np.asarray(zero_point))
    expected = in_onnx(
        "DequantizeLinear", found, np.asarray(scale), np.asarray(zero_point), **named
    )
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, expected)


def test_a_zero_point_may_be_left_out():
    x, scale = np.float32([-1000, -0.5, 0.5, 1.5]), np.float32(1)
    found = apply(ops.Quantize("int8"), x, np.asarray(scale))
    np.testing.assert_array_equal(found, np.int8([-128, 0, 0, 2]))
    total = np.int32([5, -(2**30)])
    back = apply(ops.Dequantize("float32"), total, np.float32([0.5]))
    np.testing.assert_array_equal(back, np.float32([2.5, -(2**29)]))


def test_conversions_go_to_onnx_and_mean_the_same_there(tmp_path):
    """x -> float16 and back -> int8 -> float32, each scale and zero point inside."""
    data = {
        "scale": np.float32([0.5, 0.01, 2]), "zero": np.int8([-5, 0, 100]), "one": np.float32(0.25),
    }  # fmt: skip
    constants = {
        n: Constant(TensorType(x.shape, str(x.dtype)), np.array(x)) for n, x in data.items()
    }
    known = {"x": TensorType((2, 3)), **{name: c.type for name, c in constants.items()}}
    nodes = []
    for name, op, *inputs in (
        ("half", ops.Cast("float16"), "x"), ("back", ops.Cast("float32"), "half"),
        ("q", ops.Quantize("int8", 1), "back", "scale", "zero"),
        ("r", ops.Dequantize("float32", 1), "q", "scale", "zero"),
        ("s", ops.Quantize("uint16"), "r", "one"), ("t", ops.Dequantize("float32"), "s", "one"),
    ):  # fmt: skip
        known[name] = infer(op, *(known[each] for each in inputs))
        nodes.append(Node(name, op, tuple(inputs), known[name], ""))
    outputs = tuple(Output(name, name) for name in ("half", "q", "s", "t"))
    graph = check(Graph({"x": known["x"]}, constants, tuple(nodes), outputs))
    export_onnx(graph, tmp_path / "net.onnx")
    x = np.float32([[0.3, 1.237, 250], [-7.75, 3e-5, -90]])
    expected = ReferenceEvaluator(str(tmp_path / "net.onnx")).run(None, {"x": x})
    values = interpret(graph, x)
    for output, y in zip(outputs, expected, strict=True):
        assert values[output.value].dtype == y.dtype
        np.testing.assert_array_equal(values[output.value], y)


def test_conversions_print_their_types():
    x, scale = np.zeros((1, 3), np.float32), np.ones((3,), np.float32)
    graph = graph_of(ops.Quantize("int8", 1), *of("float32", x, scale))
    assert show(graph).splitlines()[-2] == "y   1x3 int8  Quantize dtype=int8 axis=1  x0, x1  #"
    graph = graph_of(ops.Cast("float16"), *of("float32", x))
    assert show(graph).splitlines()[-2] == "y   1x3 float16  Cast dtype=float16  x0  #"


# ------------------------------------------------------------------ what capture makes of them


def test_conversions_are_captured():
    net = Function(
        lambda x: x.half().exp().to(torch.int32).float() + x.to(torch.bfloat16).type_as(x)
    )
    graph = trace(net, (2, 3))
    assert [node.op for node in graph] == [
        ops.Cast("float16"), ops.Activation("exp"), ops.Cast("int32"), ops.Cast("float32"),
        ops.Cast("bfloat16"), ops.Cast("float32"), ops.Binary("add"),
    ]  # fmt: skip
    assert all(re.search(r"building.py:\d", node.line) for node in graph)
    x = np.float32([[0.3, 1.7, -2], [5.5, 3.14159, 0]])
    found = interpret(graph, x)[graph.outputs[0].value]
    np.testing.assert_array_equal(found, net(torch.from_numpy(x)).numpy())
    assert all(
        layer.kind == "conversion" for layer in cost(net, (2, 3)).layers if layer.operator == "Cast"
    )


# what has integers for inputs, and of which PyTorch makes the same type
ON_INTEGERS = {
    "relu": lambda x: x.relu(),
    "clamp": lambda x: x.clamp(-3, 5),
    "clamp below": lambda x: x.clamp(min=-3),
    "absolute": lambda x: x.abs(),
    "negative": lambda x: -x,
    "cube": lambda x: x**3,
    "sum and difference": lambda x: (x + x - 3 * x),
    "largest": lambda x: torch.maximum(x.amax(1, keepdim=True), x),
    "smallest": lambda x: x.amin((1, 2)),
    "moved": lambda x: torch.cat((x.permute(2, 0, 1)[1:], x.permute(2, 0, 1)), 0).reshape(-1),
    "padded": lambda x: F.pad(x, (1, 2), value=7),
    "product": lambda x: x @ x.transpose(1, 2),
    "pooled": lambda x: F.max_pool2d(-x.abs()[None], 3, 2, 1),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
@pytest.mark.parametrize("name", ON_INTEGERS)
def test_integers_stay_integers(name, dtype):
    class Net(torch.nn.Module):
        def forward(self, x):
            return ON_INTEGERS[name](x.to(getattr(torch, dtype)))

    x = torch.tensor([9.0, -7, 5, 4, -3, 2, 1, -1, 11, -120, 3, 6]).reshape(2, 3, 2)
    graph = trace(Net(), (2, 3, 2))
    output = graph.outputs[0].value
    assert graph.type(output).dtype == dtype
    found, expected = interpret(graph, x.numpy())[output], Net()(x).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_integers_are_divided_towards_zero():
    a, b = np.int32([7, -7, 7, -7, 6, 2**31 - 1]), np.int32([2, 2, -2, -2, -3, 3])
    found = apply(ops.Binary("divide"), a, b)
    expected = torch.div(torch.from_numpy(a), torch.from_numpy(b), rounding_mode="trunc")
    np.testing.assert_array_equal(found, expected.numpy())


# several operators, between which PyTorch does not round, or one in which it rounds more often
SEVERAL = {
    "batch norm by the batch", "instance norm", "instance norm without affine", "arithmetic",
    "roots and powers", "products and quotients added", "variance", "Euclidean norm",
    "log softmax", "gates", "conversions", "written at places", "written into slices",
    "patches summed",
}  # fmt: skip
NOT_IN_PYTORCH = {  # there is no kernel, or one that sums in the narrow type
    "local response norm": HALVES, "conv same": HALVES, "deformable": HALVES,
    "deformable, modulated, grouped": HALVES,
}  # fmt: skip
DIGITS = {"float16": 10, "bfloat16": 7}  # bits after the leading one


def listed(outputs) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def last_digit(x: np.ndarray, dtype: str) -> np.ndarray:
    """What the last digit of x is worth in a type."""
    with np.errstate(divide="ignore"):
        return 2.0 ** (np.floor(np.log2(np.abs(x))) - DIGITS[dtype])


# the rest are compositions, between whose operators PyTorch does not round; libraries, in whose
# float32 nothing is rounded to halves, are held to it with all of them
ROUNDED_ONCE = (*plain.CASES, *movement.CASES, *types.CASES)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ROUNDED_ONCE)
def test_each_operator_has_pytorchs_type_and_rounding(name, dtype):
    if dtype in NOT_IN_PYTORCH.get(name, ()):
        pytest.skip("PyTorch has nothing to compare with")
    net, shapes = CASES[name]
    net = deepcopy(net).eval().to(getattr(torch, dtype))
    inputs = [torch.randn(s, generator=torch.Generator().manual_seed(7)) for s in shapes]
    inputs = [x.to(getattr(torch, dtype)) for x in inputs]
    graph = trace(torch.export.export(net, tuple(inputs)))
    with torch.no_grad():
        expected = net(*(x.clone() for x in inputs))
        exact = net.double()(*(x.double() for x in inputs))
    held = torch.float32 if dtype == "bfloat16" else torch.float16
    values = interpret(graph, *(x.to(held).numpy() for x in inputs))
    for output, y, z in zip(graph.outputs, listed(expected), listed(exact), strict=True):
        own = str(y.dtype).removeprefix("torch.")
        assert graph.type(output.value) == TensorType(tuple(y.shape), own)
        if own != dtype:  # booleans and integers, of numbers that were rounded alike
            np.testing.assert_array_equal(values[output.value], y.numpy())
            continue
        found, wanted, sums = values[output.value], y.double().numpy(), z.numpy()
        largest = np.abs(sums).max()
        if name in SEVERAL:
            assert np.abs(found - wanted).max() <= 2 * 2.0 ** -DIGITS[dtype] * largest
            continue
        # PyTorch's kernels, which differ between processors, sum in other orders
        assert (np.abs(found - wanted) <= last_digit(wanted, dtype) + 1e-6 * largest).all()
        if len(graph.nodes) == 1:  # the sum is rounded once
            assert (np.abs(found - sums) <= last_digit(sums, dtype) / 2 + 1e-6 * largest).all()


# ------------------------------------------------------------------------------ what is refused

X, W = TensorType((1, 4, 5, 5), "float16"), TensorType((2, 4, 1, 1), "float32")


def conv_of(*types: TensorType) -> Graph:
    return graph_of(ops.Conv2d((1, 1), ops.Padding(0, 0, 0, 0), (1, 1), 1), *types)


def test_types_that_do_not_mix_are_both_named():
    with pytest.raises(
        ValueError, match=r"Conv2d of float16 and float32: convert one to the other"
    ):
        conv_of(X, W)
    with pytest.raises(ValueError, match=r"Binary \(add\) of int8 and uint8: convert"):
        infer(ops.Binary("add"), TensorType((1,), "int8"), TensorType((1,), "uint8"))
    with pytest.raises(ValueError, match=r"Concat of bfloat16 and float16"):
        infer(ops.Concat(0), TensorType((1,), "bfloat16"), TensorType((1,), "float16"))
    scale = TensorType((), "float16")
    with pytest.raises(ValueError, match=r"Quantize of float32 by a scale of float16"):
        infer(ops.Quantize("int8"), TensorType((3,)), scale)
    with pytest.raises(ValueError, match=r"Dequantize to float32 with a scale of float16"):
        infer(ops.Dequantize("float32"), TensorType((3,), "int8"), scale)
    zero = TensorType((), "uint8")
    with pytest.raises(ValueError, match=r"Quantize to int8 with a zero point of uint8"):
        infer(ops.Quantize("int8"), TensorType((3,)), TensorType(()), zero)
    with pytest.raises(ValueError, match=r"Dequantize of int8 with a zero point of uint8"):
        infer(ops.Dequantize("float32"), TensorType((3,), "int8"), TensorType(()), zero)


@pytest.mark.parametrize(
    ("op", "dtype", "message"),
    [
        (ops.Softmax(0), "int32", "Softmax of int32: it takes floating, convert it"),
        (ops.Reduce("mean", (0,), False), "int64", r"Reduce \(mean\) of int64: it takes floating"),
        (ops.Reduce("sum", (0,), False), "bool", r"Reduce \(sum\) of bool: it takes integers or"),
        (ops.Activation("clamp", (0.0, 2.5)), "int8", r"Activation \(clamp\) of int8"),
        (ops.Activation("power", (-1.0,)), "int8", r"Activation \(power\) of int8"),
        (ops.Activation("gelu"), "complex64", r"Activation \(gelu\) of complex64"),
        (ops.Cast("half"), "float32", "element type 'half' is not known"),
    ],
)
def test_types_without_a_meaning_are_refused(op, dtype, message):
    with pytest.raises(ValueError, match=message):
        infer(op, TensorType((3,), dtype))


def test_quantization_goes_to_small_integers_by_scales_that_fit():
    x, scale = TensorType((2, 3)), TensorType(())
    with pytest.raises(ValueError, match="Quantize to int64: it gives integers of 8 or 16 bits"):
        infer(ops.Quantize("int64"), x, scale)
    with pytest.raises(ValueError, match="Dequantize of float32: it takes integers"):
        infer(ops.Dequantize("float32"), x, scale)
    with pytest.raises(ValueError, match=r"scale \(2,\) does not fit input \(2, 3\) with axis=1"):
        infer(ops.Quantize("int8", 1), x, TensorType((2,)))
    with pytest.raises(ValueError, match=r"zero point \(2,\) does not fit input \(2, 3\) with"):
        infer(ops.Quantize("int8"), x, scale, TensorType((2,), "int8"))
    for zero_point in ((), (1,)):  # ONNX Runtime's quantiser writes one number either way
        found = infer(ops.Quantize("int8"), x, TensorType((1,)), TensorType(zero_point, "int8"))
        assert found == TensorType((2, 3), "int8")


def test_check_refuses_another_type_than_the_operators():
    graph = conv_of(X, replace(W, dtype="float16"))
    wrong = replace(graph.nodes[0], type=replace(graph.nodes[0].type, dtype="float32"))
    with pytest.raises(AssertionError, match=r"y at the top: Conv2d.* gives float16, not float32"):
        check(Graph(graph.inputs, {}, (wrong,), graph.outputs))
    with pytest.raises(AssertionError, match=r"y at the top: Conv2d of float16 and float32"):
        check(Graph({"x0": X, "x1": W}, {}, graph.nodes, graph.outputs))


def test_check_refuses_data_of_another_type():
    data = {"float16": np.zeros(3, np.float32), "bfloat16": np.zeros(3, np.float32)}
    for dtype, array in data.items():
        constants = {"c": Constant(TensorType((3,), dtype), array)}
        stored = "float16" if dtype == "float16" else "uint16"
        with pytest.raises(
            AssertionError, match=f"c: data in float32, type 3 {dtype} is kept in {stored}"
        ):
            check(Graph({}, constants, (), (Output("", "c"),)))


def test_inputs_come_in_the_graphs_types():
    graph = graph_of(ops.Activation("relu"), TensorType((3,)))
    with pytest.raises(
        ValueError, match="input x0 is float64: the graph takes float32, convert it"
    ):
        interpret(graph, np.zeros(3))
    graph = graph_of(ops.Activation("relu"), TensorType((3,), "bfloat16"))
    with pytest.raises(ValueError, match="x0 is uint16: the graph takes bfloat16, held in float32"):
        interpret(graph, np.zeros(3, np.uint16))
    found = interpret(graph, np.float32([1.001, -1, 3.14159]))
    np.testing.assert_array_equal(found["x0"], np.float32([1, -1, 3.140625]))
    np.testing.assert_array_equal(found["y"], np.float32([1, 0, 3.140625]))


def test_constants_of_bfloat16_have_data():
    net = torch.nn.Linear(3, 2).bfloat16()
    graph = trace(net, (1, 3))
    weight = graph.constants["weight"]
    assert weight.data is not None
    assert weight.data.dtype == np.uint16
    np.testing.assert_array_equal(weight.numbers, net.weight.detach().float().numpy())


def test_weights_that_are_dequantized_are_computed_once():
    """A float32 network with weights in int8 is compiled: nothing of int8 is left in it."""
    x, weight = TensorType((1, 3)), np.int8([[1, -2, 3], [4, 5, -6]])
    constants = {
        "w": Constant(TensorType((2, 3), "int8"), weight),
        "scale": Constant(TensorType((2,)), np.float32([0.5, 2])),
    }
    types = [constants[name].type for name in constants]
    real = infer(ops.Dequantize("float32", 0), *types)
    nodes = (
        Node("real", ops.Dequantize("float32", 0), ("w", "scale"), real, ""),
        Node("y", ops.Linear(), ("x", "real"), infer(ops.Linear(), x, real), ""),
    )
    graph = rewrite(check(Graph({"x": x}, constants, nodes, (Output("", "y"),))))
    assert len(graph.nodes) == 1
    make_plan(graph, find_target("native"))
    found = interpret(graph, np.float32([[1, 1, 1]]))["y"]
    np.testing.assert_array_equal(found, np.float32([[1, 6]]))
