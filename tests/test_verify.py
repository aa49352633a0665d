"""The library against PyTorch: what is recorded, and what is found where something differs."""

import json
import random
import time

import numpy as np
import pytest
import torch
from operator_cases import Function
from torch import nn

import depthwise as dw
from depthwise.compiler.verification.difference import BLOCK, relative_error
from depthwise.compiler.verification.references.interpreter import InterpreterReference
from depthwise.compiler.verification.references.pytorch import PyTorchReference
from depthwise.compiler.verification.trace import Elements, Piece
from depthwise.compiler.verification.verify import HIDDEN, RANDOM, SENSITIVE, TOLERANCE, verify
from depthwise.errors import Mismatch, Unsupported
from depthwise.graph import TensorType, capture, interpret
from depthwise.graph.frontends.torch.capture import export
from depthwise.runtime.manifest import LayerError, Verification


class Interpreted:
    """A network with our interpreter as its library; `change` maps a value's name to a function."""

    def __init__(self, net, *shapes, change=None):
        self.graph = capture(net.eval(), *shapes)
        self.reference = PyTorchReference(export(net, shapes), self.graph)
        self.change = change or {}

        names = {node.name for node in self.graph}
        self.values = frozenset(name for name in names if f"{name}.1" not in names)

    def interpret(self, inputs):
        values = interpret(self.graph, *inputs)
        for name, function in self.change.items():
            values[name] = function(values[name])
        return values

    def __call__(self, inputs, look):
        for name, value in self.interpret(inputs).items():
            if name in self.values:
                look(Piece(name, Elements(value.shape, ())), value)

    def run(self, inputs):
        values = self.interpret(inputs)
        return [values[output.value] for output in self.graph.outputs]

    def verify(self, *samples):
        return verify(self.run, self, self.reference, samples)


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
    net = dw.create_model("mobilenet_v2", width=0.35)
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
        verify(lambda x: [2 * y for y in right.run(x)], right, right.reference)


def test_a_sample_that_differs_is_counted():
    broken = Interpreted(small(), (1, 3, 8, 8), change={"flatten": lambda y: np.clip(y, -50, 50)})
    samples = [np.ones((1, 3, 8, 8), np.float32), np.full((1, 3, 8, 8), 1e4, np.float32)]
    with pytest.raises(Mismatch, match="sample 1: the library's outputs differ"):
        broken.verify(*([x] for x in samples))


def test_a_sample_with_nan_is_no_proof():
    x = np.full((1, 3, 8, 8), np.nan, np.float32)
    with pytest.raises(ValueError, match="sample 0: PyTorch's own outputs hold NaN, or inf"):
        Interpreted(small(), (1, 3, 8, 8)).verify([x])


def test_random_rows_that_a_table_has_not_are_said():
    """Integers are drawn from 0 to 9, and which samples to give is the user's to know."""
    net, ids = nn.Embedding(2, 3), torch.tensor([[0, 1] * 8])
    with pytest.raises(ValueError, match="does not compute embedding: index out of range in self"):
        dw.compile(net, TensorType((1, 16), "int64"))
    library = dw.compile(net, TensorType((1, 16), "int64"), samples=[ids.numpy()])
    np.testing.assert_array_equal(library(ids), net(ids).detach())


def test_whole_numbers_beyond_those_of_float32_are_said():
    net = Function(lambda x: (x.argmax(1) + 50) * 4097 * 4001)
    with pytest.raises(dw.Unsupported, match=r"whole numbers up to [0-9,]{11}: "):
        dw.compile(net, (1, 3, 8, 8))


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
        ([1.0], [float("inf")], float("inf")),
        ([float("inf"), 1.5], [float("inf"), 2.0], 0.25),
        ([-float("inf"), 2.0], [-float("inf"), 2.0], 0.0),
        ([-float("inf"), 2.0], [float("inf"), 2.0], float("inf")),
        ([float("nan"), 2.0], [float("nan"), 2.0], 0.0),
        ([float("nan"), 2.0], [2.0, float("nan")], float("inf")),
        ([3e38], [-3e38], float("inf")),
        ([], [], 0.0),
    ],
)
def test_errors_are_relative_to_the_largest(found, expected, error):
    assert relative_error(np.float32(found), np.float32(expected)) == pytest.approx(error)


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


def test_of_decisions_the_share_that_differs_counts():
    labels = np.arange(20_000)
    found = labels.copy()
    found[7] = 19_000  # by almost all that there is, but one alone
    assert relative_error(found, labels) == 1 / 20_000
    assert relative_error(labels + 1, labels) == 1
    mask = labels > 100
    assert relative_error((~mask).astype(np.float32), mask) == 1


def test_large_arrays_are_compared_in_parts_to_the_last_element():
    expected = np.ones((3, 2, BLOCK), np.float32)[:, :, ::2]
    found = expected.copy()
    assert relative_error(found, expected) == 0
    found[2, 1, -1] = 1.5
    assert relative_error(found, expected) == pytest.approx(0.5)


