"""capture -> passes -> plan -> emit -> build -> verify -> library, on one screen."""

import gc
from collections.abc import Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from depthwise import __version__
from depthwise.analysis import Cost, cost_of_graph, network_name
from depthwise.compiler.autotune.tune_algorithms import fastest_algorithms
from depthwise.compiler.autotune.tune_streams import fastest_groups
from depthwise.compiler.codegen.emit import emit, emit_units
from depthwise.compiler.lowering import (  # noqa: F401  (they register themselves)
    conv,
    deform,
    elementwise,
    images,
    movement,
    norm,
    pool,
)
from depthwise.compiler.passes import PASSES
from depthwise.compiler.passes.input import fold_input
from depthwise.compiler.plan import Plan, make_plan
from depthwise.compiler.preparation import Preparation
from depthwise.compiler.schedule.partition import Optimize
from depthwise.compiler.show_plan import show_plan
from depthwise.compiler.toolchain.build import Compiler, compile_c, find_compiler
from depthwise.compiler.verification.capacity import check_arena, check_inputs, check_run
from depthwise.compiler.verification.oracle import check_plan as check_steps
from depthwise.compiler.verification.reference import check_repeats
from depthwise.compiler.verification.trace import Trace, without_sources
from depthwise.compiler.verification.verify import verify
from depthwise.escaping import in_line
from depthwise.files.cache import hash_bytes
from depthwise.graph import Graph, Shape, Unsupported, capture, check, export, show
from depthwise.graph.frontends.torch.pt2 import load_program
from depthwise.runtime.artifact import Artifact, hash_weights
from depthwise.runtime.library import Library
from depthwise.runtime.manifest import (
    BuildRecord,
    Manifest,
    MemoryRecord,
    NetworkRecord,
    PreparationRecord,
    TensorRecord,
)
from depthwise.runtime.target import Target, find_target, thread_flags
from depthwise.weights import Pretrained, find_pretrained
from depthwise.weights.labels import check_labels

Network = nn.Module | ExportedProgram | str | PathLike[str]

MOST_THREADS = 64
UNITS = 4  # translation units that are compiled at once


def compile(  # noqa: PLR0913  (a verb has as many as it has options)
    net: Network, *shapes: Shape, threads: int = 1, target: str = "native", cc: str | None = None,
    samples: Sequence[Any] = (), preparation: Preparation | None = None,
    optimize: Optimize = "speed", tune: bool = False, labels: Sequence[str] = (),
    check_plan: bool = True,
) -> Library:  # fmt: skip
    """Lower `net`, fixed to inputs of `shapes` (N, C, H, W), to a library for `target`.

    A network comes as a module, an ExportedProgram or the path of a .pt2 file; the last two bring
    their own shapes. `cc` names a C compiler, else the one installed with us. The library is
    verified against PyTorch on random inputs and on `samples`, arrays or tuples of arrays, where
    this machine can run it; for another, `check_plan` has its plan done in Python, step by step, on
    the first sample or random inputs, and compared with the network. `threads` share each call;
    `optimize` for "memory" makes the smallest arena; `tune` tries a few ways to compute each
    convolution, where the target is this machine and speed is asked for: seconds at the first time,
    none after it. With a `preparation` it takes raw images, samples too, and normalises them
    itself: in the weights of the first convolution, where the network starts with one. `labels` are
    names of a classifier's classes, in the order of its outputs: they are kept in the manifest.
    Raises Unsupported, naming the operator and its module, where the network cannot be lowered,
    ValueError for shapes, options or samples that do not fit, Mismatch for a plan or a library that
    computes something else.
    """
    chosen = find_target(target)
    check_options(threads, optimize, chosen)
    if chosen.runs_here:
        check_inputs(shapes)
    program = open_program(net, shapes)
    captured = capture(program)
    check_keys(captured)
    if labels:
        check_labels(labels, [captured.type(o.value).shape for o in captured.outputs], "labels")
    cost = cost_of_graph(captured, network_name(net))
    if chosen.runs_here or isinstance(net, nn.Module):  # then PyTorch runs it
        check_run(cost.input_shapes, cost.peak_bytes)
    if isinstance(net, nn.Module):
        check_repeats(net, shapes)
    plan = choose_plan(rewrite(captured, preparation), chosen, cc, threads, optimize, tune)
    checked = None
    if chosen.runs_here:
        check_arena(plan)
    elif check_plan:
        first = as_arrays(samples[0], None if preparation else np.float32) if samples else ()
        checked = check_steps(plan, first, preparation)
    shared = compile_c(emit_units(plan, UNITS), chosen, cc, thread_flags(threads)).read_bytes()
    manifest = make_manifest(
        plan, cost, shared, find_compiler(cc), find_pretrained(net), preparation, tuple(labels)
    ).model_copy(update={"plan_check": checked})
    artifact = Artifact(manifest, emit(plan), plan.weights.view(np.uint8), shared)
    if chosen.runs_here:
        plan = without_sources(plan)  # which may be half of a gigabyte,
        gc.collect()  # and which what searched for the plan refers to in circles
        artifact = verified(artifact, plan, program, captured, cc, samples, preparation)
    return Library(artifact)


