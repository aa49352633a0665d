"""Quantised networks of ONNX: read and interpreted as ONNX Runtime computes them."""

import numpy as np
import onnx
import pytest
from onnx_models import compare, draw, in_onnxruntime, model, node, saved

import depthwise as dw
from depthwise.errors import Unsupported
from depthwise.graph import ops

RUNTIME = [("com.microsoft", 1)]


def u8(number):
    return np.uint8(number)


def f32(number):
    return np.float32(number)


SCALES = {"xs": f32(0.04), "xz": u8(120), "ys": f32(0.1), "yz": u8(90), "as": f32(0.0531),
          "az": u8(128)}  # fmt: skip
WEIGHT = {
    "w": np.random.default_rng(0).integers(-127, 128, (4, 3, 3, 3), np.int8),
    "ws": np.array([0.01, 0.02, 0.005, 0.03], np.float32), "wz": np.zeros(4, np.int8),
    "b": np.array([100, -200, 50, 0], np.int32),
}  # fmt: skip
ENTER = node("QuantizeLinear", ["x", "xs", "xz"], ["xq"])
LEAVE = node("DequantizeLinear", ["yq", "ys", "yz"], ["y"])


def off_by_at_most_a_step(made, folder):
    """Read a model and compare with ONNX Runtime, whose sums round elsewhere: by a step at most."""
    graph = dw.open(saved(made, folder)).traced
    inputs = [draw(*type_.shape) for type_ in graph.inputs.values()]
    expected = in_onnxruntime(made)(dict(zip(graph.inputs, inputs, strict=True)))
    found = dw.open(folder / "net.onnx").run(inputs)
    for y, e in zip(found, expected, strict=True):
        assert np.abs(y - e).max() <= 0.1 + 1e-6
        assert (np.abs(y - e) > 1e-6).mean() < 0.02
    return graph


def test_weights_stay_integers_between_conversions(tmp_path):
    nodes = [
        ENTER,
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("Conv", ["xd", "wd"], ["c"]),
        node("QuantizeLinear", ["c", "ys", "yz"], ["yq"]),
        LEAVE,
    ]
    graph = off_by_at_most_a_step(model(nodes, weights=SCALES | WEIGHT), tmp_path)
    assert [n.op for n in graph] == [
        ops.Quantize("uint8"), ops.Dequantize("float32"), ops.Dequantize("float32", 0),
        ops.Conv2d((1, 1), ops.Padding(0, 0, 0, 0), (1, 1), 1), ops.Quantize("uint8"),
        ops.Dequantize("float32"),
    ]  # fmt: skip
    assert graph.constants["w"].type.dtype == "int8"
    assert graph.nodes[0].type.dtype == "uint8"


def test_what_is_quantised_and_taken_back_is_compiled_to_the_same_bits(tmp_path):
    path = saved(model([ENTER, node("DequantizeLinear", ["xq", "xs", "xz"], ["y"])],
                       weights=SCALES), tmp_path)  # fmt: skip
    network = dw.open(path)
    inputs = [draw(*type_.shape) for type_ in network.traced.inputs.values()]
    (expected,) = network.run(inputs)
    np.testing.assert_array_equal(dw.compile(path)(*inputs), expected)
    assert dw.cost(path).macs == 0


@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_on_integers(bias, tmp_path):
    operands = ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz", *(["b"] if bias else [])]
    nodes = [ENTER, node("QLinearConv", operands, ["yq"], pads=[1, 1, 1, 1]), LEAVE]
    graph = off_by_at_most_a_step(model(nodes, weights=SCALES | WEIGHT), tmp_path)
    conv = next(n for n in graph if isinstance(n.op, ops.Conv2d))
    assert len(conv.inputs) == 2 + bias


