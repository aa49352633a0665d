"""Graphs as converters write them: TensorFlow and Keras (tf2onnx), PaddlePaddle, older PyTorch.

Their idioms, written down node by node, and compared with ONNX Runtime.
"""

from math import pi, sqrt

import numpy as np
import pytest
from onnx import numpy_helper
from onnx_models import compare, draw, in_onnxruntime, ints, model, node

from depthwise.analysis import cost_of_graph
from depthwise.compiler.pipeline import rewrite
from depthwise.graph import ops


def kinds(graph):
    """Return the operators of a graph by name, with their functions."""
    named = (ops.Activation, ops.Binary)
    return [n.op.function if isinstance(n.op, named) else type(n.op).__name__ for n in graph]


def read(made, folder, shapes=()):
    return compare(made, folder, shapes, in_onnxruntime(made))


def single(number):
    return np.float32(number)


# ----------------------------------------------------------------------------- TensorFlow, Keras


def keras(batch="unk__6"):
    """Return an inverted bottleneck as tf2onnx writes it, of NHWC images, down to its classes."""
    nodes = [
        node("Transpose", ["x"], ["nchw"], name="model/stem/Conv2D__6", perm=[0, 3, 1, 2]),
        node("Pad", ["nchw", "pads"], ["padded"], name="model/pad/Pad"),
        node("Conv", ["padded", "stem/kernel"], ["stem"], name="model/stem/Conv2D",
             strides=[2, 2], auto_pad="VALID"),
        node("BatchNormalization", ["stem", "gamma", "beta", "mean", "variance"], ["bn"],
             name="model/bn/FusedBatchNormV3", epsilon=1e-3),
        node("Clip", ["bn", "zero", "six"], ["relu6"], name="model/act/Relu6"),
        node("Conv", ["relu6", "depthwise/kernel"], ["dw"], name="model/dw/depthwise", group=8,
             strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Transpose", ["dw"], ["back"], name="model/dw__40", perm=[0, 2, 3, 1]),
        node("Add", ["back", "bias"], ["biased"], name="model/dw/BiasAdd"),
        node("Transpose", ["biased"], ["again"], name="model/pool__44", perm=[0, 3, 1, 2]),
        node("GlobalAveragePool", ["again"], ["pool"], name="model/pool/Mean"),
        node("Squeeze", ["pool"], ["squeezed"], name="model/pool/Mean_Squeeze", axes=[2, 3]),
        node("Shape", ["squeezed"], ["shape"], name="model/flatten/Shape"),
        node("Cast", ["shape"], ["narrow"], name="model/flatten/Cast", to=6),
        node("Slice", ["narrow", "0", "1", "0"], ["n"], name="model/flatten/strided_slice"),
        node("Squeeze", ["n"], ["scalar"], axes=[0]),
        node("Unsqueeze", ["scalar"], ["rows"], axes=[0]),
        node("Concat", ["rows", "-1"], ["target"], axis=0),
        node("Cast", ["target"], ["wide"], to=7),
        node("Reshape", ["squeezed", "wide"], ["flat"], name="model/flatten/Reshape"),
        node("MatMul", ["flat", "fc/kernel"], ["product"], name="model/fc/MatMul"),
        node("Add", ["product", "fc/bias"], ["logits"], name="model/fc/BiasAdd"),
        node("Softmax", ["logits"], ["y"], name="model/fc/Softmax"),
    ]  # fmt: skip
    weights = {
        "pads": ints(0, 0, 0, 0, 0, 0, 1, 1), "stem/kernel": draw(8, 3, 3, 3), "gamma": draw(8),
        "beta": draw(8) + 1, "mean": draw(8) - 1, "variance": np.abs(draw(8)) + 1,
        "zero": single(0), "six": single(6), "depthwise/kernel": draw(8, 1, 3, 3),
        "bias": draw(8) * 2, "0": ints(0), "1": ints(1), "-1": np.array([-1], np.int32),
        "fc/kernel": draw(8, 10), "fc/bias": draw(10),
    }  # fmt: skip
    return model(nodes, (batch, 16, 20, 3), weights, opset=12)


def test_a_network_of_tensorflow(tmp_path):
    graph = read(keras(), tmp_path, [(2, 16, 20, 3)])
    assert kinds(graph) == [
        "Permute", "Pad", "Conv2d", "BatchNorm", "clamp", "Conv2d", "Permute", "add", "Permute",
        "AdaptivePool2d", "Reshape", "Linear", "add", "Softmax",
    ]  # fmt: skip
    assert next(n.path for n in graph if isinstance(n.op, ops.Linear)) == "model.fc"
    # weights and biases, scale and shift; not the statistics
    assert cost_of_graph(graph, "keras").params == 8 * 27 + 16 + 8 * 9 + 8 + 80 + 10


def test_transposes_around_nhwc_cancel_when_it_is_compiled(tmp_path):
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        node("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]),
        node("Conv", ["b", "w"], ["c"]),
        node("Transpose", ["c"], ["d"], perm=[0, 2, 3, 1]),
        node("Relu", ["d"], ["e"]),
        node("Transpose", ["e"], ["y"], perm=[0, 3, 1, 2]),
    ]
    graph = read(model(nodes, weights={"w": draw(4, 3, 3, 3)}), tmp_path)
    assert kinds(rewrite(graph)).count("Permute") <= 2


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("operator", ["Conv", "MaxPool", "AveragePool", "ConvTranspose"])
def test_automatic_padding(operator, padding, size, tmp_path):
    weights = {"w": draw(3, 3, 3, 2)} if operator.startswith("Conv") else {}
    attributes = {} if weights else {"kernel_shape": [3, 2]}
    if operator == "ConvTranspose" and padding == "VALID":
        attributes["output_padding"] = [1, 0]
    made = node(operator, ["x", *weights], ["y"], strides=[2, 1], auto_pad=padding, **attributes)
    graph = read(model([made], (1, 3, size, 8), weights), tmp_path)
    assert len(graph.nodes) == 1


@pytest.mark.parametrize("operator", ["Conv", "MaxPool", "AveragePool", "ConvTranspose"])
def test_padding_that_differs_on_each_side(operator, tmp_path):
    weights = {"w": draw(3, 3, 4, 4)} if operator.startswith("Conv") else {}
    attributes = {} if weights else {"kernel_shape": [4, 4]}
    made = node(operator, ["x", *weights], ["y"], pads=[0, 1, 2, 3], **attributes)
    read(model([made], weights=weights), tmp_path)


@pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER"])
def test_sizes_of_transposed_convolutions(padding, tmp_path):
    """A kernel smaller than the stride reaches less than the stride times the size."""
    for kernel, attributes in (((1, 2), {}), ((3, 4), {"output_shape": [17, 24]})):
        made = node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 3], auto_pad=padding,
                    **attributes)  # fmt: skip
        read(model([made], weights={"w": draw(3, 3, *kernel)}), tmp_path)


@pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER"])
def test_pixels_that_are_added_are_cut_again_where_the_size_is_automatic(padding, tmp_path):
    """ONNX's inference adds them to the size; its reference and ONNX Runtime do not."""
    for kernel, extra in ((1, [1, 0]), (3, [1, 1]), (5, [0, 1])):
        made = node("ConvTranspose", ["x", "w"], ["c"], strides=[2, 2], auto_pad=padding,
                    output_padding=extra)  # fmt: skip
        read(model([made, node("Relu", ["c"], ["y"])], weights={"w": draw(3, 3, kernel, kernel)}),
             tmp_path)  # fmt: skip


def test_a_term_times_0_is_not_read(tmp_path):
    for bias in (draw(4), draw(2, 4), draw(2, 1)):
        made = node("Gemm", ["x", "w", "b"], ["y"], beta=0.0)
        read(model([made], (2, 3), {"w": draw(3, 4), "b": bias * np.inf}), tmp_path)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_corners_are_aligned_to_whole_pixels(mode, tmp_path):
    """Where the size times the scale is a fraction."""
    for scales in ([1, 1, 1.3, 1.7], [1, 1, 2.05, 0.35], [1, 1, 0.15, 2]):
        for rule in ("align_corners", "tf_crop_and_resize"):
            weights = {"region": single([0, 0, 0.1, 0, 1, 1, 0.8, 0.9]), "scales": single(scales)}
            made = node("Resize", ["x", *weights], ["y"], mode=mode,
                        coordinate_transformation_mode=rule)  # fmt: skip
            read(model([made], weights=weights, opset=19), tmp_path)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_a_window_that_would_start_beyond_the_image_is_left_out(operator, tmp_path):
    made = node(operator, ["x"], ["y"], kernel_shape=[1, 2], strides=[3, 3], ceil_mode=1)
    graph = read(model([made]), tmp_path)
    assert graph.nodes[0].type.shape == (1, 3, 3, 3)
    made = node(operator, ["x"], ["y"], kernel_shape=[1, 1], strides=[3, 4], ceil_mode=1)
    assert read(model([made]), tmp_path).nodes[0].type.shape == (1, 3, 3, 2)


