"""Networks of 16 bits: kernels, twins and the simulator have the same bits on every target."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from narrow_networks import (
    CONVOLUTIONS,
    DEPTHWISE,
    TARGETS,
    Block,
    draw_inputs,
    needs,
    run,
    small_network,
)

import depthwise as dw
from depthwise.compiler.options import Precision
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.verification.references.simulator import simulate
from depthwise.graph import Graph
from depthwise.runtime.target import AMX, AVX512_FP16, Target, find_target
from depthwise.weights import PHOTOGRAPHS


@dataclass(frozen=True)
class Narrow:
    """A precision, the target that is best at it, one rounding, and how far a block is off."""

    name: Precision
    best: Target
    rounding: float
    distance: float

    def __str__(self) -> str:
        return self.name


PRECISIONS = (
    Narrow("bfloat16", AMX, 1e-2, 0.05),
    Narrow("float16", AVX512_FP16, 1e-3, 0.01),
)


@cache
def narrow_graph(precision: Precision) -> Graph:
    return rewrite(small_network(), precision=precision)


@pytest.mark.parametrize("naive", [False, True])
@pytest.mark.parametrize(
    ("precision", "target"),
    [(each, target) for each in PRECISIONS for target in (each.best.name, *TARGETS)],
    ids=str,
)
def test_kernels_and_twins_have_the_bits_of_the_simulator(precision, target: str, naive: bool):
    graph = narrow_graph(precision.name)
    inputs = draw_inputs(graph)
    found = run(graph, needs(target), inputs, naive)
    expected = simulate(graph, *inputs, halves=find_target(target).halves)
    for output, y, x in zip(graph.outputs, found, expected, strict=True):
        case = (*CONVOLUTIONS, *DEPTHWISE)[int(output.name)]
        np.testing.assert_array_equal(y, x, f"{case}")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_a_network_is_equal_to_its_simulator(precision, threads: int):
    torch.manual_seed(0)
    block, shape = Block().eval(), (2, 3, 36, 40)
    library = dw.compile(block, shape, precision=precision.name, threads=threads)
    proof, build = library.manifest.verification, library.manifest.build
    assert proof
    assert proof.reference == "the simulator"
    assert proof.error < precision.rounding, "one rounding of the outputs"
    assert (build.precision, build.kept) == (precision.name, ())
    assert proof.distance
    assert 0 < proof.distance.error < precision.distance
    assert proof.distance.reference == "PyTorch"
    assert proof.distance.agreement is not None
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert (library(x) - block(x)).abs().max() < 0.4 * precision.distance
    if precision.best.runs_here:
        assert build.target == precision.best.name


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_a_trained_network_is_its_simulator_to_the_bit_and_names_the_photographs(precision):
    net = dw.create_model("mobilenet_v2", weights="imagenet").eval()
    photographs = [net.pretrained.preprocessing.apply(path) for path in PHOTOGRAPHS]
    library = dw.compile(net, (1, 3, 224, 224), precision=precision.name, samples=photographs)
    proof = library.manifest.verification
    assert proof
    assert proof.error == 0
    assert {layer.error for layer in proof.layers} == {0}
    assert library.manifest.build.kept == ()
    for x in photographs:
        with torch.no_grad():
            expected = net(x)
        assert library(x).argmax() == expected.argmax()
        assert (library(x) - expected).abs().max() < precision.distance * expected.abs().max()