def check_options(threads: int, optimize: Optimize, target: Target) -> None:
    """Raise ValueError for options that no library can have."""
    if not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads={threads}: a library runs on 1 to {MOST_THREADS} threads")
    if threads > 1 and target.architecture == "wasm32":
        raise ValueError(f"threads={threads}: {target.name} has no threads; leave it at 1")
    if optimize not in get_args(Optimize):
        accepted = " or ".join(get_args(Optimize))
        raise ValueError(f"optimize={optimize!r}: optimize for {accepted}")


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


def rewrite(graph: Graph, preparation: Preparation | None = None) -> Graph:
    """Return the graph after every pass, checked before and after each."""
    graph = check(graph)
    for step in PASSES:
        graph = check(step(graph))
    return check(fold_input(graph, preparation)) if preparation else graph


def can_tune(target: Target, optimize: Optimize) -> bool:
    """Tell whether what is fastest can be measured: speed is asked for, on this very machine."""
    return optimize == "speed" and target.runs_here and target == find_target("native")


def choose_plan(
    graph: Graph, target: Target, cc: str | None, threads: int, optimize: Optimize, tune: bool
) -> Plan:
    """Return the default plan, or, to be tuned, the one whose layers and streams were timed.

    Threads share what is the fastest on one.
    """
    if not (tune and can_tune(target, optimize)):
        return make_plan(graph, target, optimize=optimize, threads=threads)
    algorithms = fastest_algorithms(graph, target, cc)
    groups = fastest_groups(graph, target, algorithms, cc)
    return make_plan(graph, target, threads=threads, algorithms=algorithms, groups=lambda _: groups)


def open_program(net: Network, shapes: Sequence[Shape]) -> ExportedProgram:
    """Return the exported program of a module, of a .pt2 file, or itself."""
    if isinstance(net, nn.Module):
        return export(net, shapes)
    if isinstance(net, ExportedProgram):
        return net
    return load_program(Path(net))


def verified(
    artifact: Artifact, plan: Plan, program: ExportedProgram, captured: Graph, cc: str | None,
    samples: Sequence[Any], preparation: Preparation | None = None,
) -> Artifact:  # fmt: skip
    """Compare with PyTorch, and record it; a build that stops at each step tells the layers.

    An operator that became several of ours is left out of these: capture numbers those after the
    first, and only the last computes what the operator does.
    """
    names = {node.name for node in captured}
    known = {name for name in names if f"{name}.1" not in names}
    dtype = None if preparation else np.float32  # raw images keep their own
    tried = [as_arrays(sample, dtype) for sample in samples]

    def run(inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return Library(artifact).run(inputs)  # whose arena goes with it

    found = verify(run, Trace(plan, known, UNITS, cc), program, tried, preparation)
    manifest = artifact.manifest.model_copy(update={"verification": found})
    return replace(artifact, manifest=manifest)


def as_arrays(sample: Any, dtype: type | None) -> list[np.ndarray]:
    """Return a sample, an array or tensor or a tuple of them, contiguous, None keeps its dtype."""
    parts = sample if isinstance(sample, tuple | list) else (sample,)
    return [np.ascontiguousarray(torch.as_tensor(part).numpy(), dtype) for part in parts]


def make_manifest(
    plan: Plan, cost: Cost, shared: bytes, compiler: Compiler, pretrained: Pretrained | None,
    preparation: Preparation | None, labels: tuple[str, ...] = (),
) -> Manifest:  # fmt: skip
    """Return what the library says of itself; `pretrained` is the record of bundled weights.

    Classes are named by `labels`, else as that record does.
    """
    graph = plan.graph
    preprocessing = pretrained.preprocessing.model_dump(mode="json") if pretrained else None
    if preprocessing and preparation:  # what is left to be done outside
        preprocessing |= {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    network = NetworkRecord(
        name=in_line(cost.network),
        inputs=tuple(
            TensorRecord.model_validate({"name": name, "shape": type_.shape, "dtype": type_.dtype})
            for name, type_ in graph.inputs.items()
        ),
        outputs=tuple(
            TensorRecord(name=o.name, shape=graph.type(o.value).shape) for o in graph.outputs
        ),
        params=cost.params,
        macs=None if cost.not_counted else cost.macs,
        labels=labels or (pretrained.class_names if pretrained else ()),
        preprocessing=preprocessing,
        preparation=PreparationRecord(**asdict(preparation)) if preparation else None,
    )
    weights = plan.weights.view(np.uint8)
    return Manifest(
        depthwise=__version__,
        network=network,
        build=BuildRecord(
            target=plan.target.name, compiler=compiler.identity, flags=compiler.flags(plan.target),
            threads=plan.threads, library_sha256=hash_bytes(shared),
        ),
        memory=MemoryRecord(
            arena_bytes=plan.arena.bytes, weights_bytes=weights.size,
            weights_sha256=hash_weights(weights),
        ),
    )  # fmt: skip


def show_stage(
    net: Network, shapes: Sequence[Shape], target: str, stage: str, threads: int = 1,
    optimize: Optimize = "speed", tune: bool = False,
) -> str:  # fmt: skip
    """Return the rewritten graph, the plan or the C of a network as text; no library is made."""
    graph = rewrite(capture(open_program(net, shapes)))
    if stage == "graph":
        return show(graph)
    chosen = find_target(target)
    check_options(threads, optimize, chosen)
    plan = choose_plan(graph, chosen, None, threads, optimize, tune)
    return show_plan(plan) if stage == "plan" else emit(plan)
