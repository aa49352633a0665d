"""Quantised networks as libraries: the bytes of the simulator on every kind of CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from foreign import run_foreign
from quantised_networks import quantised, small_network
from torch import nn

import depthwise as dw
from depthwise.compiler import pipeline
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.planning import make_plan
from depthwise.compiler.quantised import SimulatorReference, options_of_bytes
from depthwise.compiler.verification.verify import SENSITIVE, TOLERANCE
from depthwise.errors import Mismatch, Unsupported
from depthwise.graph import Graph, ops
from depthwise.quantization.integer import to_integers
from depthwise.quantization.integer_ops import IntegerAdd, IntegerMean, IntegerMultiply, IntegerOp
from depthwise.quantization.simulation import simulate
from depthwise.runtime.target import find_target

SIDE = 21
GRAPH = small_network(SIDE)


def image(seed: int, images: int = 1) -> np.ndarray:
    """Return images of noise; those of odd seeds have numbers that are none, and endless ones."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((images, 3, SIDE, SIDE), np.float32) * 2
    if seed % 2:
        strange = np.array([np.nan, -np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-42, -0.0], np.float32)
        x.reshape(-1)[draw.integers(0, x.size, 64)] = np.resize(strange, 64)
    return x


def is_simulated(run, graph: Graph = GRAPH, images: int = 1) -> bool:
    """Tell whether what is run gives the bits of the simulator."""
    for seed in range(5):
        x = image(seed, images)
        for found, right in zip(run(x), simulate(graph, x), strict=True):
            if not np.array_equal(found, right):
                return False
    return True


def test_all_of_it_is_computed_in_integers():
    rewritten = pipeline.rewrite(GRAPH)
    integers = [type(node.op).__name__ for node in rewritten if isinstance(node.op, IntegerOp)]
    assert {"IntegerLayer", "IntegerMean", "IntegerMultiply", "Lookup"} <= set(integers)
    floats = [node.name for node in rewritten if node.type.dtype == "float32"]
    assert floats == ["conv2d_6", "linear"]  # what the network returns


class Segmentation(nn.Module):
    """It returns classes, whether they are certain, and bytes that no scale holds."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        scores = self.head(torch.relu(self.stem(x)))
        classes = scores.argmax(1)
        return classes, scores.amax(1) > 1, classes.to(torch.uint8) + 253


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
def test_what_is_no_number_by_a_scale_keeps_its_type(target):
    graph = quantised(dw.open(Segmentation().eval(), (1, 3, SIDE, SIDE)).graph)
    library = dw.compile(graph, target=target)
    assert [y.dtype for y in library(image(0))] == ["int64", "bool", "uint8"]
    assert is_simulated(library, graph)


@pytest.mark.parametrize(
    ("channels", "outs", "tiles"), [(16, 72, 0), (16, 64, 1), (48, 12, 0), (64, 24, 1)]
)
def test_layers_of_few_products_are_left_to_vectors_where_there_are_tiles(channels, outs, tiles):
    net = nn.Sequential(nn.Conv2d(channels, outs, 1), nn.ReLU(), nn.Conv2d(outs, 8, 1)).eval()
    graph = quantised(dw.open(net, (1, channels, 16, 16)).graph)
    plan = make_plan(pipeline.rewrite(graph), find_target("x86-64-amx"))
    step = next(step for step in plan.steps if step.kernel == "u8_quantized_conv")
    assert step.arguments["tiles"] == tiles


class PooledForFloats(nn.Module):
    """Maxima that only a normalisation in floats reads, and others that are returned."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        return nn.functional.max_pool2d(self.last(nn.functional.local_response_norm(x, 5)), 2)


def test_what_shrinks_is_done_in_bytes_before_floats_read_it():
    graph = quantised(dw.open(PooledForFloats().eval(), (1, 3, SIDE, SIDE)).graph)
    read, returned = (n for n in pipeline.rewrite(graph) if isinstance(n.op, ops.MaxPool2d))
    assert (read.type.dtype, returned.type.dtype) == ("uint8", "float32")
    assert is_simulated(dw.compile(graph), graph)


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "x86-64-v2", "portable"])
def test_a_library_gives_the_bits_of_the_simulator(target):
    library = dw.compile(GRAPH, target=target)
    assert library.manifest.verification.reference == "the simulator"
    assert library.manifest.verification.error == 0
    assert {layer.error for layer in library.manifest.verification.layers} == {0.0}
    assert is_simulated(library)


@pytest.mark.parametrize("target", ["aarch64", "wasm32"])
def test_another_machine_gives_the_same_bits(target, tmp_path):
    dw.compile(GRAPH, target=target).save(tmp_path / "out")
    x = image(7)
    for found, right in zip(run_foreign(tmp_path / "out", [x]), simulate(GRAPH, x), strict=True):
        assert np.array_equal(found, right)


