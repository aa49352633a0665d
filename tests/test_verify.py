"""The library against PyTorch: what is recorded, and what is found where something differs."""

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.compiler.build import compile_c
from depthwise.compiler.library import Code
from depthwise.compiler.memory import Arena
from depthwise.compiler.places import Buffer, Place
from depthwise.compiler.plan import Plan
from depthwise.compiler.target import find_target
from depthwise.compiler.verify import (
    RANDOM,
    SENSITIVE,
    TOLERANCE,
    Mismatch,
    relative_error,
    trace_plan,
    verify,
)
from depthwise.graph import capture, interpret
from depthwise.graph.capture import export


class Interpreted:
    """A network with our interpreter as its library; `change` maps a value's name to a function."""

    def __init__(self, net, *shapes, change=None):
        self.program, self.graph = export(net.eval(), shapes), capture(net, *shapes)
        self.change = change or {}

    def trace(self, inputs):
        values = interpret(self.graph, *inputs)
        for name, function in self.change.items():
            values[name] = function(values[name])
        return values

    def run(self, inputs):
        values = self.trace(inputs)
        return [values[output.value] for output in self.graph.outputs]

    def verify(self, *samples):
        return verify(self.run, self.trace, self.program, samples)


class Branches(nn.Module):
    """Two inputs, named outputs, an operator in place."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(2, 4, 3)

    def forward(self, x, y):
        z = self.left(x)
        return {"sum": z.relu_() + self.right(y), "left": z}


def small():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten())


def test_a_right_library_passes_with_every_value_compared():
    net = dw.build("mobilenet_v2", width=0.35)
    found = Interpreted(net, (1, 3, 32, 32)).verify([np.ones((1, 3, 32, 32), np.float32)])
    assert found.inputs == RANDOM + 1
    assert 0 < found.error < 1e-5
    assert all(layer.error < 1e-4 for layer in found.layers)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    compared = [layer for layer in found.layers if layer.value.startswith("conv2d")]
    assert len(compared) == len(convolutions)
    assert compared[0].path == "stem.conv"


def test_the_largest_error_of_all_inputs_is_kept():
    def rough(y):
        largest = np.abs(y).max()
        return y + np.float32(3e-5) * largest * (largest > 50)

    fine = Interpreted(small(), (1, 3, 8, 8), change={"flatten": rough})
    loud = np.full((1, 3, 8, 8), 1e5, np.float32)
    assert fine.verify().error < 1e-6
    found = fine.verify([loud], [loud / 1e5])
    assert found.error == pytest.approx(3e-5, rel=0.1)
    assert found.layers[-1].error == pytest.approx(3e-5, rel=0.1)


def test_in_place_operators_and_several_outputs():
    found = Interpreted(Branches(), (1, 3, 6, 6), (1, 2, 6, 6)).verify()
    assert [layer.value for layer in found.layers] == ["conv2d", "relu_", "conv2d_1", "add"]
    assert found.error < 1e-6
    # what an operator in place overwrote is compared as it was before
    assert all(layer.error < 1e-6 for layer in found.layers)


@pytest.mark.parametrize(
    ("value", "path"), [("conv2d", "0"), ("relu", "1"), ("conv2d_1", "2"), ("flatten", "3")]
)
@pytest.mark.parametrize("wrong", [lambda y: y * 1.001, lambda y: y * np.nan])
def test_the_first_value_that_differs_is_named(value, path, wrong):
    broken = Interpreted(small(), (1, 3, 8, 8), change={value: wrong, "flatten": wrong})
    message = f"random input 0: .* accepted; the first to differ is {value} of '{path}', by "
    with pytest.raises(Mismatch, match=message):
        broken.verify()


def test_outputs_alone_may_be_at_fault():
    right = Interpreted(small(), (1, 3, 8, 8))
    with pytest.raises(Mismatch, match="every value inside agrees, so that the outputs are"):
        verify(lambda x: [2 * y for y in right.run(x)], right.trace, right.program)


def test_a_sample_that_differs_is_counted():
    broken = Interpreted(small(), (1, 3, 8, 8), change={"flatten": lambda y: np.clip(y, -50, 50)})
    samples = [np.ones((1, 3, 8, 8), np.float32), np.full((1, 3, 8, 8), 1e4, np.float32)]
    with pytest.raises(Mismatch, match="sample 1: the library's outputs differ"):
        broken.verify(*([x] for x in samples))


def test_a_sample_with_nan_is_no_proof():
    x = np.full((1, 3, 8, 8), np.nan, np.float32)
    with pytest.raises(ValueError, match="sample 0: PyTorch's own outputs hold NaN or infinity"):
        Interpreted(small(), (1, 3, 8, 8)).verify([x])


class Logarithm(nn.Module):
    """A network that makes no number of a negative one."""

    def forward(self, x):
        return torch.log(x)


def test_random_inputs_that_give_no_numbers_do_not_count():
    net = Interpreted(Logarithm(), (1, 9))
    with np.errstate(invalid="ignore"):
        assert net.verify([np.full((1, 9), 2, np.float32)]).inputs == 1
        with pytest.raises(ValueError, match=r"random inputs: .* give samples that the network is"):
            net.verify()


@pytest.mark.parametrize("shapes", [[], [(1, 3, 8, 7)], [(1, 3, 8, 8), (1,)]])
def test_samples_of_other_shapes_are_refused(shapes):
    sample = [np.ones(shape, np.float32) for shape in shapes]
    with pytest.raises(ValueError, match=r"sample 0 has the shapes .*: the network takes inputs "):
        Interpreted(small(), (1, 3, 8, 8)).verify(sample)


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, -2.5], [1.0, -2.0], 0.25),
        ([0.0], [0.0], 0.0),
        ([1e-9], [0.0], float("inf")),
        ([float("nan")], [1.0], float("inf")),
        ([float("inf")], [1.0], float("inf")),
        ([], [], 0.0),
    ],
)
def test_errors_are_relative_to_the_largest(found, expected, error):
    assert relative_error(np.float32(found), np.float32(expected)) == pytest.approx(error)


def test_values_are_read_from_where_the_plan_put_them():
    source = """#include <stddef.h>
