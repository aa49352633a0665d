"""Reduced precisions, each at the targets of its own kernels, beside their simulators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from quantised_networks import quantised
from torch import nn

import depthwise as dw
from depthwise.compiler.fused_ops import CastPairs, Fused
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.quantised import is_exact
from depthwise.compiler.verification.references.simulator import simulate as simulate_halves
from depthwise.graph import Graph, Node, ops
from depthwise.graph.dtypes import FLOAT32
from depthwise.quantization.placement import CLAMPS
from depthwise.quantization.simulation import IntegerSimulator
from depthwise.runtime.target import Target, find_target

MOVING = (
    ops.Cast, ops.Reshape, ops.Slice, ops.Permute, ops.Concat, ops.Expand, ops.MaxPool2d, ops.Pad,
    ops.Gather,
)  # fmt: skip
OF_HALVES = (*CLAMPS, "hard_swish", "hard_sigmoid")  # functions that have an order of their own


@dataclass(frozen=True)
class Case:
    """A precision at a target."""

    precision: str
    target_name: str

    def __str__(self) -> str:
        return f"{self.precision} for {self.target_name}"

    @property
    def target(self) -> Target:
        return find_target(self.target_name)

    def here(self) -> "Case":
        """Return it; skips the test where this CPU does not run it."""
        if not self.target.runs_here:
            pytest.skip(f"this CPU does not run {self.target_name}: NOT TESTED")
        return self


PRECISIONS = (
    Case("bfloat16", "x86-64-amx"), Case("bfloat16", "x86-64-v3"),
    Case("float16", "x86-64-avx512-fp16"), Case("float16", "x86-64-v4"),
    Case("int8", "x86-64-amx"), Case("int8", "x86-64-vnni"), Case("int8", "x86-64-avx-vnni"),
    Case("int8", "x86-64-v3"), Case("int8", "x86-64-v2"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Reduced:
    """A network in a precision: the graph that is compiled, and what its library should return.

    `exact` says that it has but one result, to the bit.
    """

    rewritten: Graph
    simulate: Callable[[Sequence[np.ndarray]], list[np.ndarray]]
    exact: bool

    def check(self, expected: np.ndarray, found: np.ndarray) -> None:
        """Raise AssertionError where outputs, flat, are not what they should be."""
        if self.exact:
            np.testing.assert_array_equal(found, expected)
        else:  # roundings of a sum in another order, or ties that these decide
            assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()


def in_precision(net: nn.Module, shapes: Sequence[tuple[int, ...]], case: Case) -> Reduced:
    """Return a network in a precision."""
    return reduced(dw.open(net, *shapes).graph, case)


def reduced(graph: Graph, case: Case) -> Reduced:
    """Return a graph in a precision; in int8 by the ranges of a random input."""
    if case.precision == "int8":
        graph = quantised(graph)
        simulator = IntegerSimulator(graph)

        def compute(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            values = simulator.values(*inputs)
            return [values[output.value] for output in graph.outputs]

        rewritten = rewrite(graph)
        return Reduced(rewritten, compute, is_exact(rewritten))
    rewritten = rewrite(graph, precision=case.precision)
    halves = case.target.halves
    return Reduced(
        rewritten,
        lambda inputs: simulate_halves(rewritten, *inputs, halves=halves),
        _is_exact_in_halves(rewritten),
    )


def _is_exact_in_halves(graph: Graph) -> bool:
    """Tell whether sums of a graph are in an order that is defined, and all else is exact."""
    return all(
        _is_moved(node)
        or (_is_narrow(node) if node.type.dtype != FLOAT32.name else _is_plain(node))
        for node in graph
    )


def _is_moved(node: Node) -> bool:
    return isinstance(node.op, (*MOVING, CastPairs))


def _is_narrow(node: Node) -> bool:
    """Tell whether a node of 16 bits is computed without an exponential."""
    op, functions = node.op, []
    if isinstance(op, Fused):
        functions = [each for each in (op.epilogue.before, op.epilogue.after) if each]
        op = op.op
    functions += [op] if isinstance(op, ops.Activation) else []
    layer = isinstance(op, ops.Conv2d | ops.Linear | ops.Activation | ops.AvgPool2d | ops.Reduce)
    return all(each.function in OF_HALVES for each in functions) and (layer or _is_sum(op))


def _is_plain(node: Node) -> bool:
    """Tell whether a node in float32 computes with one number after the other, rounding once."""
    cuts = isinstance(node.op, ops.Activation) and node.op.function in CLAMPS
    return cuts or _is_sum(node.op)


def _is_sum(op: object) -> bool:
    return isinstance(op, ops.Binary) and op.function in ("add", "subtract", "multiply")
