"""The road of a network through the compiler, each stage once and in order, on one screen.

capture -> passes -> plan -> emit -> build -> verify -> library
"""

import gc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from depthwise.analysis import cost_of_graph
from depthwise.compiler.assemble import UNITS, About, assemble, describe_source
from depthwise.compiler.autotune.tune_algorithms import fastest_algorithms
from depthwise.compiler.autotune.tune_streams import fastest_groups
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.constants import constants_of
from depthwise.compiler.options import CompileOptions, Precision, StoredWeights
from depthwise.compiler.passes import PASSES, QUANTISED_PASSES
from depthwise.compiler.passes.element_types import other_precisions
from depthwise.compiler.passes.input import fold_input
from depthwise.compiler.passes.narrow import compute_in
from depthwise.compiler.passes.stored_weights import store_weights
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_family, make_plan
from depthwise.compiler.preparation import Preparation
from depthwise.compiler.quantised import (
    SimulatorReference,
    check_narrow,
    is_exact,
    options_of_bytes,
)
from depthwise.compiler.ranges import find_kept
from depthwise.compiler.schedule.partition import Group, fastest
from depthwise.compiler.schedule.steps import Steps
from depthwise.compiler.show_plan import show_plan
from depthwise.compiler.verification.capacity import check_arena, check_inputs, check_run
from depthwise.compiler.verification.distance import measure_distance
from depthwise.compiler.verification.oracle import check_plan as check_steps
from depthwise.compiler.verification.references import Reference
from depthwise.compiler.verification.references.choose import reference_of
from depthwise.compiler.verification.references.interpreter import InterpreterReference
from depthwise.compiler.verification.references.simulator import Simulator
from depthwise.compiler.verification.trace import Trace, without_sources
from depthwise.compiler.verification.verify import RunLibrary, verify
from depthwise.errors import Unsupported
from depthwise.escaping import in_line, kind_of
from depthwise.graph import Graph, check, show
from depthwise.graph.dtypes import FLOAT32, find_dtype
from depthwise.quantization.integer import is_quantised
from depthwise.runtime.artifact import Artifact
from depthwise.runtime.labels import check_labels
from depthwise.runtime.library import Library
from depthwise.runtime.manifest import LayerRange, LevelRecord, PlanCheck, Verification
from depthwise.runtime.target import Target
from depthwise.sources.source import Source

LARGE_WEIGHTS = 2**26  # bytes, worth the half second that Python takes to look at all objects
DEFAULT, NAMELESS = CompileOptions(), About()

CompilerStage = Literal["graph", "plan", "c"]


def compile_source(
    source: Source, options: CompileOptions = DEFAULT, samples: Sequence[Any] = (),
    preparation: Preparation | None = None, labels: Sequence[str] = (),
) -> Library:  # fmt: skip
    """Compile a network that was opened to a library, and verify it, as `dw.compile` does.

    Raises:
        Unsupported: The network cannot be lowered; the message names the operator and its module.
        ValueError: Shapes, options or samples do not fit.
        Mismatch: The plan or the library computes something else than the network.
        BuildError: The C compiler is missing or fails.
    """
    check_inputs(source.shapes)
    check_weights(source.graph)
    about = describe_source(source, labels)
    return compile_graph(source.graph, reference_of(source), options, about, samples, preparation)


