"""Quantised networks as libraries: the bytes of the simulator on every kind of CPU."""

import numpy as np
import pytest
from foreign import run_foreign
from quantised_networks import small_network

import depthwise as dw
from depthwise.compiler.pipeline import rewrite, show_stage
from depthwise.errors import Mismatch, Unsupported
from depthwise.quantization.integer_ops import IntegerOp
from depthwise.quantization.simulation import simulate

GRAPH = small_network()


def expected(x: np.ndarray) -> list[np.ndarray]:
    return list(simulate(GRAPH, x))


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 3, 21, 21), np.float32) * 2


def test_all_of_it_is_computed_in_integers():
    rewritten = rewrite(GRAPH)
    integers = [type(node.op).__name__ for node in rewritten if isinstance(node.op, IntegerOp)]
    assert {"IntegerLayer", "IntegerMean", "IntegerMultiply", "Lookup"} <= set(integers)
    floats = [node.name for node in rewritten if node.type.dtype == "float32"]
    assert floats == ["conv2d_6", "linear"]  # what the network returns


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "x86-64-v2", "portable"])
def test_a_library_gives_the_bits_of_the_simulator(target):
    library = dw.compile(GRAPH, target=target)
    assert library.manifest.verification.reference == "the simulator"
    assert library.manifest.verification.error == 0
    for seed in range(5):
        for found, right in zip(library(image(seed)), expected(image(seed)), strict=True):
            assert np.array_equal(found, right)