SLICES = [
    (-9, -(2**31), -2), (-1, -9, -3), (9, 0, -1), (2, -(2**31), -1), (-20, 30, 3), (5, 2, 1),
    (-1, 2**31 - 1, -1), (5, 2**63 - 1, -2),
]  # fmt: skip


@pytest.mark.parametrize(("start", "stop", "step"), SLICES)
def test_slices_whose_bounds_lie_outside_of_the_axis(start, stop, step, tmp_path):
    bounds = {"start": ints(start), "stop": ints(stop), "axis": ints(2), "step": ints(step)}
    nodes = [node("Slice", ["x", *bounds], ["s"]), node("Concat", ["x", "s"], ["y"], axis=2)]
    read(model(nodes, weights=bounds), tmp_path)


def test_layer_norm_over_channels_of_nhwc_images(tmp_path):
    """As Keras' ConvNeXt has it: moments, then a product and a sum."""
    nodes = [
        node("ReduceMean", ["x"], ["mean"], axes=[3]),
        node("Sub", ["x", "mean"], ["apart"]),
        node("Mul", ["apart", "apart"], ["square"]),
        node("ReduceMean", ["square"], ["variance"], axes=[3]),
        node("Add", ["variance", "eps"], ["above"]),
        node("Sqrt", ["above"], ["root"]),
        node("Div", ["apart", "root"], ["normal"]),
        node("Mul", ["gamma", "normal"], ["scaled"]),
        node("Add", ["scaled", "beta"], ["y"]),
    ]
    weights = {"eps": single(1e-6), "gamma": draw(6), "beta": draw(6) + 1}
    graph = read(model(nodes, (2, 4, 5, 6), weights), tmp_path)
    assert [n.op for n in graph] == [ops.LayerNorm(1, float(single(1e-6)))]
    assert graph.nodes[0].inputs == ("x", "gamma", "beta")


# ------------------------------------------------------------------------------- PaddlePaddle


def constants(**arrays):
    """Return nodes that hold arrays, as PaddlePaddle's converter writes even its weights."""
    return [node("Constant", [], [name], value=numpy_helper.from_array(a))
            for name, a in arrays.items()]  # fmt: skip