def compile_graph(
    graph: Graph, reference: Reference, options: CompileOptions = DEFAULT, about: About = NAMELESS,
    samples: Sequence[Any] = (), preparation: Preparation | None = None,
) -> Library:  # fmt: skip
    """Compile a graph to a library, and verify it against a reference of the same graph.

    Where this machine cannot run the library, its plan is done in Python instead, step by step, on
    the first sample or random inputs, and compared with the graph.
    Raises what `compile_source` raises.
    """
    quantised = is_quantised(graph)
    if quantised:
        reference, options = SimulatorReference(graph), options_of_bytes(options, preparation)
    check_keys(graph)
    if about.labels:
        check_labels(about.labels, [graph.type(o.value).shape for o in graph.outputs], "labels")
    about = replace(about, precisions=other_precisions(graph), quantised=quantised)
    cost = cost_of_graph(graph, about.name)
    check_run(cost.input_shapes, cost.peak_bytes, reference.title)
    reference.check_repeats()
    if not isinstance(preparation, Preparation | None):
        raise ValueError(f"preparation is {kind_of(preparation)}: give a dw.Preparation")
    tried = read_samples(samples, preparation is None)
    rewritten, kept = rewrite_for(options, graph, tried, preparation)
    about = replace(about, kept=kept)
    if quantised and options.precision != FLOAT32.name:
        check_narrow(rewritten, options.precision)
    plans = choose_plans(rewritten, options)
    proofs = dict[Target, Proof]()
    for plan in plans:
        if plan.target.runs_here:
            check_arena(plan)
        elif options.check_plan and not (options.reduced or quantised):
            done = check_steps(plan, tried[0] if tried else (), preparation)
            proofs[plan.target] = Proof(plan_check=done)
    artifact = assemble(plans, options, cost, about, preparation)
    plans = [without_sources(plan) for plan in plans]  # which may be half of a gigabyte,
    if max(plan.weights.nbytes for plan in plans) > LARGE_WEIGHTS:
        gc.collect()  # and which what searched for the plan refers to in circles
    for plan in plans:
        if plan.target.runs_here:
            run = partial(run_once, artifact, plan.target.level)
            if options.reduced:
                found = verify_reduced(run, plan, rewritten, tried, options)
                distance = measure_distance(run, reference, tried, preparation)
                found = found.model_copy(update={"distance": distance})
            else:
                trace = Trace(plan, reference.paths, UNITS, options.cc)
                exact = quantised and is_exact(rewritten)
                found = verify(run, trace, reference, tried, preparation, exact)
            proofs[plan.target] = Proof(verification=found)
    return finish(artifact, [(plan.target, proofs.get(plan.target, Proof())) for plan in plans])


def verify_reduced(
    run: RunLibrary, plan: Plan, rewritten: Graph, samples: Sequence[Sequence[np.ndarray]],
    options: CompileOptions,
) -> Verification:  # fmt: skip
    """Compare a library of a narrow type with what its own graph means.

    That is the simulator of its precision, or the interpreter where weights alone are narrow.
    """
    whole = options.precision == FLOAT32.name
    own = InterpreterReference(rewritten) if whole else Simulator(rewritten, plan.target.halves)
    return verify(run, Trace(plan, own.paths, UNITS, options.cc), own, samples)


def check_weights(graph: Graph) -> None:
    """Raise ValueError for weights of which the shapes alone are known."""
    name = next((name for name, known in graph.constants.items() if known.data is None), None)
    if name is not None:
        raise ValueError(
            f"{name} is on the meta device and has no numbers: call net.to_empty(device='cpu') and "
            "load its weights first"
        )


def check_keys(graph: Graph) -> None:
    """Raise Unsupported for an output whose key no manifest can hold as it is."""
    for output in graph.outputs:
        try:
            output.name.encode()
        except UnicodeEncodeError:
            raise Unsupported(
                f"the network returns an output under the key {output.name!r}, which holds half "
                "of a character (a lone surrogate) and cannot be written to a file: name it "
                "otherwise"
            ) from None


def rewrite(
    graph: Graph, preparation: Preparation | None = None, precision: Precision = DEFAULT.precision
) -> Graph:
    """Return the graph after every pass, checked before and after each."""
    graph = check(graph)
    for step in QUANTISED_PASSES if is_quantised(graph) else PASSES:
        graph = check(step(graph))
    if preparation:
        graph = check(fold_input(graph, preparation))
    return narrowed(graph, precision)


def rewrite_for(
    options: CompileOptions, graph: Graph, samples: Sequence[Sequence[np.ndarray]] = (),
    preparation: Preparation | None = None,
) -> tuple[Graph, Sequence[LayerRange]]:  # fmt: skip
    """Return the graph in the precision of a library, and what stays in float32 (`ranges`)."""
    whole = rewrite(graph, preparation)
    kept = find_kept(whole, options, samples, preparation)
    return narrowed(whole, options.precision, kept, options.stored_weights), kept