@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
def test_arithmetic_of_onnxruntimes_quantiser(operator, tmp_path):
    nodes = [
        ENTER,
        node(operator, ["xq", "xs", "xz", "xq", "as", "az", "ys", "yz"], ["yq"],
             domain="com.microsoft"),
        LEAVE,
    ]  # fmt: skip
    off_by_at_most_a_step(model(nodes, weights=SCALES, domains=RUNTIME), tmp_path)


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("QLinearSigmoid", {}),
        ("QLinearLeakyRelu", {"alpha": 0.1}),
        ("QLinearGlobalAveragePool", {}),
        ("QLinearAveragePool", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 1, 1, 0]}),
        ("QLinearSoftmax", {"axis": -1, "opset": 13}),
        ("QLinearSoftmax", {"axis": 1, "opset": 13}),
    ],
)
def test_functions_of_onnxruntimes_quantiser(operator, attributes, tmp_path):
    nodes = [ENTER, node(operator, ["xq", "xs", "xz", "ys", "yz"], ["yq"], domain="com.microsoft",
                         **attributes), LEAVE]  # fmt: skip
    off_by_at_most_a_step(model(nodes, weights=SCALES, domains=RUNTIME), tmp_path)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
def test_linear_layers_of_onnxruntimes_quantiser(leaves, per_channel, tmp_path):
    weights = {"m": WEIGHT["w"].reshape(4, 27)[:, :8].copy(), "b": WEIGHT["b"]}
    scale, zero = ("ws", "wz") if per_channel else ("xs", "mz")
    out = ["ys", "yz"] if leaves else []
    nodes = [
        ENTER,
        node(
            "QGemm",
            ["xq", "xs", "xz", "m", scale, zero, "b", *out],
            ["yq" if leaves else "y"],
            domain="com.microsoft",
            transB=1,
            alpha=0.5,
        ),
    ]
    nodes += [LEAVE] if leaves else []
    weights = {**SCALES, **WEIGHT, **weights, "mz": np.int8(3)}
    graph = off_by_at_most_a_step(model(nodes, (3, 8), weights, domains=RUNTIME), tmp_path)
    assert sum(isinstance(n.op, ops.Linear) for n in graph) == 1


def small_network():
    """Return a model whose kinds of layers ONNX Runtime's quantiser knows, in opset 17."""
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"]),
        node("AveragePool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Add", ["p", "p"], ["a"]), node("GlobalAveragePool", ["a"], ["g"]),
        node("Flatten", ["g"], ["f"]), node("Gemm", ["f", "m", "d"], ["q"], transB=1),
        node("Softmax", ["q"], ["y"]),
    ]  # fmt: skip
    return model(
        nodes, weights={"w": draw(4, 3, 3, 3), "b": draw(4), "m": draw(5, 4), "d": draw(5)}
    )


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("style", ["QDQ", "QOperator"])
def test_what_onnxruntimes_quantiser_writes(style, per_channel, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    batches = iter([{"x": draw(1, 3, 8, 8)}])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(batches, None)

    quantization.quantize_static(
        saved(small_network(), tmp_path), tmp_path / "quantised.onnx", Reader(),
        quant_format=quantization.QuantFormat[style], per_channel=per_channel,
    )  # fmt: skip
    made = onnx.load(tmp_path / "quantised.onnx")
    graph = off_by_at_most_a_step(made, tmp_path)
    assert dw.cost(graph).macs == 4 * 27 * 64 + 20
    with pytest.raises(Unsupported, match="makes int8 by a scale: kernels hold values in uint8"):
        dw.compile(graph)


def test_concatenation_of_onnxruntimes_quantiser(tmp_path):
    operands = ["ys", "yz", "xq", "xs", "xz", "xq", "as", "az"]
    nodes = [ENTER, node("QLinearConcat", operands, ["yq"], domain="com.microsoft", axis=1), LEAVE]
    graph = off_by_at_most_a_step(model(nodes, weights=SCALES, domains=RUNTIME), tmp_path)
    assert graph.type("y").shape == (1, 6, 8, 8)


def test_pooling_by_powers(tmp_path):
    made = model([node("GlobalLpPool", ["x"], ["y"], p=3)])
    compare(made, tmp_path, expected=in_onnxruntime(made))
