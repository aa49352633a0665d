"""Runs operators through their lowering and kernels: many in one net, compiled once."""

import ctypes
import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from kernel_harness import at_page_end, compile_kernel

import depthwise.compiler.pipeline  # noqa: F401  (registers the lowerings)
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.planning import make_plan
from depthwise.graph import Constant, Graph, Node, Output, TensorType, check
from depthwise.graph.infer import infer_shape
from depthwise.graph.interpret import evaluate
from depthwise.graph.ops import Op
from depthwise.runtime.target import find_target

TARGETS = {16: "x86-64-v4", 8: "x86-64-v3", 4: "x86-64-v2"}

Shape = tuple[int, ...]


class Case(NamedTuple):
    """An operator and the shapes that it reads; those from position `constants` on are weights."""

    op: Op
    inputs: tuple[Shape, ...]
    constants: int = 9

    def __str__(self) -> str:
        return f"{self.op} of {self.inputs}"


def random_arrays(cases: Sequence[Case], *, whole: bool) -> list[list[np.ndarray]]:
    """Return inputs for each case: small integers, or numbers from 0.1 to 3 of both signs."""
    draw = np.random.default_rng(0)

    def one(shape: Shape) -> np.ndarray:
        if whole:
            return draw.integers(-9, 10, shape).astype(np.float32)
        return (draw.uniform(0.1, 3, shape) * draw.choice([-1, 1], shape)).astype(np.float32)

    return [[one(shape) for shape in case.inputs] for case in cases]


def make_graph(cases: Sequence[Case], arrays: list[list[np.ndarray]]) -> Graph:
    """Return a graph that runs each case on its arrays, all weights inside."""
    inputs, constants, nodes = {}, {}, []
    for i, (case, values) in enumerate(zip(cases, arrays, strict=True)):
        names = tuple(f"x{i}_{j}" for j in range(len(values)))
        for j, (name, value) in enumerate(zip(names, values, strict=True)):
            type_ = TensorType(value.shape)
            if j < case.constants:
                inputs[name] = type_
            else:
                constants[name] = Constant(type_, value)
        type_ = TensorType(infer_shape(case.op, *case.inputs))
        nodes.append(Node(f"y{i}", case.op, names, type_, f"case.{i}"))
    outputs = tuple(Output(f"{i}", node.name) for i, node in enumerate(nodes))
    return check(Graph(inputs, constants, tuple(nodes), outputs))


def run(graph: Graph, inputs: Sequence[np.ndarray], *, vector: int, naive: bool):
    """Return the outputs of a graph, computed in C; `naive` replaces each kernel by its twin."""
    return build(graph, vector=vector, naive=naive)(inputs)


def build(graph: Graph, *, vector: int, naive: bool):
    """Return the function that `run` calls, compiled once for several inputs."""
    plan = make_plan(graph, find_target(TARGETS[vector]))
    text = re.sub(r"\b(f32_\w+)\(&numbers", r"KERNEL(\1)(&numbers", emit(plan))
    assert "KERNEL(" in text
    text = re.sub(r"^#include <.*>$", "", text, flags=re.M)
    net = compile_kernel("#include <stddef.h>\n" + text, vector=vector, naive=naive)
    weights = at_page_end(plan.weights)

    def call(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = [at_page_end(np.full(graph.type(o.value).shape, np.nan, np.float32))
                   for o in graph.outputs]  # fmt: skip
        arena = np.full(plan.arena.bytes // 4 + 16, np.nan, np.float32)
        arena = arena[-arena.ctypes.data // 4 % 16 :]
        inputs = [at_page_end(x) for x in inputs]
        result = net.net_run(pointer(weights), pointers(inputs), pointers(outputs), pointer(arena))
        assert result == 0
        return outputs

    return call


def pointer(array: np.ndarray):
    return array.ctypes.data_as(ctypes.c_void_p)


def pointers(arrays: Sequence[np.ndarray]):
    """Return a C array of pointers; a single one as itself, as net_run takes it."""
    if len(arrays) == 1:
        return pointer(arrays[0])
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


@cache
def results(cases: tuple[Case, ...], vector: int, whole: bool) -> list[tuple]:
    """Return (case, what it means, what the kernel gives, what its naive twin gives)."""
    arrays = random_arrays(cases, whole=whole)
    graph = make_graph(cases, arrays)
    inputs = [x for case, values in zip(cases, arrays, strict=True)
              for x in values[: case.constants]]  # fmt: skip
    expected = [evaluate(case.op, *(x.astype(float) for x in values)).astype(np.float32)
                for case, values in zip(cases, arrays, strict=True)]  # fmt: skip
    fast, naive = (run(graph, inputs, vector=vector, naive=n) for n in (False, True))
    return list(zip(cases, expected, fast, naive, strict=True))


def check_equal(cases: tuple[Case, ...], vector: int) -> None:
    """Hold kernels and twins to the interpreter bit for bit, on integers."""
    for case, expected, fast, naive in results(cases, vector, whole=True):
        np.testing.assert_array_equal(naive, expected, f"{case}: naive twin")
        np.testing.assert_array_equal(fast, expected, str(case))


def check_close(cases: tuple[Case, ...], vector: int, bound: float) -> None:
    """Hold kernels and twins to the interpreter within `bound` of the largest value."""
    for case, expected, fast, naive in results(cases, vector, whole=False):
        scale = float(np.abs(expected).max())
        for name, found in (("naive twin", naive), ("kernel", fast)):
            error = np.abs(found - expected).max()
            assert error <= bound * scale, f"{case}: {name} is {error / scale:.2e} off"


def check_nan(cases: tuple[Case, ...], vector: int, bound: float = 1e-6) -> None:
    """Hold kernels and twins to the interpreter where an input holds a NaN and an infinity.

    Other results may differ by `bound` of the largest.
    Round after round they stand in other channels, so in each lane of a vector and in its tail.
    """
    arrays = random_arrays(cases, whole=True)
    graph = make_graph(cases, arrays)
    nets = [build(graph, vector=vector, naive=naive) for naive in (False, True)]
    draw = np.random.default_rng(1)
    for turn in range(2 * vector + 8):
        inputs = [[x.copy() for x in values] for values in arrays]
        for values, case in zip(inputs, cases, strict=True):
            x = values[draw.integers(min(len(values), case.constants))]
            for number in (draw.choice([np.inf, -np.inf]), np.nan):
                at = [int(draw.integers(size)) for size in x.shape]
                at[1:2] = [turn % size for size in x.shape[1:2]]
                x[tuple(at)] = number
        given = [x for case, values in zip(cases, inputs, strict=True)
                 for x in values[: case.constants]]  # fmt: skip
        results = [net(given) for net in nets]
        for case, values, fast, naive in zip(cases, inputs, *results, strict=True):
            with np.errstate(all="ignore"):
                expected = evaluate(case.op, *values)
            scale = float(
                np.abs(expected, where=np.isfinite(expected), out=np.ones_like(expected)).max()
            )
            for name, found in (("naive twin", naive), ("kernel", fast)):
                np.testing.assert_allclose(
                    found, expected, 0, bound * scale, err_msg=f"{case}: {name}"
                )
