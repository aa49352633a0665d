"""Random graphs through the whole compiler, against what the graph means."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from onnx_adapter import join
from random_graphs import batch_norm, draw_graph
from sketch import Drawn, Sketch, without_dead_code

from depthwise.compiler.build import compile_c
from depthwise.compiler.emit import emit_units
from depthwise.compiler.library import ALIGNMENT, Code
from depthwise.compiler.pipeline import UNITS, rewrite
from depthwise.compiler.plan import make_plan
from depthwise.compiler.target import find_target
from depthwise.graph import Graph, Node, Output, TensorType, ops, show
from depthwise.graph.interpret import evaluate, interpret

TOLERANCE = 1e-4  # of an output's largest element
ROUNDING = 1e-5  # float32 against float64: a graph beyond it says nothing of the compiler
LEAST = 1e-3  # smaller outputs are measured as if this were their largest
GUARD = 64  # floats before and behind each array that C may touch
FAST = range(40)
SLOW = range(1000, 1400)
TOGETHER = 40  # graphs in one library
TRIALS = 60  # of the shrinker: each one compiles


def guarded(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (all, part): `part` has `size` floats, aligned, with NaN in it and around it."""
    memory = np.full(size + 3 * GUARD, np.nan, np.float32)
    start = GUARD + -(memory.ctypes.data // 4 + GUARD) % (ALIGNMENT // 4)
    return memory, memory[start : start + size]


def run(graph: Graph, inputs: Sequence[np.ndarray], keep_all: bool) -> list[np.ndarray]:
    """Return the outputs of a rewritten graph, compiled for this machine.

    All that C writes is NaN before. Raises AssertionError where it writes beside it.
    """
    plan = make_plan(graph, find_target("native"), keep_all)
    code = Code(compile_c(emit_units(plan, UNITS), plan.target, extra=("-O1",)))
    sizes = [plan.weights.size, *(x.size for x in inputs)]
    sizes += [graph.type(o.value).size for o in graph.outputs]
    blocks = [guarded(size) for size in [*sizes, code.arena_bytes // 4]]
    parts = [part for _, part in blocks]
    read = 1 + len(inputs)
    for part, data in zip(parts, [plan.weights, *inputs], strict=False):
        part[:] = data.reshape(-1)
    code.run(parts[0], parts[1:read], parts[read:-1], parts[-1])
    for memory, part in blocks:
        start = (part.ctypes.data - memory.ctypes.data) // 4
        around = np.concatenate([memory[:start], memory[start + part.size :]])
        assert np.isnan(around).all(), "something is written beside a buffer"
    for part, data in zip(parts, [plan.weights, *inputs], strict=False):
        np.testing.assert_array_equal(part, data.reshape(-1), "weights or an input are changed")
    shapes = (graph.type(o.value).shape for o in graph.outputs)
    return [y.reshape(shape) for y, shape in zip(parts[read:-1], shapes, strict=True)]


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference over the largest element; infinity for NaN."""
    difference = np.abs(found.astype(np.float64) - expected).max()
    relative = float(difference / max(np.abs(expected).max(), LEAST))
    return relative if np.isfinite(relative) else float("inf")


def outputs(drawn: Drawn) -> list[np.ndarray]:
    """Return what the graph means."""
    values = interpret(drawn.graph, *drawn.inputs)
    return [values[o.value] for o in drawn.graph.outputs]


def is_sound(drawn: Drawn) -> bool:
    """Tell whether float32 and float64 give the same."""
    values = {name: np.asarray(c.data, float) for name, c in drawn.graph.constants.items()}
    values |= {n: x.astype(float) for n, x in zip(drawn.graph.inputs, drawn.inputs, strict=True)}
    for node in drawn.graph:
        values[node.name] = evaluate(node.op, *(values[name] for name in node.inputs))
    exact = (values[o.value] for o in drawn.graph.outputs)
    return all(error(y, e) <= ROUNDING for y, e in zip(outputs(drawn), exact, strict=True))


def failures(drawn: Mapping[str, Drawn]) -> dict[str, str]:
    """Return what is wrong with each graph that fails; all are compiled as one library."""
    found: dict[str, str] = {}
    rewritten: dict[str, Graph] = {}
    for name, one in drawn.items():
        try:
            rewritten[name] = rewrite(one.graph)
            for keep_all in (False, True):
                make_plan(rewritten[name], find_target("native"), keep_all)
        except Exception as problem:  # whatever it is, the graph is legal
            found[name] = f"{type(problem).__name__}: {problem}"
            rewritten.pop(name, None)
    inputs = [x for name in rewritten for x in drawn[name].inputs]
    expected = [y for name in rewritten for y in outputs(drawn[name])]
    for keep_all in (False, True) if rewritten else ():
        graph = join(rewritten)
        results = run(graph, inputs, keep_all)
        for o, y, e in zip(graph.outputs, results, expected, strict=True):
            if not error(y, e) <= TOLERANCE:
                name, _, place = o.name.partition("/")
                found.setdefault(
                    name, f"output {place} is {error(y, e):.2g} off, keep_all={keep_all}"
                )
    return found


def smaller(drawn: Drawn) -> Iterator[Drawn]:
    """Return graphs with less in them: one output, an earlier output, an input for a value."""
    graph = drawn.graph
    values = interpret(graph, *drawn.inputs)
    if len(graph.outputs) > 1:
        for o in graph.outputs:
            yield replace(drawn, graph=replace(graph, outputs=(o,)))
        for o in graph.outputs:
            others = tuple(other for other in graph.outputs if other is not o)
            yield replace(drawn, graph=replace(graph, outputs=others))
    for node in graph.nodes:
        yield replace(drawn, graph=replace(graph, outputs=(Output("", node.name),)))
    for node in reversed(graph.nodes):
        yield cut(drawn, node, values[node.name])
    for node in reversed(graph.nodes):
        for name in graph.activations(node):
            if graph.type(name) == node.type:
                yield bypass(drawn, node, name)


def cut(drawn: Drawn, node: Node, value: np.ndarray) -> Drawn:
    """Return the graph with an input in place of a node."""
    graph = drawn.graph
    inputs = {**graph.inputs, node.name: TensorType(value.shape)}
    nodes = tuple(n for n in graph if n is not node)
    return Drawn(replace(graph, inputs=inputs, nodes=nodes), (*drawn.inputs, value))


def bypass(drawn: Drawn, node: Node, name: str) -> Drawn:
    """Return the graph whose readers of a node read another value."""

    def instead(other: str) -> str:
        return name if other == node.name else other

    graph = drawn.graph
    nodes = tuple(replace(n, inputs=tuple(map(instead, n.inputs))) for n in graph if n is not node)
    shown = tuple(replace(o, value=instead(o.value)) for o in graph.outputs)
    return replace(drawn, graph=replace(graph, nodes=nodes, outputs=shown))


def shrink(drawn: Drawn) -> Drawn:
    """Return a graph that still fails, with less in it for as long as TRIALS last."""
    trials = 0
    again = True
    while again:
        again = False
        for one in map(without_dead_code, smaller(drawn)):
            if len(one.graph.nodes) >= len(drawn.graph.nodes) and (
                len(one.graph.outputs) >= len(drawn.graph.outputs)
            ):
                continue
            trials += 1
            if trials > TRIALS:
                return drawn
            if is_sound(one) and failures({"": one}):
                drawn, again = one, True
                break
    return drawn


def check_graphs(drawn: Mapping[str, Drawn]) -> None:
    """Fail with the first graph that does, shrunk, and the names of all others."""
    sound = {name: one for name, one in drawn.items() if is_sound(one)}
    assert len(sound) > 0.8 * len(drawn), "the generator makes too many graphs that say nothing"
    found = failures(sound)
    if found:
        first = shrink(sound[min(found, key=lambda name: len(sound[name].graph.nodes))])
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
    **{f"{behind} behind a linear layer on rows": linear_on_rows(behind)
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
