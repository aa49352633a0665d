"""Networks in float16: sums in halves, its range, CPUs without it, and weights alone."""

import os
import subprocess
import sys
from importlib.resources import files
from itertools import product

import numpy as np
import pytest
import torch
from foreign import run_foreign
from narrow_networks import TARGETS, Block, draw_inputs, needs, run, small_network
from torch import nn

import depthwise as dw
from depthwise.bench.exported_model import Question, plan_in
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.pipeline import narrowed, rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.summation import step_channels
from depthwise.compiler.verification.references.simulator import (
    Summed,
    convolve,
    simulate,
    sum_steps,
)
from depthwise.graph import Graph, ops
from depthwise.graph.dtypes import BFLOAT16, FLOAT16
from depthwise.graph.interpret import interpret
from depthwise.runtime.target import AVX512_FP16, cpu_features, find_target
from depthwise.toolchain.build import compile_c


@pytest.fixture(scope="module")
def narrow() -> Graph:
    return rewrite(small_network(), precision="float16")


def test_sums_in_halves_are_others_and_near(narrow: Graph):
    inputs = draw_inputs(narrow)
    found = [simulate(narrow, *inputs, halves=halves) for halves in (False, True)]
    errors = [
        np.abs(one - other).max() / np.abs(one).max() for one, other in zip(*found, strict=True)
    ]
    assert all(error < 4e-3 for error in errors), "a few roundings of 11 bits"
    assert sum(error > 0 for error in errors) > len(errors) / 2


# ------------------------------------------------------------------------------ the definition


@pytest.mark.parametrize("naive", [False, True])
@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v2", "portable"])
def test_every_half_becomes_its_float_and_is_the_nearest_to_all_around(target: str, naive: bool):
    """All 65536 of them, and floats between: by vectors, by bits, and as NumPy rounds."""
    bits = np.arange(2**16, dtype=np.uint16)
    halves = bits.view(np.float16).astype(np.float32)
    ends = halves[np.isfinite(halves)]
    between = [ends, np.nextafter(ends, np.inf), np.nextafter(ends, -np.inf)]
    steps = np.sort(ends)
    middle = (steps[1:].astype(np.float64) + steps[:-1]) / 2
    middle = middle.astype(np.float32)  # each is a float: ties
    between += [middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf)]
    special = np.array([65519.996, 65520, 1e30, np.inf, np.nan, 2.0**-25, 2.0**-26], np.float32)
    numbers = np.concatenate([*between, special, -special])
    graph = copied(numbers.size + numbers.size % 2)
    given = np.zeros((1, numbers.size + numbers.size % 2), np.float32)
    given[0, : numbers.size] = numbers
    (found,) = run(graph, needs(target), [given], naive)
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found[0, : numbers.size], expected)
    signs = np.signbit(found[0, : numbers.size]) == np.signbit(expected)
    assert signs[~np.isnan(expected)].all()


def copied(count: int) -> Graph:
    """Return a graph that makes halves of floats and floats of these."""
    from depthwise.graph import Node, Output, TensorType

    def node(name: str, dtype: str, given: str) -> Node:
        return Node(name, ops.Cast(dtype), (given,), TensorType((1, count), dtype), "")

    nodes = (node("half", "float16", "x"), node("back", "float32", "half"))
    return Graph({"x": TensorType((1, count), "float32")}, {}, nodes, (Output("", "back"),))


@pytest.mark.parametrize(
    ("channels", "depth"), [(2, 2), (24, 24), (64, 64), (66, 34), (96, 48), (130, 44), (160, 54)]
)
def test_steps_have_as_many_channels(channels: int, depth: int):
    assert step_channels(channels, FLOAT16) == depth
    assert step_channels(channels, BFLOAT16) == min(channels, 32)


def test_sums_in_halves_are_in_the_order_of_the_definition():
    draw = np.random.default_rng(2)
    shapes = ((3, 2, 70), (2, 70, 5))
    pixels, taps = (draw.standard_normal(shape).astype(np.float16) for shape in shapes)
    bias = draw.standard_normal(5).astype(np.float32)
    found = sum_steps(
        pixels.astype(np.float32), taps.astype(np.float32), bias, Summed(FLOAT16, True)
    )

    def add(sum, x, w):  # the product is exact in float64, and what is added to it beside it
        return np.float16(float(sum) + float(x) * float(w))

    for p, k in product(range(3), range(5)):
        acc = bias[k]
        for t, step in product(range(2), range(0, 70, 36)):
            even = odd = np.float16(0)
            for c in range(step, min(step + 36, 70), 2):
                even = add(even, pixels[p, t, c], taps[t, c, k])
                odd = add(odd, pixels[p, t, c + 1], taps[t, c + 1, k])
            acc = acc + np.float32(even + odd)
        assert found[p, k] == acc


