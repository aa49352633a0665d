"""Writes a small network as ONNX, compiles the file, and compares it with ONNX's own evaluator.

Shows the way for networks of TensorFlow, PaddlePaddle and others: `pip install onnx` first.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import depthwise as dw


def write_network(path: str) -> None:
    """Write a convolution, an average over the plane and a linear layer."""
    random = np.random.default_rng(0)
    weights = {
        "conv.weight": random.standard_normal((8, 3, 3, 3), np.float32),
        "conv.bias": random.standard_normal(8, np.float32),
        "linear.weight": random.standard_normal((5, 8), np.float32),
        "linear.bias": random.standard_normal(5, np.float32),
    }
    nodes = [
        helper.make_node(
            "Conv", ["image", "conv.weight", "conv.bias"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "linear.weight", "linear.bias"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 32, 32))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 5))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    onnx.save(model, path)


write_network("small.onnx")
library = dw.compile("small.onnx")
image = np.random.default_rng(1).standard_normal((1, 3, 32, 32), np.float32)
scores = library(image)
(expected,) = ReferenceEvaluator("small.onnx").run(None, {"image": image})
np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4 * abs(expected).max())
print("equal to ONNX's own evaluator:", scores.round(3).tolist())
library.save("small")