def test_attention_of_paddlepaddle(tmp_path):
    """A sequence of tokens from images: sizes from Shape, heads by Reshape, parts by Slice."""
    heads, width = 2, 3
    wide = heads * width
    nodes = [
        *constants(qkv=draw(wide, 3 * wide), qkv_b=draw(3 * wide), proj=draw(wide, wide),
                   zero=np.array([0], np.int32), three=np.array([3], np.int32),
                   heads=np.array([heads], np.int32), width=np.array([width], np.int32),
                   wide=np.array([wide], np.int32), one=ints(1), two=ints(2), begin=ints(0),
                   end3=ints(3), scale=np.array([width**-0.5], np.float32)),
        node("Squeeze", ["x"], ["row"], axes=[2]),
        node("Transpose", ["row"], ["tokens"], perm=[0, 2, 1]),
        node("Shape", ["tokens"], ["sizes"]),
        node("Cast", ["sizes"], ["narrow"], to=6),
        node("Slice", ["narrow", "one", "two", "begin"], ["length"]),
        node("MatMul", ["tokens", "qkv"], ["m"]),
        node("Add", ["m", "qkv_b"], ["biased"]),
        *[node("Cast", [name], [name + "64"], to=7)
          for name in ("zero", "length", "three", "heads", "width", "wide")],
        node("Concat", ["zero64", "length64", "three64", "heads64", "width64"], ["to"], axis=0),
        node("Reshape", ["biased", "to"], ["split"]),
        node("Transpose", ["split"], ["parts"], perm=[2, 0, 3, 1, 4]),
        node("Slice", ["parts", "begin", "one", "begin"], ["q0"]),
        node("Squeeze", ["q0"], ["q"], axes=[0]),
        node("Mul", ["q", "scale"], ["scaled"]),
        node("Slice", ["parts", "one", "two", "begin"], ["k0"]),
        node("Squeeze", ["k0"], ["k"], axes=[0]),
        node("Slice", ["parts", "two", "end3", "begin"], ["v0"]),
        node("Squeeze", ["v0"], ["v"], axes=[0]),
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["scaled", "kt"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=3),
        node("MatMul", ["weights", "v"], ["mixed"]),
        node("Transpose", ["mixed"], ["beside"], perm=[0, 2, 1, 3]),
        node("Concat", ["zero64", "length64", "wide64"], ["back"], axis=0),
        node("Reshape", ["beside", "back"], ["joined"]),
        node("MatMul", ["joined", "proj"], ["y"]),
    ]  # fmt: skip
    graph = read(model(nodes, ("?", wide, 1, "?"), opset=12), tmp_path, [(2, wide, 1, 7)])
    assert {n.type.dtype for n in graph} == {"float32"}
    assert kinds(graph).count("MatMul") == 2
    trained = {name for name, constant in graph.constants.items() if constant.trainable}
    assert trained == {"qkv", "qkv_b", "proj"}