def test_depthwise_sums_in_halves_begin_with_the_bias():
    draw = np.random.default_rng(3)
    x, weight = (
        draw.standard_normal(shape).astype(np.float16) for shape in ((1, 2, 3, 3), (2, 1, 3, 3))
    )
    bias = draw.standard_normal(2).astype(np.float32)
    op = ops.Conv2d((1, 1), ops.Padding(0, 0, 0, 0), (1, 1), 2)
    whole = [a.astype(np.float32) for a in (x, weight)]
    found = convolve(op, *whole, bias, False, Summed(FLOAT16, True))
    for c in range(2):
        acc = np.float16(bias[c])
        for r, s in product(range(3), range(3)):
            acc = np.float16(float(acc) + float(x[0, c, r, s]) * float(weight[c, 0, r, s]))
        assert found[0, c, 0, 0] == acc


# -------------------------------------------------------------------------- networks, end to end


@pytest.fixture(scope="module")
def block() -> nn.Module:
    torch.manual_seed(0)
    return Block().eval()


@pytest.mark.slow
def test_arm_that_computes_in_halves_gives_the_bits_of_the_simulator(block: nn.Module, tmp_path):
    library = dw.compile(block, (2, 3, 36, 40), precision="float16", target="aarch64-fp16")
    library.save(tmp_path / "out")
    x = np.random.default_rng(4).standard_normal((2, 3, 36, 40), np.float32)
    graph = rewrite(dw.open(block, (2, 3, 36, 40)).graph, precision="float16")
    (found,) = run_foreign(tmp_path / "out", [x])
    (expected,) = simulate(graph, x, halves=True)
    # softmax is computed by an exponential of ours, printed with nine digits
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


# -------------------------------------------------------------------------- what it cannot hold


class Loud(nn.Module):
    """The second convolution gives numbers of about `size`, which the third makes small again.

    One of its weights may be beyond the range, of a channel that is as small.
    """

    def __init__(self, size: float, weight: float = 0.0):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.loud = nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 1)
        self.quiet, self.last = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1)
        for layer, factor in ((self.loud, size), (self.quiet, 1 / size)):
            layer.weight.data.uniform_(0.5, 1.0).mul_(factor)
            layer.bias.data.zero_()
        if weight:
            self.loud.weight.data[0, 0] = weight
            self.first.weight.data[0] *= 100 / weight
            self.first.bias.data[0] = 0

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(torch.relu(self.quiet(torch.relu(self.loud(x)))))


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize(
    ("size", "weight", "kept"),
    [(1.0, 0.0, []), (1e6, 0.0, ["loud", "quiet"]), (1.0, 1e5, ["loud"])],
)
def test_layers_beyond_the_range_stay_in_float32_and_are_told(target, size, weight, kept):
    net = Loud(size, weight).eval()
    library = dw.compile(net, (1, 2, 5, 5), precision="float16", target=target)
    told = library.manifest.build.kept
    assert [each.path for each in told] == kept
    assert all(each.largest >= 65504 / 4 for each in told)
    x = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = net(x)
    assert (library(x) - expected).abs().max() < 0.01 * expected.abs().max()


class Quiet(nn.Module):
    """Its second layer makes numbers of about `size`, which its last one reads."""

    def __init__(self, size: float):
        super().__init__()
        torch.manual_seed(2)
        self.first, self.faint, self.last = (
            nn.Conv2d(*channels, 1, bias=False) for channels in ((2, 8), (8, 8), (8, 6))
        )
        self.faint.weight.data.mul_(size)

    def forward(self, x):
        return self.last(torch.relu(self.faint(torch.relu(self.first(x)))))


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize(
    ("size", "kept"),
    [(0.1, []), (1e-4, ["faint", "last"]), (1e-9, ["faint", "last"]), (0.0, [])],
)
def test_layers_of_numbers_too_small_stay_in_float32_and_are_told(target, size, kept):
    net = Quiet(size).eval()
    library = dw.compile(net, (1, 2, 5, 5), precision="float16", target=target)
    told = library.manifest.build.kept
    assert [each.path for each in told] == kept
    assert all(0 < each.largest < 4 * 2**-14 for each in told)
    x = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = net(x)
    assert (library(x) - expected).abs().max() <= 0.01 * expected.abs().max()