def narrowed(
    graph: Graph, precision: Precision, kept: Sequence[LayerRange] = (),
    weights: StoredWeights = DEFAULT.stored_weights,
) -> Graph:  # fmt: skip
    """Return a rewritten graph in another precision, the nodes `kept` in float32.

    In float32 weights alone may be stored in another type.
    """
    if weights != FLOAT32.name:
        return check(store_weights(graph))
    if precision == FLOAT32.name:
        return graph
    return check(compute_in(graph, find_dtype(precision), {each.value for each in kept}))


def choose_plan(graph: Graph, options: CompileOptions = DEFAULT) -> Plan:
    """Return the plan of a rewritten graph: the default, or the one whose parts were timed.

    Threads share what is the fastest on one.
    """
    plan = partial(make_plan, graph, options.chosen, threads=options.threads, core=options.core)
    if not options.measures:
        return plan(optimize=options.optimize)
    algorithms = fastest_algorithms(graph, options)
    groups = fastest_groups(graph, options, algorithms)

    def partition(whole: Steps) -> list[Group]:
        of_a_batch = any(step.origin for step in whole.steps)  # whose images were not measured
        return fastest(whole, constants_of(options.chosen, options.core)) if of_a_batch else groups

    return plan(algorithms=algorithms, groups=partition)


def choose_plans(graph: Graph, options: CompileOptions) -> Sequence[Plan]:
    """Return the plan of a rewritten graph for each CPU that the library has code for."""
    if options.chosen.members:
        return make_family(graph, options.chosen, options.optimize, options.threads, options.core)
    return [choose_plan(graph, options)]


def run_once(artifact: Artifact, level: int, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Run the code for a level of a library whose arena is gone after the call."""
    return Library(artifact, level).run(inputs)


class Proof(NamedTuple):
    """What was proven of the code for one CPU."""

    verification: Verification | None = None
    plan_check: PlanCheck | None = None


def finish(artifact: Artifact, proofs: Sequence[tuple[Target, Proof]]) -> Library:
    """Return the library of an artifact, with what was proven of each level in its manifest."""
    each = [LevelRecord(target=target.name, **proof._asdict()) for target, proof in proofs]
    best = next((level for level in each if level.verification), each[0])
    found = {
        "verification": best.verification, "plan_check": best.plan_check,
        "levels": tuple(each) if len(each) > 1 else (),
    }  # fmt: skip
    return Library(replace(artifact, manifest=artifact.manifest.model_copy(update=found)))


def read_samples(samples: Any, single: bool) -> list[list[np.ndarray]]:
    """Return samples, each an array or tensor or a tuple of them, as contiguous arrays.

    With `single` floating numbers become float32, in which the network is computed. Raises
    ValueError for what is no array.
    """
    if isinstance(samples, str | bytes | Mapping) or not isinstance(samples, Iterable):
        raise ValueError(
            f"samples is {kind_of(samples)}: give a list, of an array for each call of the "
            "network, or of a tuple of arrays where it has several inputs"
        )
    read = []
    for index, sample in enumerate(samples):
        parts = sample if isinstance(sample, tuple | list) else (sample,)
        try:
            arrays = [_as_array(part) for part in parts]
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"sample {index}: {in_line(str(error))}") from None
        read.append([x.astype(np.float32) if single and x.dtype.kind == "f" else x for x in arrays])
    return read


def _as_array(part: Any) -> np.ndarray:
    if not hasattr(part, "__array__"):
        raise TypeError(f"{kind_of(part)}, where each input is an array or a tensor")
    if hasattr(part, "detach"):  # a tensor of PyTorch's, which may keep a gradient
        part = part.detach().float() if str(part.dtype) == "torch.bfloat16" else part.detach()
    return np.ascontiguousarray(part)


def show_stage(graph: Graph, stage: CompilerStage, options: CompileOptions = DEFAULT) -> str:
    """Return the rewritten graph, the plan or the C of a graph as text; no library is made."""
    options = options_of_bytes(options) if is_quantised(graph) else options
    graph, _ = rewrite_for(options, graph)
    if stage == "graph":
        return show(graph)
    plan = choose_plan(graph, options)
    return show_plan(plan) if stage == "plan" else emit(plan)