@pytest.mark.parametrize("images", [1, 3])
def test_threads_and_images_change_no_bit(images):
    graph = small_network(SIDE, images)
    assert is_simulated(dw.compile(graph, threads=2), graph, images)


def test_a_bit_that_differs_is_found(monkeypatch):
    """The simulator is given a border that is one step higher, which few values see."""

    class Wrong(SimulatorReference):
        def __init__(self, graph: Graph):
            super().__init__(graph)
            nodes = tuple(
                replace(node, op=replace(node.op, zero=node.op.zero + 1))
                if node.path == "head"
                else node
                for node in self._graph
            )
            self._graph = replace(self._graph, nodes=nodes)

    monkeypatch.setattr(pipeline, "SimulatorReference", Wrong)
    with pytest.raises(Mismatch, match=r"where 0 is accepted.*'head'"):
        dw.compile(GRAPH)


def test_native_is_planned_for_this_core():
    """Whatever target is best for bytes: a target that is named is planned for any of its CPUs."""
    native = CompileOptions()
    assert options_of_bytes(native).core == native.core
    assert str(options_of_bytes(native).core) == str(native.core)  # nobody asked for it
    assert f"tuned for {native.core}\n" in pipeline.show_stage(GRAPH, "plan")
    assert options_of_bytes(CompileOptions(tune_for="zen5")).core.name == "zen5"


class Shortcut(nn.Module):
    """A shortcut that strides and pads its channels, as in ResNets for small images."""

    def __init__(self):
        super().__init__()
        self.first, self.one = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.two = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        padded = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.two(torch.relu(padded + self.one(x)))


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
def test_padding_is_done_in_bytes(target):
    torch.manual_seed(0)
    graph = quantised(dw.open(Shortcut().eval(), (1, 3, SIDE, SIDE)).graph)
    (pad,) = [node for node in pipeline.rewrite(graph) if isinstance(node.op, ops.Pad)]
    assert pad.type.dtype == "uint8"
    library = dw.compile(graph, target=target)
    assert library.manifest.verification.error == 0
    assert np.array_equal(library(image(3)), simulate(graph, image(3)))


class Means(nn.Module):
    """Means over windows, of which some hang over the edges."""

    def __init__(self, **pool):
        super().__init__()
        self.one, self.pool = nn.Conv2d(3, 5, 1), nn.AvgPool2d(**pool)
        self.two = nn.Conv2d(5, 4, 1)

    def forward(self, x):
        return self.two(self.pool(self.one(x)))


@pytest.mark.parametrize("target", ["native", "portable"])
@pytest.mark.parametrize(
    "pool",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 1, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": (3, 2), "stride": (2, 1), "divisor_override": 4},
        {"kernel_size": 8, "padding": 4},
    ],
    ids=str,
)
def test_means_over_windows_are_computed_in_integers(pool, target):
    torch.manual_seed(0)
    graph = quantised(dw.open(Means(**pool).eval(), (1, 3, 8, 8)).graph)
    assert [n.type.dtype for n in to_integers(graph) if isinstance(n.op, IntegerMean)] == ["uint8"]
    library = dw.compile(graph, target=target)
    assert library.manifest.verification.error == 0
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    assert np.array_equal(library(x), simulate(graph, x))


class Normalised(nn.Module):
    """Something that has no form in integers, between two convolutions."""

    def __init__(self, norm: nn.Module, channels: int = 8):
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(3, channels, 1), norm, nn.Conv2d(channels, 4, 1)

    def forward(self, x):
        return self.two(self.norm(self.one(x)))


@pytest.mark.parametrize("target", ["native", "portable"])
def test_what_has_no_form_in_integers_is_computed_in_float32(target):
    torch.manual_seed(0)
    net = Normalised(nn.LocalResponseNorm(3, 0.5))
    graph = quantised(dw.open(net.eval(), (1, 3, 8, 8)).graph)
    assert [
        n.type.dtype for n in to_integers(graph) if isinstance(n.op, ops.LocalResponseNorm)
    ] == ["float32"]
    library = dw.compile(graph, target=target)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    np.testing.assert_allclose(library(x), simulate(graph, x), rtol=0, atol=1e-6)


def test_floats_between_two_integers_are_decided_by_rounding_alone():
    """One of 131,072 becomes another integer, which moves the outputs further than floats are."""
    torch.manual_seed(0)
    graph = quantised(dw.open(Normalised(nn.GroupNorm(1, 32), 32).eval(), (1, 3, 64, 64)).graph)
    found = dw.compile(graph).manifest.verification
    assert found.own_error is not None
    assert TOLERANCE < found.error <= SENSITIVE * found.own_error


class Broadcast(nn.Module):
    """A sum and a product of two values that layers give, brought to certain shapes before."""

    def __init__(self, left, right):
        super().__init__()
        self.one, self.other, self.last = (nn.Conv2d(6, 6, 1) for _ in range(3))
        self.left, self.right = left, right

    def forward(self, x):
        left, right = self.left(torch.relu(self.one(x))), self.right(self.other(x))
        return self.last(left + right), self.last(left * right)


