"""Random graphs through the whole compiler, against what the graph means."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import get_args

import numpy as np
import pytest
from fuzz_plans import failure
from join_graphs import join
from precisions import BEST, Case, Reduced, reduced
from random_graphs import batch_norm, draw_graph, draw_layers
from shrink import error, is_sound, outputs, shrink
from sketch import Drawn, Sketch

from depthwise.compiler.codegen.emit import emit_units
from depthwise.compiler.pipeline import UNITS, rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.partition import Optimize
from depthwise.graph import Graph, ops, show
from depthwise.runtime.library import ALIGNMENT, Code
from depthwise.runtime.target import Target, find_target
from depthwise.toolchain.build import compile_c

Failures = Callable[[Mapping[str, Drawn]], dict[str, str]]

NATIVE = find_target("native")
TOLERANCE = 1e-4  # of an output's largest element
GUARD = 256  # bytes before and after each array that C may touch
UNTOUCHED = 0xFF  # in every byte: of floats that is NaN
FAST = range(40)
SLOW = range(1000, 1400)
TOGETHER = 40  # graphs in one library
REDUCED, REDUCED_SLOWLY = range(16), range(2000, 2200)
PLANNED = range(24)  # by the oracle; `python tests/fuzz_plans.py --graphs 10000` takes more
PLANNED_SLOWLY = range(24, 1224)


def guarded(size: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Return (all, part): `part` has `size` elements, aligned; it and its sides are untouched."""
    count = size * np.dtype(dtype).itemsize
    memory = np.full(count + 3 * GUARD, UNTOUCHED, np.uint8)
    start = GUARD + -(memory.ctypes.data + GUARD) % ALIGNMENT
    return memory, memory[start : start + count].view(dtype)


