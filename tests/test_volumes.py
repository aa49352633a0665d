"""Volumes (N, C, D, H, W): what of them is images, and what is refused."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save
from operator_cases import Function
from torch import nn

import depthwise as dw
from depthwise.graph import capture, interpret, ops, trace
from depthwise.graph.frontends.onnx import read_onnx

X = (1, 4, 5, 7, 6)


@pytest.mark.parametrize(("net", "found"), [
    (nn.Conv3d(4, 3, 3), "aten.conv3d.default .* slides a kernel of 3 over a depth of 5"),
    (nn.Conv3d(4, 3, (1, 3, 3), padding=1), "a kernel of 1 over a depth of 5, padded by 1"),
    (nn.Conv3d(4, 3, (5, 3, 3), padding=(1, 0, 0)), "a kernel of 5 over a depth of 5, padded by 1"),
    (nn.ConvTranspose3d(4, 3, 2, 2), "spreads the depth, with a kernel of 2, a stride of 2"),
])  # fmt: skip
def test_convolutions_over_three_axes_are_counted_as_unknown_and_refused(net, found):
    graph = trace(net, X)
    assert [type(node.op) for node in graph] == [ops.Opaque]
    with pytest.raises(dw.Unsupported, match=found) as error:
        dw.compile(net, X)
    assert "in module '(the network itself)'" in str(error.value)
    assert "kernels (1, k, k) are accepted" in str(error.value)


def test_what_a_refused_rule_emitted_does_not_stay():
    net = nn.Sequential(nn.Conv3d(4, 4, (1, 3, 3)), nn.Conv3d(4, 3, (3, 1, 1), padding=(2, 0, 0)))
    graph = trace(net, X)
    assert sum(isinstance(node.op, ops.Opaque) for node in graph) == 1
    assert isinstance(graph.nodes[-1].op, ops.Opaque)


def test_a_kernel_that_meets_one_plane_of_padding_takes_no_other():
    net = nn.Conv3d(2, 3, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
    graph = capture(net, (1, 2, 2, 3, 3))
    x = torch.randn(1, 2, 2, 3, 3)
    found = interpret(graph, x.numpy())[graph.outputs[0].value]
    with torch.no_grad():
        np.testing.assert_allclose(found, net(x).numpy(), 1e-5, 1e-6)


ONNX = {  # operator -> weight, attributes
    "planes": ("Conv", (6, 2, 1, 3, 3), {"strides": [2, 1, 2], "pads": [0, 1, 1, 0, 0, 1],
                                         "group": 2}),
    "the whole depth": ("Conv", (3, 4, 5, 2, 1), {"strides": [1, 2, 1]}),
    "as large as it was": ("Conv", (3, 4, 1, 3, 2), {"auto_pad": "SAME_UPPER"}),
    "transposed": ("ConvTranspose", (4, 3, 1, 2, 3), {"strides": [1, 2, 2], "pads": [0, 0, 1] * 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", ONNX)
def test_onnx_convolutions_of_planes_are_those_of_onnx_runtime(name, tmp_path):
    operator, shape, attributes = ONNX[name]
    draw = np.random.default_rng(0)
    weight = numpy_helper.from_array(draw.standard_normal(shape).astype(np.float32), "w")
    node = helper.make_node(operator, ["x", "w"], ["y"], **attributes)
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", X), ("y", None))
    )
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    path = tmp_path / "net.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    data = draw.standard_normal(X).astype(np.float32)
    expected = onnxruntime.InferenceSession(path).run(None, {"x": data})[0]
    found = interpret(read_onnx(path), data)["y"]
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


def test_xlogy_of_zeros_and_nan_is_that_of_pytorch():
    numbers = torch.tensor([0.0, 0.0, 0.0, 2.0, float("nan"), 3.0])
    others = torch.tensor([0.0, float("nan"), -1.0, 0.0, 1.0, 2.0])
    graph = capture(Function(torch.xlogy), (6,), (6,))
    with np.errstate(all="ignore"):
        found = interpret(graph, numbers.numpy(), others.numpy())[graph.outputs[0].value]
    np.testing.assert_allclose(found, torch.xlogy(numbers, others).numpy(), 1e-6)
