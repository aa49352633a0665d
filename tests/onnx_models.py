"""Models of ONNX made in a test, and their graphs compared with ONNX's own reference."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from depthwise.graph import Graph, interpret
from depthwise.graph.frontends.onnx import read_onnx

Sizes = Sequence[int | str | None]
Outputs = Callable[[dict[str, np.ndarray]], list[np.ndarray]]

node = helper.make_node


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def model(
    nodes: Sequence[NodeProto], shape: Sizes | Mapping[str, Sizes] = (1, 3, 8, 8),
    weights: Mapping[str, np.ndarray] | None = None, outputs: Sequence[str] = ("y",),
    opset: int = 17, domains: Sequence[tuple[str, int]] = (),
) -> ModelProto:  # fmt: skip
    """Return a model of nodes that read "x", or inputs by name."""
    inputs = shape if isinstance(shape, Mapping) else {"x": shape}
    graph = helper.make_graph(
        list(nodes), "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()],
    )  # fmt: skip
    imports = [helper.make_opsetid(*pair) for pair in (("", opset), *domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def saved(made: ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(made, path)
    return path


def in_onnxruntime(made: ModelProto) -> Outputs:
    """Return a function that runs a model in ONNX Runtime, with none of its optimisations."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda inputs: session.run(None, inputs)


def compare(
    made: ModelProto, folder: Path, shapes: Any = (),
    expected: Outputs | None = None,
) -> Graph:  # fmt: skip
    """Read a model, compare its graph with ONNX's reference or `expected`, return the graph."""
    graph = read_onnx(saved(made, folder), shapes)
    inputs = {name: draw(*type.shape) for name, type in graph.inputs.items()}
    with np.errstate(all="ignore"):
        wanted = expected(inputs) if expected else ReferenceEvaluator(made).run(None, inputs)
    values = interpret(graph, *inputs.values())
    for output, y in zip(graph.outputs, wanted, strict=True):
        found = values[output.value]
        assert found.shape == y.shape
        np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5)
    return graph