def run(
    graph: Graph, inputs: Sequence[np.ndarray], optimize: Optimize, target: Target = NATIVE
) -> list[np.ndarray]:
    """Return the outputs of a rewritten graph, compiled for a CPU of this machine.

    All that C writes is NaN before. Raises AssertionError where it writes beside it.
    """
    plan = make_plan(graph, target, optimize)
    code = Code(compile_c(emit_units(plan, UNITS), plan.target, extra=("-O1",)))
    types = [graph.type(o.value) for o in graph.outputs]
    blocks = [guarded(size) for size in [plan.weights.size, *(x.size for x in inputs)]]
    blocks += [guarded(type_.size, type_.dtype) for type_ in types]
    blocks.append(guarded(code.arena_bytes // 4))
    parts = [part for _, part in blocks]
    read = 1 + len(inputs)
    for part, data in zip(parts, [plan.weights, *inputs], strict=False):
        part[:] = data.reshape(-1)
    code.run(parts[0], parts[1:read], parts[read:-1], parts[-1])
    for memory, part in blocks:
        start = part.ctypes.data - memory.ctypes.data
        around = np.concatenate([memory[:start], memory[start + part.nbytes :]])
        assert (around == UNTOUCHED).all(), "something is written beside a buffer"
    for part, data in zip(parts, [plan.weights, *inputs], strict=False):
        np.testing.assert_array_equal(part, data.reshape(-1), "weights or an input are changed")
    return [y.reshape(type_.shape) for y, type_ in zip(parts[read:-1], types, strict=True)]


def failures(drawn: Mapping[str, Drawn]) -> dict[str, str]:
    """Return what is wrong with each graph that fails; all are compiled as one library."""
    found: dict[str, str] = {}
    rewritten: dict[str, Graph] = {}
    for name, one in drawn.items():
        try:
            rewritten[name] = rewrite(one.graph)
            for optimize in get_args(Optimize):
                make_plan(rewritten[name], NATIVE, optimize)
        except Exception as problem:  # whatever it is, the graph is legal
            found[name] = f"{type(problem).__name__}: {problem}"
            rewritten.pop(name, None)
    inputs = [x for name in rewritten for x in drawn[name].inputs]
    expected = [y for name in rewritten for y in outputs(drawn[name])]
    for optimize in get_args(Optimize) if rewritten else ():
        graph = join(rewritten)
        results = run(graph, inputs, optimize)
        for o, y, e in zip(graph.outputs, results, expected, strict=True):
            if not error(y, e) <= TOLERANCE:
                name, _, place = o.name.partition("/")
                found.setdefault(
                    name, f"output {place} is {error(y, e):.2g} off, optimized for {optimize}"
                )
    return found


def failures_in(case: Case, drawn: Mapping[str, Drawn]) -> dict[str, str]:
    """Return what is wrong with each graph that fails in a reduced precision, as `failures`."""
    found: dict[str, str] = {}
    known: dict[str, Reduced] = {}
    for name, one in drawn.items():
        try:
            known[name] = reduced(one.graph, case, one.inputs)
            for optimize in get_args(Optimize):
                make_plan(known[name].rewritten, case.target, optimize)
        except Exception as problem:  # whatever it is, the graph is legal
            found[name] = f"{type(problem).__name__}: {problem}"
            known.pop(name, None)
    inputs = [x for name in known for x in drawn[name].inputs]
    for optimize in get_args(Optimize) if known else ():
        graph = join({name: one.rewritten for name, one in known.items()})
        results = iter(run(graph, inputs, optimize, case.target))
        for name, one in known.items():
            outputs = [next(results) for _ in one.rewritten.outputs]
            worst = max(one.errors(drawn[name].inputs, outputs))
            if worst:
                found.setdefault(name, f"an output is {worst:.2g} off, optimized for {optimize}")
    return found


def check_graphs(drawn: Mapping[str, Drawn], failures: Failures = failures) -> None:
    """Fail with the first graph that does, shrunk, and the names of all others."""
    sound = {name: one for name, one in drawn.items() if is_sound(one)}
    assert len(sound) > 0.8 * len(drawn), "the generator makes too many graphs that say nothing"
    found = failures(sound)
    if found:
        smallest = min(found, key=lambda name: len(sound[name].graph.nodes))
        first = shrink(sound[smallest], lambda one: failures({"": one}))
        said = "\n".join(f"{name}: {reason}" for name, reason in found.items())
        pytest.fail(f"{said}\n{failures({'shrunk': first})}\n{show(first.graph)}", pytrace=False)


# What was found, each at its smallest.


def linear_on_rows(behind: str) -> Drawn:
    """A linear layer on the rows of images: axis 1 is not the one that its weights make."""
    d = Sketch(0)
    x = d.input(d.normal(2, 5, 3, 4))
    y = d.emit(ops.Linear(), x, d.filters(5, 4))
    if behind == "activation":
        return d.finish(d.emit(ops.Activation("relu"), y))
    if behind == "batch norm":
        return d.finish(batch_norm(d, y))
    return d.finish(d.binary("multiply", y, d.normal(1, 5, 1, 1)))


FOUND = {
    **{f"{behind} after a linear layer on rows": linear_on_rows(behind)
       for behind in ("activation", "batch norm", "product")},
}  # fmt: skip


def test_what_was_found():
    check_graphs(FOUND)


def test_random_graphs():
    check_graphs({f"seed {seed}": draw_graph(seed) for seed in FAST})


@pytest.mark.slow
@pytest.mark.parametrize("start", SLOW[::TOGETHER])
def test_more_random_graphs(start):
    check_graphs({f"seed {s}": draw_graph(s) for s in range(start, start + TOGETHER)})


@pytest.mark.parametrize("case", BEST, ids=str)
def test_random_graphs_in_reduced_precisions(case: Case):
    drawn = {f"seed {seed}": draw_layers(seed) for seed in REDUCED}
    check_graphs(drawn, partial(failures_in, case.here()))


@pytest.mark.slow
@pytest.mark.parametrize("start", REDUCED_SLOWLY[::TOGETHER])
@pytest.mark.parametrize("case", BEST, ids=str)
def test_more_random_graphs_in_reduced_precisions(case: Case, start: int):
    seeds = range(start, start + TOGETHER)
    drawn = {f"seed {s}": (draw_layers, draw_graph)[s % 2](s) for s in seeds}
    check_graphs(drawn, partial(failures_in, case.here()))


def test_plans_of_random_graphs():
    for seed in PLANNED:
        found = failure(seed)
        assert not found, found


@pytest.mark.slow
@pytest.mark.parametrize("start", PLANNED_SLOWLY[::100])
def test_plans_of_more_random_graphs(start):
    for seed in range(start, start + 100):
        found = failure(seed)
        assert not found, found