def test_a_gate_and_an_enlargement_of_paddlepaddle(tmp_path):
    nodes = [
        *constants(w=draw(6, 6, 1, 1), b=draw(1, 6, 1, 1), three=single(3), low=single(0),
                   six=single(6), none=np.zeros(0, np.float32),
                   twice=np.array([1, 1, 2, 2], np.float32), up=draw(6, 4, 2, 2)),
        node("GlobalAveragePool", ["x"], ["pool"]),
        node("Conv", ["pool", "w"], ["c"]),
        node("Add", ["c", "b"], ["biased"]),
        node("HardSigmoid", ["biased"], ["gate"], alpha=0.1666666716337204, beta=0.5),
        node("Mul", ["x", "gate"], ["gated"]),
        node("Add", ["gated", "three"], ["raised"]),
        node("Clip", ["raised", "low", "six"], ["bent"]),
        node("Mul", ["gated", "bent"], ["product"]),
        node("Div", ["product", "six"], ["swish"]),
        node("Resize", ["swish", "none", "twice"], ["larger"], mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("ConvTranspose", ["larger", "up"], ["y"], strides=[2, 2]),
    ]  # fmt: skip
    graph = read(model(nodes, (1, 6, 5, 4), opset=11), tmp_path)
    assert kinds(graph) == ["AdaptivePool2d", "Conv2d", "add", "hard_sigmoid", "multiply",
                            "hard_swish", "Resize", "ConvTranspose2d"]  # fmt: skip


# ---------------------------------------------------------------- functions that are written out

X3 = [node("Add", ["x", "3"], ["x3"]), node("Clip", ["x3", "0", "6"], ["bent"])]
ERF = [node("Div", ["x", "r2"], ["scaled"]), node("Erf", ["scaled"], ["e"]),
       node("Add", ["e", "1"], ["e1"])]  # fmt: skip
NUMBERS = {
    "0": single(0), "1": single(1), "3": single(3), "6": single(6), "6th": single(1 / 6),
    "half": single(0.5), "r2": single(sqrt(2)), "c": single(0.044715), "s": single(sqrt(2 / pi)),
}  # fmt: skip
WRITTEN_OUT = {
    "hard_sigmoid": [[*X3, node("Div", ["bent", "6"], ["y"])],
                     [*X3, node("Mul", ["6th", "bent"], ["y"])]],
    "hard_swish": [[*X3, node("Mul", ["x", "bent"], ["p"]), node("Div", ["p", "6"], ["y"])],
                   [*X3, node("Div", ["bent", "6"], ["g"]), node("Mul", ["g", "x"], ["y"])],
                   [*X3, node("Mul", ["bent", "6th"], ["g"]), node("Mul", ["x", "g"], ["y"])],
                   [node("HardSigmoid", ["x"], ["g"], alpha=1 / 6),
                    node("Mul", ["x", "g"], ["y"])]],
    "silu": [[node("Sigmoid", ["x"], ["g"]), node("Mul", ["g", "x"], ["y"])],
             [node("Mul", ["x", "1"], ["o"]), node("Sigmoid", ["o"], ["g"]),
              node("Mul", ["x", "g"], ["y"])]],
    "softplus": [[node("Exp", ["x"], ["e"]), node("Add", ["e", "1"], ["e1"]),
                  node("Log", ["e1"], ["y"])]],
    "mish": [[node("Softplus", ["x"], ["p"]), node("Tanh", ["p"], ["t"]),
              node("Mul", ["x", "t"], ["y"])]],
    "gelu": [[*ERF, node("Mul", ["x", "e1"], ["p"]), node("Mul", ["p", "half"], ["y"])],
             [*ERF, node("Mul", ["x", "half"], ["h"]), node("Mul", ["h", "e1"], ["y"])],
             [*ERF, node("Mul", ["half", "e1"], ["h"]), node("Mul", ["h", "x"], ["y"])]],
    "gelu_tanh": [[node("Pow", ["x", "3"], ["x3"]), node("Mul", ["x3", "c"], ["m"]),
                   node("Add", ["x", "m"], ["a"]), node("Mul", ["a", "s"], ["z"]),
                   node("Tanh", ["z"], ["t"]), node("Add", ["t", "1"], ["t1"]),
                   node("Mul", ["x", "half"], ["h"]), node("Mul", ["h", "t1"], ["y"])]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("function", "nodes"), [(f, nodes) for f, each in WRITTEN_OUT.items() for nodes in each]
)
def test_a_function_that_is_written_out_is_one_node(function, nodes, tmp_path):
    graph = read(model(nodes, weights=NUMBERS), tmp_path)
    assert [(n.name, n.op) for n in graph] == [("y", ops.Activation(function))]


def test_what_only_resembles_a_function_stays_as_it_is(tmp_path):
    shown = [*X3, node("Mul", ["x", "bent"], ["p"]), node("Div", ["p", "6"], ["y"])]
    graph = read(model(shown, weights=NUMBERS, outputs=("y", "bent")), tmp_path)
    assert "hard_swish" not in kinds(graph)
    other = [node("Sigmoid", ["z"], ["g"]), node("Mul", ["g", "x"], ["y"])]
    shapes = {"x": (1, 3, 8, 8), "z": (1, 3, 8, 8)}
    assert kinds(read(model(other, shapes), tmp_path)) == ["sigmoid", "multiply"]
    numbers = NUMBERS | {"6": single(5)}
    shown = model(shown, weights=numbers)
    assert "hard_swish" not in kinds(read(shown, tmp_path))
