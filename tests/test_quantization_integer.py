"""What is computed in integers: against plain loops, and against what the integers stand for."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from quantization_networks import SHAPE, encoded, images, mixed, quantized
from torch import nn

from depthwise.graph import TensorType, capture, check, interpret, ops
from depthwise.graph.interpret import compute
from depthwise.graph.ops import Padding
from depthwise.quantization.insertion import insert_quantization
from depthwise.quantization.integer import to_integers
from depthwise.quantization.integer_ops import (
    IntegerAdd,
    IntegerLayer,
    IntegerMean,
    IntegerMultiply,
    Lookup,
    Requantize,
    Rescale,
    multiplier,
    sums,
)
from depthwise.quantization.placement import place
from depthwise.quantization.preparing import prepare
from depthwise.quantization.simulation import IntegerSimulator, simulate


def counted(graph):
    return Counter(type(node.op) for node in graph)


def test_everything_between_input_and_scores_is_computed_in_integers():
    found = to_integers(quantized(mixed()))
    check(found)
    assert counted(found) == {
        ops.Quantize: 1, IntegerLayer: 8, Lookup: 2, IntegerMean: 3, IntegerMultiply: 1,
        ops.MaxPool2d: 1, Rescale: 2, ops.Concat: 1,
    }  # fmt: skip
    floating = [node for node in found if node.type.dtype == "float32"]
    assert [type(node.op) for node in floating] == [IntegerLayer]  # the scores


def test_the_simulator_computes_what_the_integers_stand_for():
    """But for values that lie between two numbers, where a digit of float32 decides."""
    graph, x = quantized(mixed()), images(40, seed=1)
    found = simulate(graph, x)
    known = np.concatenate([interpret(graph, each[None])[graph.outputs[0].value] for each in x])
    step = np.abs(known).max() / 255
    assert found.shape == (40, 5)
    assert np.mean(np.abs(found - known) < 1e-5) > 0.9
    assert np.abs(found - known).max() < 2 * step


def loops(x, weight, zero, stride, padding, groups):
    """Return sums of a convolution, one product at a time, in Python's integers."""
    outputs, inputs, rows, columns = weight.shape
    height = (x.shape[1] + 2 * padding - rows) // stride + 1
    y = np.zeros((outputs, height, height), object)
    for k, i, j in np.ndindex(*y.shape):
        first = k // (outputs // groups) * inputs
        for c, r, s in np.ndindex(inputs, rows, columns):
            down, right = i * stride + r - padding, j * stride + s - padding
            if 0 <= down < x.shape[1] and 0 <= right < x.shape[2]:
                y[k, i, j] += (int(x[first + c, down, right]) - zero) * int(weight[k, c, r, s])
    return y


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "stride", "padding", "groups"),
    [(5, 7, 1, 1, 0, 1), (3, 4, 3, 2, 1, 1), (6, 6, 3, 1, 1, 6), (6, 4, 5, 2, 2, 2)],
)
@pytest.mark.parametrize("zero", [0, 128, 255])
def test_sums_are_exact(channels, outputs, size, stride, padding, groups, zero):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (1, channels, 6, 6)).astype(np.uint8)
    weight = random.integers(-127, 128, (outputs, channels // groups, size, size)).astype(np.int8)
    pads = Padding(padding, padding, padding, padding)
    op = IntegerLayer(ops.Conv2d((stride, stride), pads, (1, 1), groups), zero)
    found = sums(op, x, weight)
    assert found.tolist() == loops(x[0], weight, zero, stride, padding, groups)[None].tolist()


def test_sums_that_float32_does_not_hold_are_exact():
    x, weight = np.full((1, 3000), 255, np.uint8), np.full((1, 3000), 127, np.int8)
    weight[0, 0] = 126  # odd numbers above 2^24 are between those of float32
    found = sums(IntegerLayer(ops.Linear(), 0), x, weight)
    assert found.tolist() == [[255 * 127 * 3000 - 255]]


def test_a_sum_is_rounded_in_float32_step_by_step():
    """float(sum) · multiplier + float(residual - zero) · ratio, each rounded, ties to even."""
    factor, ratio = np.float32(0.0123), np.float32(0.37)
    op = IntegerLayer(ops.Linear(), 3, Requantize(7, 7, 200), 11, float(ratio))
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (64, 5)).astype(np.uint8)
    weight = random.integers(-127, 128, (2, 5)).astype(np.int8)
    bias, rest = np.array([100, -3000], np.int32), random.integers(0, 256, (64, 2)).astype(np.uint8)
    found = compute(
        op, type_of(np.zeros((64, 2), np.uint8)), x, weight, bias, np.full(2, factor), rest
    )
    for i, k in np.ndindex(64, 2):
        total = sum((int(a) - 3) * int(w) for a, w in zip(x[i], weight[k], strict=True)) + bias[k]
        product = np.float32(np.float64(np.float32(total)) * np.float64(factor))
        other = np.float32(np.float64(int(rest[i, k]) - 11) * np.float64(ratio))
        real = np.float32(np.float64(product) + np.float64(other))
        assert found[i, k] == min(max(round(float(real)) + 7, 7), 200)


def type_of(array):
    return TensorType(array.shape, str(array.dtype))


def test_means_divide_by_the_pixels_that_count():
    x = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4) + 100
    pool = ops.AvgPool2d((3, 3), (2, 2), Padding(1, 1, 1, 1), False, False, None)
    op = IntegerMean(pool, 100, 2.0, Requantize(5))
    known = nn.AvgPool2d(3, 2, 1, count_include_pad=False)(torch.arange(16.0).reshape(1, 1, 4, 4))
    found = compute(op, type_of(np.zeros((1, 1, 2, 2), np.uint8)), x)
    assert found.tolist() == (np.rint(known.numpy() * 2) + 5).tolist()


