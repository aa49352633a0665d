"""precision="auto": the fastest precision that keeps the class of enough images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any, get_args

import numpy as np

from depthwise.bench.peers import Opened
from depthwise.bench.peers.ours import opened_library
from depthwise.bench.turns import time_in_turns
from depthwise.bench.worker import judge
from depthwise.calibration.scores import gives_scores, say_outputs
from depthwise.compiler.options import INT8, CompileOptions, Precision, not_faster
from depthwise.compiler.pipeline import compile_source
from depthwise.compiler.preparation import Preparation
from depthwise.compiler.quantised import options_of_bytes
from depthwise.errors import DepthwiseError
from depthwise.escaping import counted, in_line
from depthwise.graph.dtypes import FLOAT32
from depthwise.graph.layers import is_layer
from depthwise.hardware.load import Watch
from depthwise.precision.quantising import quantised
from depthwise.precision.request import PrecisionRequest, noise
from depthwise.quantization.integer import is_quantised, to_integers
from depthwise.runtime.library import Library
from depthwise.runtime.manifest import SLOWER, CandidateRecord, PrecisionChoice
from depthwise.sources.source import Source

ROUNDS = 7
HALVES = get_args(Precision)[1:]
Build = Callable[[CompileOptions], Library]  # one network
BuildSource = Callable[[Source, CompileOptions], Library]


@dataclass(frozen=True, eq=False)
class JudgedPrecision:
    """A precision that was compiled, and what the images say of it; or why there is no library."""

    record: CandidateRecord
    library: Library | None = None

    def left_out(self, reason: str) -> "JudgedPrecision":
        """Return the same, not to be chosen."""
        return JudgedPrecision(self.record.model_copy(update={"left_out": reason}), self.library)


def compile_fastest(
    source: Source, options: CompileOptions, asked: PrecisionRequest, samples: Sequence[Any] = (),
    preparation: Preparation | None = None, labels: Sequence[str] = (),
) -> Library:  # fmt: skip
    """Compile a network in each precision, and return the fastest that keeps the class.

    Each library is verified; its class is compared with that of the one in float32 on images that
    are held out of `asked.data`, or else on noise, and all take turns at being timed. int8 takes
    part where there are images to quantise with, its worst layers in float32 where that is needed,
    and once more with these layers in a half type where the target is faster in one.
    Where nothing else keeps the class, it is float32. The manifest has all of it.

    Raises what `dw.compile` raises.
    """
    _check(source, options, preparation)
    said, asked, images = _images(source, asked)

    def build(source: Source, options: CompileOptions) -> Library:
        return compile_source(source, options, samples, None, labels)

    build_floats = partial(build, source)
    whole = _built(FLOAT32.name, build_floats(options))
    assert whole.library
    tried = [whole, *(_build_half(half, options, build_floats) for half in HALVES)]
    if asked.data is not None:
        tried += _build_bytes(source, options, asked, build)
    given = _parts(images, whole.library)
    expected = np.stack([whole.library.run([part])[0] for part in given])
    judged = [_judged(each, given, expected, asked.goal) for each in tried]
    choice = _choose(judged, asked.goal, said)
    if asked.data is None:
        left_out = "it needs images to quantise with: give data"
        unasked = CandidateRecord(precision=INT8, left_out=left_out)
        choice = choice.model_copy(update={"candidates": (*choice.candidates, unasked)})
    asked.tell(str(choice))
    best = next(each for each in judged if each.record.precision == choice.chosen.precision)
    assert best.library
    return best.library.with_choice(choice)


def _check(source: Source, options: CompileOptions, preparation: Preparation | None) -> None:
    """Raise ValueError where there is nothing to choose, or nothing to choose by."""
    target, graph = options.chosen, source.graph
    name = "precision='auto'"
    if is_quantised(graph):
        raise ValueError(f"{name}: {source.name} is quantised already: leave out the precision")
    if target.members:
        raise ValueError(
            f"{name} with target={options.target!r}: a library for a family of CPUs computes in "
            "float32; compile for one of them"
        )
    if not target.runs_here:
        raise ValueError(
            f"{name}: libraries are timed to choose, and this machine cannot run one for "
            f"{target.full_name}: name a precision"
        )
    if preparation:
        raise ValueError(
            f"{name} with a preparation: images are judged as the network takes them: name a "
            "precision"
        )
    types = list(graph.inputs.values())
    if len(types) != 1 or types[0].dtype != FLOAT32.name or not gives_scores(graph):
        taken = " and ".join(map(str, types))
        raise ValueError(
            f"{name} is judged by classes of images, and {source.name} takes {taken} and returns "
            f"{say_outputs(graph)}: name a precision"
        )


def _images(source: Source, asked: PrecisionRequest) -> tuple[str, PrecisionRequest, np.ndarray]:
    """Return what precisions are judged on: its name, and images as the network takes them.

    The request comes back with its data read, so that int8 is judged on the same images.
    """
    if asked.data is None:
        shape = next(iter(source.graph.inputs.values())).shape
        said, drawn = noise(shape)
        return said, asked, drawn
    from depthwise.precision.quantize import gather_images  # noqa: PLC0415  (PyTorch)

    read = gather_images(source, asked.data)
    held = read.held.contiguous().numpy()
    said = f"{counted(len(held), 'held-out image')} of {in_line(read.said)}"
    return said, replace(asked, data=read), held


def _untuned(options: CompileOptions, precision: str) -> CompileOptions:
    """Return options for another precision of the compiler's: narrow types are not tuned."""
    return replace(options, precision=precision, tune=False)  # pyright: ignore[reportArgumentType]


