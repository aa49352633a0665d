"""capture -> passes -> plan -> emit -> build -> verify -> library, on one screen."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from depthwise import __version__
from depthwise.accounting import Cost, cost_of_graph
from depthwise.compiler import (  # noqa: F401  (lowerings register themselves)
    lower_conv,
    lower_deform,
    lower_elementwise,
    lower_movement,
    lower_norm,
    lower_pool,
)
from depthwise.compiler.artefact import Artefact, hash_file, hash_weights
from depthwise.compiler.build import Compiler, compile_c, find_compiler
from depthwise.compiler.emit import emit, emit_units
from depthwise.compiler.library import Code, Library
from depthwise.compiler.manifest import (
    BuildRecord,
    Manifest,
    MemoryRecord,
    NetworkRecord,
    TensorRecord,
)
from depthwise.compiler.passes import PASSES
from depthwise.compiler.plan import Plan, make_plan
from depthwise.compiler.show_plan import show_plan
from depthwise.compiler.target import cpu_features, find_target
from depthwise.compiler.verify import trace_plan, verify
from depthwise.graph import Graph, Shape, capture, check, export, show
from depthwise.graph.failure import quiet

Network = nn.Module | ExportedProgram | str | PathLike[str]

UNITS = 4  # translation units that are compiled at once


def compile(
    net: Network, *shapes: Shape, threads: int = 1, target: str = "native", cc: str | None = None,
    samples: Sequence[Any] = (),
) -> Library:  # fmt: skip
    """Lower `net`, fixed to inputs of `shapes` (N, C, H, W), to a library for `target`.

    A network comes as a module, an ExportedProgram or the path of a .pt2 file; the last two bring
    their own shapes. `cc` names a C compiler, else the one installed with us. The library is
    verified against PyTorch on random inputs and on `samples`, arrays or tuples of arrays, where
    this machine can run it.
    Raises Unsupported, naming the operator and its module, where the network cannot be lowered,
    ValueError for shapes, options or samples that do not fit.
    """
    if threads != 1:
        raise ValueError(f"threads={threads}: libraries run on 1 thread in this version")
    chosen = find_target(target)
    program = open_program(net, shapes)
    captured = capture(program)
    plan = make_plan(rewrite(captured), chosen)
    cost = cost_of_graph(captured, str(getattr(net, "network", None) or type(net).__name__))
    shared = compile_c(emit_units(plan, UNITS), chosen, cc)
    manifest = make_manifest(
        plan, cost, shared, find_compiler(cc), getattr(net, "pretrained", None)
    )
    artefact = Artefact(manifest, emit(plan), plan.weights.view(np.uint8), shared)
    if not chosen.foreign and chosen.requires <= cpu_features():
        artefact = verified(artefact, plan, program, cc, samples)
    return Library(artefact)


def rewrite(graph: Graph) -> Graph:
    """Return the graph after every pass, checked before and after each."""
    graph = check(graph)
    for step in PASSES:
        graph = check(step(graph))
    return graph


def open_program(net: Network, shapes: Sequence[Shape]) -> ExportedProgram:
    """Return the exported program of a module, of a .pt2 file, or itself."""
    if isinstance(net, nn.Module):
        return export(net, shapes)
    if isinstance(net, ExportedProgram):
        return net
    path = Path(net)
    if not path.is_file():
        raise ValueError(f"no file at {path}: give a .pt2 file that torch.export.save wrote")
    with quiet():
        try:
            return torch.export.load(path)
        except Exception:  # damaged bytes make the reader raise nearly anything
            raise ValueError(f"{path} is no exported program, or a truncated one") from None


def verified(
    artefact: Artefact, plan: Plan, program: ExportedProgram, cc: str | None, samples: Sequence[Any]
) -> Artefact:
    """Compare with PyTorch, and record it; a build that keeps all values tells the layers."""
    keeping = make_plan(plan.graph, plan.target, keep_all=True)
    kept = Code(compile_c(emit_units(keeping, UNITS), plan.target, cc))
    tried = [as_arrays(sample) for sample in samples]
    found = verify(Library(artefact).run, trace_plan(keeping, kept), program, tried)
    manifest = artefact.manifest.model_copy(update={"verification": found})
    return replace(artefact, manifest=manifest)


def as_arrays(sample: Any) -> list[np.ndarray]:
    """Return a sample, an array or tensor or a tuple of them, as contiguous float32 arrays."""
    parts = sample if isinstance(sample, tuple | list) else (sample,)
    return [np.ascontiguousarray(torch.as_tensor(part).numpy(), np.float32) for part in parts]


def make_manifest(
    plan: Plan, cost: Cost, shared: Path, compiler: Compiler, pretrained: Any
) -> Manifest:
    """Return what the library says of itself; `pretrained` is the record of bundled weights."""
    graph = plan.graph
    network = NetworkRecord(
        name=cost.network,
        inputs=tuple(TensorRecord(name=n, shape=t.shape) for n, t in graph.inputs.items()),
        outputs=tuple(
            TensorRecord(name=o.name, shape=graph.type(o.value).shape) for o in graph.outputs
        ),
        params=cost.params,
        macs=None if cost.not_counted else cost.macs,
        labels=pretrained.class_names if pretrained else (),
        preprocessing=pretrained.preprocessing.model_dump(mode="json") if pretrained else None,
    )
    weights = plan.weights.view(np.uint8)
    return Manifest(
        depthwise=__version__,
        network=network,
        build=BuildRecord(
            target=plan.target.name, compiler=compiler.identity, flags=compiler.flags(plan.target),
            library_sha256=hash_file(shared),
        ),
        memory=MemoryRecord(
            arena_bytes=plan.arena.bytes, weights_bytes=weights.size,
            weights_sha256=hash_weights(weights),
        ),
    )  # fmt: skip


def show_stage(net: Network, shapes: Sequence[Shape], target: str, stage: str) -> str:
    """Return the rewritten graph, the plan or the C of a network as text; nothing is compiled."""
    graph = rewrite(capture(open_program(net, shapes)))
    if stage == "graph":
        return show(graph)
    plan = make_plan(graph, find_target(target))
    return show_plan(plan) if stage == "plan" else emit(plan)
