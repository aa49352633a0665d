"""`dw.compile`: from a network to a verified library, in whatever precision is asked for."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from depthwise.compiler.options import (
    INT8,
    AskedPrecision,
    CompileOptions,
    Optimize,
    Precision,
    StoredWeights,
)
from depthwise.compiler.pipeline import compile_source
from depthwise.compiler.preparation import Preparation
from depthwise.compiler.quantised import options_of_bytes
from depthwise.graph import NO_KWARGS
from depthwise.precision.choosing import compile_fastest
from depthwise.precision.quantising import quantised
from depthwise.precision.request import AUTO, PrecisionRequest
from depthwise.runtime.library import Library
from depthwise.runtime.target import System
from depthwise.sources.opening import open
from depthwise.sources.source import Source

if TYPE_CHECKING:
    from depthwise.sources.opening import Network

DEFAULT, USUAL = CompileOptions(), PrecisionRequest()


def compile(  # noqa: PLR0913  (a verb has as many as it has options)
    net: "Network", *shapes: Any, kwargs: Mapping[str, Any] = NO_KWARGS,
    target: str = DEFAULT.target, threads: int = DEFAULT.threads,
    optimize: Optimize = DEFAULT.optimize, tune: bool = DEFAULT.tune,
    tune_for: str | None = DEFAULT.tune_for, cc: str | None = DEFAULT.cc,
    check_plan: bool = DEFAULT.check_plan, system: System | None = DEFAULT.system,
    precision: AskedPrecision = DEFAULT.precision, data: Any = None,
    agreement: float | None = None, stored_weights: StoredWeights = DEFAULT.stored_weights,
    samples: Sequence[Any] = (), preparation: Preparation | None = None,
    labels: Sequence[str] = (), until: str | None = None,
) -> Library:  # fmt: skip
    """Compile a network, fixed to inputs of `shapes` (N, C, H, W), to a library for `target`.

    Where this machine can run the library, it is verified: against PyTorch if the network came from
    there, else against an interpreter of its graph.

    Args:
        net: A module, an ExportedProgram, a graph, or whatever `dw.open` takes or returns.
        shapes: One for each input, nested as `dw.open` says; left out where the network brings
            its own.
        kwargs: Those of arguments that are given by name: {"mask": (1, 1, 32, 32)}.
        target: The CPU to compile for; this and all down to `precision` are `CompileOptions`.
        threads: How many threads share each call.
        optimize: "speed", or "memory" for the smallest arena.
        tune: Measure a few ways to compute each layer on this machine, and take the fastest.
        tune_for: The core whose caches and speeds the plan is made for.
        cc: A C compiler in place of the one that is installed with us.
        check_plan: Do the plan in Python where this machine cannot run the library.
        system: The operating system to compile for, where it is another than this machine's.
        precision: The type of weights and of values between layers; "int8" quantises the network,
            and "auto" takes the fastest of all that keeps the class of enough images.
        data: Images like those that it is for, as `dw.quantize` takes them: for "int8", and for
            "auto", which else chooses among floating types by images of noise.
        agreement: In which share of images the class is to stay what it is in float32; for "auto"
            0.99 where left out, for "int8" none.
        stored_weights: The type that weights are stored in where a layer waits for them.
        samples: Inputs to verify with beside random ones: arrays, or tuples of one for each input.
        preparation: What the library does to raw images itself; samples are raw images, then.
        labels: Names of a classifier's classes, in the order of its outputs, for the manifest.
        until: The path of a module that the network is to end with, as `dw.open` takes it.

    Raises:
        Unsupported: The network cannot be lowered; the message names the operator and its module.
        ValueError: Shapes, options or samples do not fit.
        Mismatch: The plan or the library computes something else than the network.
        BuildError: The C compiler is missing or fails.
    """
    asked = PrecisionRequest(precision, data, agreement)
    options = CompileOptions(
        target, threads, optimize, tune, tune_for, cc, check_plan, system, own_precision(asked),
        stored_weights,
    )  # fmt: skip
    source = open(net, *shapes, kwargs=kwargs, until=until)
    return compile_in(source, options, asked, samples, preparation, labels)


def compile_in(
    source: Source, options: CompileOptions, asked: PrecisionRequest = USUAL,
    samples: Sequence[Any] = (), preparation: Preparation | None = None,
    labels: Sequence[str] = (),
) -> Library:  # fmt: skip
    """Compile a network that was opened, in the precision asked for, as `compile` does."""
    if asked.precision == AUTO:
        return compile_fastest(source, options, asked, samples, preparation, labels)
    source = in_its_precision(source, options, asked, preparation)
    return compile_source(source, options, samples, preparation, labels)


def in_its_precision(
    source: Source, options: CompileOptions, asked: PrecisionRequest,
    preparation: Preparation | None = None,
) -> Source:  # fmt: skip
    """Return the network that is compiled: in int8 where that is asked for, else as it is.

    Raises ValueError for options that int8 does not have, and what `dw.quantize` raises.
    """
    if asked.precision != INT8:
        return source
    options_of_bytes(options, preparation)  # what is refused is, before the wait
    return quantised(source, asked)


def own_precision(asked: PrecisionRequest) -> Precision:
    """Return the compiler's own type for what was asked: a quantised graph says the rest itself."""
    return "float32" if asked.precision in (INT8, AUTO) else asked.precision