@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_adaptive_means_are_those_of_their_bins(size):
    x = np.random.default_rng(0).integers(0, 256, (1, 2, 5, 7)).astype(np.uint8)
    op = IntegerMean(ops.AdaptivePool2d("mean", size), 40, 0.5)
    found = compute(op, type_of(np.zeros((1, 2, *size), np.float32)), x)
    known = nn.functional.adaptive_avg_pool2d(torch.from_numpy(x).double() - 40, size) * 0.5
    assert np.allclose(found, known.numpy(), rtol=1e-6)


def test_sums_of_two_values_meet_at_the_scale_of_the_result():
    op = IntegerAdd((10, 200), (0.5, 1.25), Requantize(60))
    a, b = np.array([[10, 11, 255]], np.uint8), np.array([[200, 202, 0]], np.uint8)
    found = compute(op, type_of(a), a, b)
    assert found.tolist() == [[60, 63, 0]]  # 0.5 + 2.5 = 3; 122.5 - 250 is below 0


def test_multipliers_are_computed_in_double_precision():
    a, b, over = np.float32(0.1), np.float32(0.3), np.float32(0.7)
    assert multiplier(a, b, over=float(over)) == np.float32(float(a) * float(b) / float(over))


def test_a_layer_is_rounded_once_after_its_residual():
    graph = prepare(capture(mixed(), SHAPE))
    placed = place(graph)
    ends = {placed.layers[name].path: placed.end(name) for name in placed.layers}
    nodes = {node.name: node for node in graph}
    assert isinstance(nodes[ends["project"]].op, ops.Binary)
    assert nodes[ends["expand.0"]].op == ops.Activation("clamp", (0.0, 6.0))
    assert ends["stem.0"] == next(n for n, each in placed.layers.items() if each.path == "stem.0")


class Twice(nn.Module):
    """Two layers whose outputs are added: one of them ends in the sum."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.last(torch.relu(self.a(x) + self.b(x)))


def test_of_two_layers_that_are_added_the_later_one_ends_in_the_sum():
    found = to_integers(quantized(Twice()))
    layers = [node for node in found if isinstance(node.op, IntegerLayer)]
    assert [node.path for node in layers] == ["a", "b", "last"]
    assert [len(node.inputs) for node in layers] == [4, 5, 4]
    assert layers[1].op.then.low == layers[1].op.then.zero  # the relu


class Attention(nn.Module):
    """A product of two activations, which has no form in integers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        y = self.a(x)
        return self.b(torch.softmax(y @ y.transpose(1, 2), 2) @ y)


def test_what_has_no_form_in_integers_is_computed_in_float32():
    x = np.random.default_rng(0).standard_normal((16, 5, 6)).astype(np.float32)
    graph = insert_quantization(encoded(capture(Attention().eval(), (1, 5, 6)), x))
    found = to_integers(graph)
    assert counted(found)[IntegerLayer] == 2
    assert counted(found)[ops.MatMul] == 2
    known = interpret(graph, x[:1])[graph.outputs[0].value]
    assert np.allclose(simulate(graph, x[:1]), known, atol=0.05 * np.abs(known).max())


def test_kept_layers_stay_in_float32():
    encoding = encoded(capture(mixed(), SHAPE), images(32))
    (name,) = (n for n, node in encoding.placement.layers.items() if node.path == "depthwise.0")
    graph = insert_quantization(replace(encoding, kept=frozenset({name})))
    found = to_integers(graph)
    assert [n.path for n in found if isinstance(n.op, ops.Conv2d)] == ["depthwise.0"]
    (kept,) = (node for node in found if isinstance(node.op, ops.Conv2d))
    assert graph.type(kept.inputs[1]).dtype == "float32"


def test_inputs_that_do_not_fit_are_refused():
    run = IntegerSimulator(quantized(mixed()))
    with pytest.raises(ValueError, match="0 inputs: the network takes 1"):
        run()
    with pytest.raises(ValueError, match="convert it"):
        run(images(1).astype(np.float64))
    with pytest.raises(ValueError, match="1x3x8x12: the network takes 1x3x12x12"):
        run(images(1)[:, :, :8])
