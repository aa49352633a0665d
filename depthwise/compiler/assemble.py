"""From a plan to the artifact of a library: its C, compiled, its weights and its manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from depthwise import __version__
from depthwise.analysis import Cost
from depthwise.compiler.codegen.emit import emit, emit_units
from depthwise.compiler.codegen.family import emit_family, emit_family_units
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.plan import Plan
from depthwise.compiler.preparation import Preparation
from depthwise.escaping import in_line
from depthwise.files.cache import hash_bytes
from depthwise.graph.structure import encode_signature
from depthwise.runtime.artifact import Artifact, hash_weights
from depthwise.runtime.labels import as_labels, find_scores
from depthwise.runtime.manifest import (
    BuildRecord,
    LayerRange,
    Manifest,
    MemoryRecord,
    NetworkRecord,
    PreparationRecord,
    TensorRecord,
)
from depthwise.runtime.target import thread_flags
from depthwise.sources.source import Source
from depthwise.toolchain.build import compile_parts, find_compiler

UNITS = 4  # translation units that are compiled at once


@dataclass(frozen=True, eq=False)
class About:
    """What a graph does not know of its network, and a manifest says.

    Attributes:
        name: What the network is called.
        labels: Names of a classifier's classes, in the order of its scores.
        preprocessing: How a photograph becomes its input, as the record of its weights says.
        precisions: Types of floating numbers, beside float32, that it has.
        quantised: Whether it is computed in bytes.
        kept: Layers in float32 whose numbers a narrower precision would not hold.
    """

    name: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] | None = None
    precisions: tuple[str, ...] = ()
    quantised: bool = False
    kept: tuple[LayerRange, ...] = ()


def describe_source(source: Source, labels: Sequence[str] = ()) -> About:
    """Return what a source and its user say: `labels`, else the names that its weights record."""
    given, pretrained = as_labels(labels), source.pretrained
    if pretrained is None:
        return About(source.name, given)
    outputs = [source.graph.type(output.value).shape for output in source.graph.outputs]
    recorded = pretrained.class_names
    fits = find_scores(outputs, len(recorded)) is not None  # as not of a network that was cut
    preprocessing = pretrained.preprocessing.model_dump(mode="json")
    return About(source.name, given or (recorded if fits else ()), preprocessing)


def assemble(
    plans: Sequence[Plan], options: CompileOptions, cost: Cost, about: About,
    preparation: Preparation | None = None,
) -> Artifact:  # fmt: skip
    """Print a plan for each level as C, compile it, and say in a manifest what it is.

    Raises BuildError where the C compiler is missing or fails.
    """
    target, plan = options.chosen, plans[0]
    if target.members:
        source, parts = emit_family(plans, target), emit_family_units(plans, target, UNITS)
    else:
        source, parts = emit(plan), {target: emit_units(plan, UNITS)}
    flags = thread_flags(plan.threads, target.system)
    shared = compile_parts(parts, target, options.cc, flags).read_bytes()
    weights = plan.weights.view(np.uint8)
    compiler = find_compiler(options.cc)
    manifest = Manifest(
        depthwise=__version__,
        network=_describe_network(plan, cost, about, preparation),
        build=BuildRecord(
            target=target.name, system=target.asked, compiler=compiler.identity,
            flags=compiler.flags(target), threads=plan.threads,
            tuned_for=str(plan.constants.core),
            precision="int8" if about.quantised else options.precision, kept=about.kept,
            stored_weights=options.stored_weights,
            library_bytes=len(shared), library_sha256=hash_bytes(shared),
        ),
        memory=MemoryRecord(
            arena_bytes=max(plan.arena.bytes for plan in plans), weights_bytes=weights.size,
            weights_sha256=hash_weights(weights),
        ),
    )  # fmt: skip
    return Artifact(manifest, source, weights, shared)


def _describe_network(
    plan: Plan, cost: Cost, about: About, preparation: Preparation | None
) -> NetworkRecord:
    graph = plan.graph
    preprocessing = dict(about.preprocessing) if about.preprocessing else None
    if preprocessing and preparation:  # what is left to be done outside
        preprocessing |= {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    return NetworkRecord(
        name=in_line(about.name),
        inputs=tuple(
            TensorRecord.model_validate({"name": name, "shape": type_.shape, "dtype": type_.dtype})
            for name, type_ in graph.inputs.items()
        ),
        outputs=tuple(
            TensorRecord.model_validate(
                {
                    "name": o.name,
                    "shape": graph.type(o.value).shape,
                    "dtype": graph.type(o.value).dtype,
                }
            )
            for o in graph.outputs
        ),
        structure=encode_signature(graph.signature) if graph.signature else None,
        params=cost.params,
        macs=None if cost.not_counted else cost.macs,
        labels=about.labels,
        preprocessing=preprocessing,
        preparation=PreparationRecord(**asdict(preparation)) if preparation else None,
        precisions=about.precisions,
    )
