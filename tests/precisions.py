"""Reduced precisions, each at the targets of its own kernels, beside their simulators."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from quantised_networks import quantised
from shrink import error
from torch import nn

import depthwise as dw
from depthwise.compiler.fused_ops import CastPairs, Fused
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import rewrite, rewrite_for
from depthwise.compiler.quantised import is_exact
from depthwise.compiler.verification.references.simulator import Simulator
from depthwise.compiler.verification.verify import SENSITIVE
from depthwise.graph import Graph, Node, interpret, ops
from depthwise.graph.dtypes import FLOAT32
from depthwise.quantization.placement import CLAMPS
from depthwise.quantization.simulation import IntegerSimulator
from depthwise.runtime.target import Target, find_target

Simulate = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

ROUNDING = 0.02  # of the largest output: what a step of a small type may be, or two
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
BEST = tuple({case.precision: case for case in reversed(PRECISIONS)}.values())  # one for each


@dataclass(frozen=True, eq=False)
class Reduced:
    """A network in a precision: the graph that is compiled, and what its library should return.

    Attributes:
        rewritten: The graph.
        simulate: What gives the outputs for inputs.
        otherwise: What gives them rounded as they might be as well.
        exact: Whether there is but one result, to the bit.
    """

    rewritten: Graph
    simulate: Simulate
    otherwise: Simulate
    exact: bool

    def errors(self, inputs: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> list[float]:
        """Return how far each output is off; 0 where it is what it might be."""
        expected = self.simulate(inputs)
        apart = [error(y, e) for y, e in zip(found, expected, strict=True)]
        if self.exact:
            same = [np.array_equal(y, e) for y, e in zip(found, expected, strict=True)]
            return [0.0 if equal else off for equal, off in zip(same, apart, strict=True)]
        others = zip(self.otherwise(inputs), expected, strict=True)
        allowed = [max(ROUNDING, SENSITIVE * error(other, e)) for other, e in others]
        return [off if off > most else 0.0 for off, most in zip(apart, allowed, strict=True)]


def in_precision(net: nn.Module, shapes: Sequence[tuple[int, ...]], case: Case) -> Reduced:
    """Return a network in a precision."""
    return reduced(dw.open(net, *shapes).graph, case)


def reduced(graph: Graph, case: Case, inputs: Sequence[np.ndarray] | None = None) -> Reduced:
    """Return a graph in a precision; in int8 by the ranges of these inputs, else of random ones."""
    if case.precision == "int8":
        graph = quantised(graph, inputs)
        rewritten = rewrite(graph)
        simulator = IntegerSimulator(graph)
        return Reduced(
            rewritten,
            lambda inputs: _outputs(graph, simulator.values(*inputs)),
            lambda inputs: _outputs(graph, interpret(graph, *inputs)),
            is_exact(rewritten),
        )
    options = CompileOptions(case.target_name, precision=case.precision)
    rewritten, _ = rewrite_for(options, graph, [inputs] if inputs else [])
    own = Simulator(rewritten, case.target.halves)
    return Reduced(
        rewritten,
        lambda inputs: own.start(inputs).outputs(),
        lambda inputs: own.start(inputs, double=True).outputs(),
        _is_exact_in_halves(rewritten),
    )


def _outputs(graph: Graph, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [values[output.value] for output in graph.outputs]


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