size_t net_arena_bytes(void) { return 512; }
size_t net_weights_bytes(void) { return 64; }
int net_run(const void *weights, const float *in, float *out, void *arena) {
    for (int i = 0; i < 128; i++) ((float *)arena)[i] = i + in[0] * ((const float *)weights)[0];
    out[0] = 0;
    return 0;
}
"""
    graph = capture(nn.ReLU(), (1,))
    places = {  # an image of 2 x 3 pixels of 4 floats, 2 channels of it, in rows of 5 pixels
        "image": Place(1, 5, (1, 2, 2, 3), (40, 1, 20, 4)),
        "row": Place(2, 1, (3,), (1,)),
        "input": Place(3, 0, (1,), (1,)),
    }
    buffers = (Buffer("weights", 16), Buffer("arena", 40), Buffer("arena", 4),
               Buffer("input", 1), Buffer("output", 1))  # fmt: skip
    plan = Plan(graph=graph, target=find_target("native"), regions=(), buffers=buffers,
                arena=Arena({1: 128, 2: 64}, 512), weights=np.full(16, 100, np.float32),
                places=places)  # fmt: skip
    code = Code(compile_c(source, plan.target))
    found = trace_plan(plan, code)([np.full(1, 10, np.float32)])
    assert set(found) == {"image", "row"}
    pixel, channel = np.array([[0, 4, 8], [20, 24, 28]]), np.array([0, 1])
    expected = 1000 + 32 + 5 + pixel + channel[:, None, None]
    np.testing.assert_array_equal(found["image"], expected[None])
    np.testing.assert_array_equal(found["row"], 1000 + 16 + 1 + np.arange(3))


class Cancelling(nn.Module):
    """Loses four digits in float32, none to speak of in float64."""

    def forward(self, x):
        return (x + 1e4) - 1e4


class SingleOnly(nn.Module):
    """Multiplies by a matrix of float32, and so cannot be computed in float64."""

    def forward(self, x):
        return x @ torch.ones(5, 4, dtype=torch.float32)


def off_by(net, factor):
    shape = (2, 5)
    (output,) = capture(net, shape).outputs
    return Interpreted(net, shape, change={output.value: lambda y: y * np.float32(factor)})


def test_a_sensitive_network_is_held_to_pytorchs_own_error():
    found = off_by(Cancelling(), 1.0003).verify()
    assert found.error > TOLERANCE
    assert found.own_error is not None
    assert found.error <= SENSITIVE * found.own_error
    with pytest.raises(Mismatch, match="the library's outputs differ"):
        off_by(Cancelling(), 1.5).verify()


def test_a_network_that_float64_cannot_judge_is_held_to_the_tolerance():
    with pytest.raises(Mismatch, match="the library's outputs differ"):
        off_by(SingleOnly(), 1.5).verify()