class Noisy(nn.Module):
    """Adds noise that no operator of PyTorch's draws: this class's own."""

    def forward(self, x):
        return torch.ops.depthwise_tests.noise(x.relu()) + x


@pytest.fixture
def noise():
    """Register an operator that says nothing of the noise it adds, of a given size."""
    size = [1.0]
    random = np.random.default_rng(0)
    with torch.library._scoped_library("depthwise_tests", "DEF") as library:
        library.define("noise(Tensor x) -> Tensor")
        library.impl("noise", lambda x: x + size[0] * float(random.standard_normal()), "CPU")
        library.impl("noise", torch.empty_like, "Meta")
        yield size


@pytest.mark.usefixtures("noise")
def test_a_network_that_differs_from_itself_is_no_function():
    program = export(Noisy().eval(), [(2, 5)])
    right = Interpreted(nn.ReLU(), (2, 5))
    message = r"random input 0: the network is no function .* the first to differ is noise of ''"
    with pytest.raises(Unsupported, match=message):
        verify(right.run, right, PyTorchReference(program, right.graph))


def test_pytorchs_own_error_excuses_nothing_that_was_drawn(noise):
    """Its float64 is far from its float32 here, and yet no judge of the library."""
    noise[0] = 1e-3
    program = export(Noisy().eval(), [(2, 5)])
    right = Interpreted(nn.ReLU(), (2, 5))
    noisy = PyTorchReference(program, right.graph)
    with pytest.raises(Unsupported, match="the network is no function of its inputs"):
        verify(lambda inputs: [2 * y for y in right.run(inputs)], right, noisy)


class Masked(nn.Module):
    """Returns what a causal mask leaves, and the mask's -infinity beside it."""

    def forward(self, x):
        later = torch.full((4, 4), -torch.inf).triu(1)
        return x + later


class Threshold(nn.Module):
    """Lets nothing through that random inputs make."""

    def forward(self, x):
        return torch.relu(x - 1000) + 1


class Rounding(nn.Module):
    """Loses its digits in a branch that counts for little."""

    def forward(self, x):
        return x + 1e-6 * ((x + 1e5) - 1e5)


class Attending(nn.Module):
    """Masks its scores with -infinity, as causal attention does."""

    def forward(self, x):
        later = torch.full((4, 4), -torch.inf).triu(1)
        scores = x @ x.transpose(1, 2) + later
        return scores.softmax(-1) @ x


def test_a_fault_inside_that_the_outputs_do_not_show_is_found():
    dead = Interpreted(nn.Sequential(nn.Conv2d(3, 4, 1), Threshold()), (1, 3, 4, 4))
    dead.verify()
    with pytest.raises(Mismatch, match=r"outputs agree .* inside, conv2d of '0' differs by"):
        Interpreted(
            nn.Sequential(nn.Conv2d(3, 4, 1), Threshold()), (1, 3, 4, 4),
            change={"conv2d": lambda y: 2 * y},
        ).verify()  # fmt: skip


def test_what_pytorch_itself_rounds_away_inside_is_no_fault():
    """A difference of nearly equal numbers, of which the outputs show next to nothing."""
    found = Interpreted(
        Rounding(), (2, 5), change={"sub": lambda y: y + np.float32(0.03)}
    ).verify()  # fmt: skip
    assert max(layer.error for layer in found.layers) > HIDDEN
    assert found.error <= TOLERANCE


def test_a_library_with_infinities_inside_can_be_saved_and_loaded(tmp_path):
    net = Attending().eval()
    library = dw.compile(net, (1, 4, 8))
    library.save(tmp_path / "saved")
    again = dw.load(tmp_path / "saved")
    assert again.manifest == library.manifest
    assert all(layer.error <= TOLERANCE for layer in again.manifest.verification.layers)
    x = np.random.default_rng(3).standard_normal((1, 4, 8), np.float32)
    np.testing.assert_allclose(again(x), net(torch.from_numpy(x)).numpy(), atol=1e-6)


def test_an_infinite_error_is_written_so_that_it_can_be_read():
    check = Verification(
        inputs=1, error=0.0, layers=(LayerError(path="", value="y", error=float("inf")),)
    )
    text = check.model_dump_json()
    assert json.loads(text, parse_constant=pytest.fail)["layers"][0]["error"] == "Infinity"
    assert Verification.model_validate_json(text) == check


def test_infinities_are_compared_by_sign_and_place():
    right = Interpreted(Masked(), (1, 4, 4))
    assert right.verify().error == 0
    turned = {right.graph.outputs[0].value: lambda y: np.where(np.isinf(y), -y, y)}
    with pytest.raises(Mismatch, match="differ from PyTorch's by inf"):
        Interpreted(Masked(), (1, 4, 4), change=turned).verify()


