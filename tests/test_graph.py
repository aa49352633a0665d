"""The graph itself: what check refuses, how it prints, what shapes follow."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from depthwise.graph import Constant, Graph, Node, Output, TensorType, capture, check, ops, show

FLOAT = TensorType((1, 4, 5, 5))


@pytest.fixture
def graph() -> Graph:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    return capture(net, (1, 3, 5, 5))


def with_nodes(graph: Graph, *nodes: Node) -> Graph:
    return Graph(graph.inputs, graph.constants, nodes, graph.outputs)


def test_a_sound_graph_passes(graph):
    assert check(graph) is graph


def test_two_values_of_one_name_are_refused(graph):
    first, second = graph.nodes
    with pytest.raises(AssertionError, match="two values are named conv2d"):
        check(with_nodes(graph, first, replace(second, name="conv2d")))


def test_reading_before_computing_is_refused(graph):
    first, second = graph.nodes
    with pytest.raises(AssertionError, match="relu reads conv2d, which is not computed before it"):
        check(with_nodes(graph, second, first))


def test_a_shape_the_operator_does_not_give_is_refused(graph):
    first, second = graph.nodes
    with pytest.raises(
        AssertionError, match=r"conv2d at 0: .* gives \(1, 4, 5, 5\), not \(1, 4, 6"
    ):
        check(with_nodes(graph, replace(first, type=TensorType((1, 4, 6, 6))), second))


def test_inputs_that_do_not_fit_are_refused(graph):
    first, second = graph.nodes
    op = replace(first.op, groups=2)
    with pytest.raises(
        AssertionError, match=r"conv2d at 0: convolution with groups=2: input \(1, 3"
    ):
        check(with_nodes(graph, replace(first, op=op), second))


def test_a_missing_output_is_refused(graph):
    broken = Graph(graph.inputs, graph.constants, graph.nodes, (Output("", "nowhere"),))
    with pytest.raises(AssertionError, match="output '' is nowhere, which is not there"):
        check(broken)


def test_data_of_another_shape_is_refused(graph):
    wrong = {**graph.constants, "0.bias": Constant(TensorType((4,)), np.zeros(5, np.float32))}
    with pytest.raises(AssertionError, match=r"0.bias: data \(5,\), type 4"):
        check(Graph(graph.inputs, wrong, graph.nodes, graph.outputs))


def test_show_prints_a_line_for_each_value(graph):
    assert show(graph).splitlines() == [
        "input   1x3x5x5  input",
        "conv2d  1x4x5x5  Conv2d padding=1          input, .weight, .bias  # 0",
        "relu    1x4x5x5  Activation function=relu  conv2d                 # 1",
        "return relu",
    ]


def test_types_know_their_bytes():
    assert TensorType((2, 3), "float16").bytes == 12
    assert TensorType((2, 3), "bfloat16").bytes == 12
    assert TensorType((), "float32").bytes == 4
    assert str(TensorType((1, 3, 5, 5))) == "1x3x5x5"
    assert str(TensorType((), "int64")) == "scalar int64"


def test_readers_and_weights(graph):
    conv, relu = graph.nodes
    assert graph.readers()["conv2d"] == [relu]
    assert graph.weights(conv) == ("0.weight", "0.bias")
    assert graph.activations(conv) == ("input",)


def test_ops_are_values():
    assert ops.Linear() == ops.Linear()
    assert hash(ops.Activation("clamp", (0.0, 1.0))) == hash(ops.Activation("clamp", (0.0, 1.0)))


def test_a_node_without_elements_is_refused():
    node = Node("y", ops.Slice(1, 2, 2, 1), ("x",), TensorType((2, 0)), "")
    with pytest.raises(AssertionError, match=r"y has the shape \(2, 0\), no elements"):
        check(Graph({"x": TensorType((2, 3))}, {}, (node,), (Output("", "y"),)))