def test_what_is_computed_in_float32_anyway_is_not_named():
    """A softmax of 20,000 has small numbers, and no kernel in float16."""
    net = nn.Sequential(nn.Linear(8, 20_000), nn.Softmax(1)).eval()
    net[0].weight.data.mul_(0.01)
    assert dw.compile(net, (1, 8), precision="float16").manifest.build.kept == ()


def test_layers_are_timed_in_the_types_that_a_library_has():
    question = Question("loud", {}, "", Loud(1e6).eval(), (1, 2, 5, 5))
    steps = plan_in(question, "float16").steps
    narrow = {step.path for step in steps if step.kernel.startswith("f16_")}
    whole = {step.path for step in steps if step.kernel.startswith("f32_")}
    assert {"first", "last"} <= narrow - whole
    assert {"loud", "quiet"} <= whole - narrow


def test_samples_show_what_random_inputs_do_not():
    net, sample = Loud(1.0).eval(), np.full((1, 2, 5, 5), 1e5, np.float32)
    library = dw.compile(net, (1, 2, 5, 5), precision="float16", samples=[sample])
    assert [each.path for each in library.manifest.build.kept] == ["first", "loud", "quiet", "last"]
    with torch.no_grad():
        expected = net(torch.from_numpy(sample)).numpy()
    assert np.abs(library(sample) - expected).max() < 1e-4 * np.abs(expected).max()


# -------------------------------------------------------------------------- a CPU without halves

REFUSED = """
import ctypes, sys
from depthwise.runtime.library import Code

shared = ctypes.CDLL(sys.argv[1])
print(shared.net_halves(), shared.net_run(None, None, None, None))
try:
    Code(open(sys.argv[1], "rb").read())
except ValueError as error:
    print(error)
"""


def test_a_cpu_without_halves_is_an_error_and_stops_no_program(narrow: Graph):
    needs(AVX512_FP16.name)
    if "cpuid_fault" not in cpu_features():
        pytest.skip("CPUID cannot be changed here: NOT TESTED")
    held = (files("depthwise.bench") / "narrow.c").read_text()
    environment = {**os.environ, "LD_PRELOAD": str(compile_c(held, find_target("x86-64-v3")))}
    path = compile_c(emit(make_plan(narrow, AVX512_FP16)), AVX512_FP16)
    ran = subprocess.run(
        [sys.executable, "-c", REFUSED, str(path)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    assert first == "0 5"  # NET_CPU
    assert "computes in float16, which this CPU does not" in second


# ----------------------------------------------------------------- weights in float16, all else not


class Gated(nn.Module):
    """A gate and a classifier, whose weights are most of what is read; convolutions beside them."""

    def __init__(self):
        super().__init__()
        self.stem, self.squeeze = nn.Conv2d(3, 72, 3, 2, 1), nn.Conv2d(72, 18, 1)
        self.excite, self.classify = nn.Conv2d(18, 72, 1), nn.Linear(72, 301)

    def forward(self, x):
        x = nn.functional.hardswish(self.stem(x))
        gate = nn.functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        x = x * nn.functional.hardsigmoid(self.excite(gate))
        return self.classify(x.mean((2, 3)))


@pytest.mark.parametrize("naive", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_stored_weights_are_computed_in_float32(target: str, naive: bool):
    torch.manual_seed(2)
    graph = dw.open(Gated().eval(), (2, 3, 9, 9)).graph
    graph = narrowed(rewrite(graph), "float32", weights="float16")
    stored = [name for name, c in graph.constants.items() if c.type.dtype == "float16"]
    assert len(stored) == 3
    inputs = draw_inputs(graph)
    (found,) = run(graph, needs(target), inputs, naive)
    expected = interpret(graph, *inputs)[graph.outputs[0].value]
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_library_stores_weights_in_float16(threads: int):
    torch.manual_seed(2)
    net = Gated().eval()
    whole, half = (
        dw.compile(net, (1, 3, 9, 9), stored_weights=weights, threads=threads)
        for weights in ("float32", "float16")
    )
    proof, memory = half.manifest.verification, half.manifest.memory
    assert proof
    assert proof.reference == "the interpreter"
    assert proof.error < 1e-5
    assert proof.distance
    assert 0 < proof.distance.error < 1e-3
    assert half.manifest.build.stored_weights == "float16"
    stored = 2 * 72 * 18 + 72 * 301
    assert memory.weights_bytes < whole.manifest.memory.weights_bytes - 1.8 * stored


def test_weights_that_float16_cannot_hold_stay_as_they_are():
    net = nn.Linear(8, 4)
    net.weight.data[0, 0] = 1e5
    library = dw.compile(net, (1, 8), stored_weights="float16")
    x = torch.ones(1, 8)
    with torch.no_grad():
        assert (library(x) - net(x)).abs().max() < 0.1