def test_outputs_that_are_infinite_alone_prove_nothing():
    x = np.full((1, 3, 8, 8), np.inf, np.float32)
    with pytest.raises(ValueError, match="sample 0: PyTorch's own outputs hold NaN, or infinities"):
        Interpreted(nn.Flatten(), (1, 3, 8, 8)).verify([x])


class Remembering(nn.Module):
    """Returns what depends on more than its input: `state` says on what."""

    def __init__(self, state):
        super().__init__()
        self.conv, self.state, self.calls, self.seen = nn.Conv2d(3, 4, 3), state, 0, []

    def forward(self, x):
        self.calls += 1
        self.seen.append(1)
        return (
            self.conv(x)
            * {
                "counter": lambda: self.calls,
                "list": lambda: len(self.seen),
                "random": random.random,
                "numpy": lambda: float(np.random.rand()),
                "time": lambda: time.perf_counter_ns() % 10**6,
            }[self.state]()
        )


@pytest.mark.parametrize("state", ["counter", "list", "random", "numpy", "time"])
def test_what_python_keeps_or_draws_is_no_function(state):
    net = Remembering(state).eval()
    with pytest.raises(dw.Unsupported, match="called again on the same ones"):
        dw.compile(net, (1, 3, 8, 8))
    assert (net.calls, net.seen) == (0, [])


class Chaotic(nn.Module):
    """What is left of two large numbers is their rounding."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.conv(x) * 1e12
        return torch.relu(y + 1e12) - torch.relu(y + 1e12 * (1 + 1e-7))


def test_what_rounding_decides_cannot_be_verified():
    with pytest.raises(dw.Unsupported, match="rounding alone decides"):
        dw.compile(Chaotic().eval(), (1, 3, 8, 8))


# ------------------------------------------------------------------- the interpreter as reference


def interpreted(net, *shapes, change=None):
    """Return a network whose graph is its own judge."""
    made = Interpreted(net, *shapes, change=change)
    made.reference = InterpreterReference(made.graph)
    return made


def test_a_graph_judges_its_library_as_pytorch_does():
    net = interpreted(dw.create_model("mobilenet_v2", width=0.35), (1, 3, 32, 32))
    found = net.verify([np.ones((1, 3, 32, 32), np.float32)])
    assert (found.inputs, found.error) == (RANDOM + 1, 0.0)
    assert len(found.layers) == len(net.values)
    assert found.layers[0].path == "stem.conv"
    branches = interpreted(Branches(), (1, 3, 6, 6), (1, 2, 6, 6)).verify()
    assert [layer.value for layer in branches.layers] == ["conv2d", "relu_", "conv2d_1", "add"]


def test_a_graph_names_the_first_value_that_differs():
    wrong = {"relu": lambda y: y * 1.001, "flatten": lambda y: y * 1.001}
    message = "differ from the interpreter's by .* the first to differ is relu of '1', by 0.001"
    with pytest.raises(Mismatch, match=message):
        interpreted(small(), (1, 3, 8, 8), change=wrong).verify()
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Threshold())
    dead = interpreted(net, (1, 3, 4, 4), change={"conv2d": lambda y: 2 * y})
    with pytest.raises(Mismatch, match=r"outputs agree .* inside, conv2d of '0' differs by 1 of"):
        dead.verify()


def test_a_graph_knows_its_own_error_in_float64():
    shape = (2, 5)
    (output,) = capture(Cancelling(), shape).outputs
    for factor in (1.0003, 1.5):
        change = {output.value: lambda y, factor=factor: y * np.float32(factor)}
        net = interpreted(Cancelling(), shape, change=change)
        if factor > 1.1:
            with pytest.raises(Mismatch, match="the library's outputs differ"):
                net.verify()
        else:
            found = net.verify()
            assert TOLERANCE < found.error <= SENSITIVE * found.own_error < SENSITIVE * 1e-2
    (output,) = capture(Chaotic(), (1, 3, 8, 8)).outputs
    chaotic = interpreted(Chaotic(), (1, 3, 8, 8), change={output.value: lambda y: 2 * y})
    with pytest.raises(Unsupported, match=r"rounding alone decides .* the interpreter's float32"):
        chaotic.verify()


def test_the_interpreter_keeps_no_value_that_nothing_will_read():
    graph = capture(small().eval(), (1, 3, 8, 8))
    run = InterpreterReference(graph).start([np.ones((1, 3, 8, 8), np.float32)], {"conv2d", "relu"})
    assert run.value("relu").shape == (1, 8, 6, 6)
    assert set(run._values) == {"conv2d", "relu"}
    run.drop("conv2d")
    assert run.value("conv2d") is None
    assert run.value("conv2d_1") is None  # which nothing asked for
    assert [y.shape for y in run.outputs()] == [(1, 144)]
    assert set(run._values) == {"relu", "flatten"}