def _build_half(half: str, options: CompileOptions, build: Build) -> JudgedPrecision:
    """Compile a network in a half type, where the target is faster in it than in float32."""
    options = _untuned(options, half)
    if reason := not_faster(half, options.chosen):
        return _failed(half, options, reason)
    return _try(half, options, build)


def _try(name: str, options: CompileOptions, build: Build) -> JudgedPrecision:
    """Return a candidate, compiled; where that cannot be, the reason is kept."""
    try:
        return _built(name, build(options))
    except (DepthwiseError, ValueError) as error:
        return _failed(name, options, str(error))


def _built(name: str, library: Library) -> JudgedPrecision:
    target = library.manifest.build.target
    return JudgedPrecision(CandidateRecord(precision=name, target=target), library)


def _failed(name: str, options: CompileOptions, reason: str) -> JudgedPrecision:
    record = CandidateRecord(precision=name, target=options.chosen.name)
    return JudgedPrecision(record).left_out(in_line(reason))


def _build_bytes(
    source: Source, options: CompileOptions, asked: PrecisionRequest, build: BuildSource
) -> list[JudgedPrecision]:
    """Quantise a network and compile it; where layers are kept out of bytes, in halves as well."""
    options = _untuned(options, FLOAT32.name)  # a quantised graph says the rest itself
    try:
        source = quantised(source, replace(asked, precision=INT8, agreement=asked.goal))
    except (DepthwiseError, ValueError) as error:
        return [_failed(INT8, options, str(error))]
    build_bytes = partial(build, source)
    whole = _try(INT8, options, build_bytes)
    integers = to_integers(source.graph)
    kept = any(is_layer(integers, node) for node in integers)
    if whole.library is None or not kept:
        return [whole]
    target = options_of_bytes(options).chosen
    halves = [half for half in HALVES if not not_faster(half, target)]
    return [
        whole,
        *(_try(f"{INT8} and {half}", _untuned(options, half), build_bytes) for half in halves),
    ]


def _parts(images: np.ndarray, library: Library) -> np.ndarray:
    """Return as many images at once as the library takes; those over are left out."""
    batch = library.manifest.network.inputs[0].shape[0]
    parts = max(1, len(images) // batch)
    return np.resize(images, (parts, batch, *images.shape[1:]))  # repeated where there are fewer


def _judged(
    candidate: JudgedPrecision, given: np.ndarray, expected: np.ndarray, goal: float
) -> JudgedPrecision:
    """Return a candidate with how often it gives the class that float32 does."""
    if candidate.library is None:
        return candidate
    opened: Opened = opened_library(candidate.library)
    error, agreement = judge(opened, given, expected)
    found = candidate.record.model_copy(update={"error": error, "agreement": agreement})
    judged = JudgedPrecision(found, candidate.library)
    if agreement is None or not agreement >= goal:
        return judged.left_out(f"below the agreement of {goal:.2%}")
    return judged


def _choose(judged: Sequence[JudgedPrecision], goal: float, said: str) -> PrecisionChoice:
    """Time all that was compiled, and leave out all but the fastest that keeps the class."""
    running = [each for each in judged if each.library]
    watch = Watch()
    libraries = [each.library for each in running if each.library]
    times = time_in_turns(libraries, ROUNDS, f"timing {len(running)} precisions")
    load = watch.load()
    timed = {
        each.record.precision: 1e3 * median(rounds)
        for each, rounds in zip(running, times, strict=True)
    }
    records = [
        each.record.model_copy(update={"milliseconds": timed.get(each.record.precision)})
        for each in judged
    ]
    best = min((r for r in records if not r.left_out), key=lambda r: timed[r.precision])
    kept = tuple(
        r if r.left_out or r is best else r.model_copy(update={"left_out": SLOWER}) for r in records
    )
    return PrecisionChoice(agreement=goal, images=said, candidates=kept, disturbed=load.disturbed)