class Upsampled(nn.Module):
    """What moves numbers in a way that there is no kernel of bytes for, between layers of bytes."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(16, 4, 3)

    def forward(self, x):
        x = torch.relu(self.one(x))
        larger = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
        around = nn.functional.pad(x, (2, 3, 1, 4), mode="reflect")
        return self.two(torch.cat([larger, nn.functional.interpolate(around, (22, 22))], 1))


@pytest.mark.parametrize("target", ["native", "portable"])
def test_what_bytes_have_no_kernel_for_is_moved_in_float32(target):
    torch.manual_seed(0)
    graph = quantised(dw.open(Upsampled().eval(), (1, 3, SIDE, SIDE)).graph)
    library = dw.compile(graph, target=target)
    kinds = {type(node.op): node.type.dtype for node in pipeline.rewrite(graph)}
    assert kinds[ops.Resize] == "float32"
    for seed in range(3):
        assert np.array_equal(library(image(seed)), simulate(graph, image(seed)))


def mean_of(*axes: int):
    return lambda x: x.mean(axes, keepdim=True)


def as_it_is(x: torch.Tensor) -> torch.Tensor:
    return x


BROADCAST = {
    "a number a plane": (as_it_is, mean_of(2, 3)),
    "the plane comes second": (mean_of(2, 3), as_it_is),
    "a number a plane of all images": (as_it_is, lambda x: x.mean((2, 3), keepdim=True)[:1]),
    "one plane": (as_it_is, lambda x: x[:, :1]),
    "one pixel of one plane": (as_it_is, lambda x: x[:, 2:3, 1:2, 1:2]),
    "one row": (as_it_is, lambda x: x[:, :, 2:3]),
    "rows and columns": (lambda x: x[:, :, :1], lambda x: x[..., :1]),
    "of fewer axes": (as_it_is, lambda x: x.mean((2, 3), keepdim=True)[0]),
    "a scalar": (as_it_is, lambda _: torch.tensor(0.75)),
}


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "portable"])
@pytest.mark.parametrize("name", BROADCAST)
def test_values_of_unlike_shapes_are_added_and_multiplied(name: str, target: str):
    torch.manual_seed(0)
    shape = (2, 6, 5, 7)
    graph = quantised(dw.open(Broadcast(*BROADCAST[name]).eval(), shape).graph)
    library = dw.compile(graph, target=target)
    integers = pipeline.rewrite(graph)
    if name != "a scalar":  # which is a constant: it is added in float32, or in a layer's bias
        kinds = {type(node.op) for node in integers}
        assert {IntegerAdd, IntegerMultiply} <= kinds
        assert ops.Dequantize not in kinds
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    found, right = library(x), simulate(graph, x)
    for y, expected in zip(found, right, strict=True):
        np.testing.assert_array_equal(y, expected)


def test_values_with_a_sign_are_refused_by_name():
    nodes = tuple(
        replace(node, op=ops.Quantize("int8"), type=replace(node.type, dtype="int8"))
        if isinstance(node.op, ops.Quantize) and node.inputs[0] in GRAPH.inputs
        else node
        for node in GRAPH
    )
    zero = next(n for n in GRAPH if isinstance(n.op, ops.Quantize)).inputs[2]
    constant = GRAPH.constants[zero]
    signed = replace(
        constant, type=replace(constant.type, dtype="int8"), data=constant.data.astype(np.int8)
    )
    graph = replace(GRAPH, nodes=nodes, constants={**GRAPH.constants, zero: signed})
    with pytest.raises(Unsupported, match="makes int8 by a scale: kernels hold values in uint8"):
        dw.compile(graph)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tune": True}, "tune=True: ways to compute bytes are not timed yet"),
        ({"target": "x86-64"}, "compiled for one CPU, not for a family of them"),
        ({"precision": "bfloat16"}, "precision='bfloat16': the network is quantised"),
    ],
)
def test_options_of_floats_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        dw.compile(GRAPH, **options)


def test_a_preparation_is_refused():
    raw = dw.Preparation((0.5,) * 3, (0.25,) * 3, "uint8")
    with pytest.raises(ValueError, match="a quantised network takes images that are prepared"):
        dw.compile(GRAPH, preparation=raw)


@pytest.mark.parametrize("shape", [(0, 3, SIDE, SIDE), (3, 3, SIDE, SIDE), (2, 3, SIDE, SIDE + 1)])
def test_the_simulator_drops_no_image(shape):
    graph = small_network(SIDE, images=2)
    with pytest.raises(ValueError, match=f"is {'x'.join(map(str, shape))}: the network takes 2x3x"):
        simulate(graph, np.zeros(shape, np.float32))
