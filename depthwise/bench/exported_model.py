"""A network in every form that a runtime reads, with its input and what PyTorch makes of it."""

import shutil
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from depthwise.analysis import cost_of_graph
from depthwise.bench.peers import (
    CALIBRATION,
    EXPECTED,
    EXPECTED_OF_IMAGES,
    FILES,
    IMAGES,
    INPUT,
    INT8,
    Form,
    library_path,
)
from depthwise.bench.peers.eager import tensors_of
from depthwise.bench.worker import LONGEST
from depthwise.compiler.assemble import About, assemble
from depthwise.compiler.lowering.algorithms import Winograd, direct_only
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import choose_plan, compile_source, rewrite, rewrite_for
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.quantised import options_of_bytes
from depthwise.errors import DepthwiseError
from depthwise.graph import Graph, Shape, capture
from depthwise.graph.dtypes import FLOAT32
from depthwise.graph.frontends.torch.exported import as_module, renamed
from depthwise.graph.frontends.torch.quiet import quiet
from depthwise.runtime.library import Library
from depthwise.sources.exporting import export_onnx
from depthwise.sources.source import graph_source, torch_source

SETTLING = 4  # images of noise

Net = nn.Module | ExportedProgram


@dataclass(frozen=True, eq=False)
class BenchImages:
    """Images that runtimes are judged on, as the network takes them: float32, (N, C, H, W).

    Attributes:
        said: What they are called.
        judged: On which is told how often a class stays what it is in float32.
        calibration: Others, to quantise a network with; None where there are none.
    """

    said: str
    judged: np.ndarray
    calibration: np.ndarray | None = None


@dataclass(frozen=True)
class Question:
    """What is compared: a network as it is called, its options, its weights, and its module.

    `library` is what was compiled of it before; None has it compiled as `build` says, on as many
    threads as are compared, in each of `precisions`. `quantised` is the network in int8, where that
    is among these. An `untrained` network is settled first.
    """

    network: str
    settings: dict[str, str]
    weights: str
    net: Net
    shape: Shape
    library: Library | None = None
    build: CompileOptions = field(default_factory=CompileOptions)
    precisions: tuple[str, ...] = (FLOAT32.name,)
    quantised: Graph | None = None
    images: BenchImages | None = None
    untrained: bool = False


@dataclass(frozen=True)
class Case:
    """A folder that holds a network in several forms; `failed` says why it lacks some.

    `compiled` has a case of our library alone for each C compiler in place of the usual one.
    """

    folder: Path
    macs: int
    params: int
    failed: dict[Form, str]
    compiled: dict[str, "Case"] = field(default_factory=dict)


def write_case(
    question: Question,
    folder: Path,
    forms: Collection[Form],
    threads: int,
    compilers: Collection[str] = (),
) -> Case:
    """Write a network in each of the forms, its input and PyTorch's output, to a folder.

    A form that cannot be made is named in the case, with its reason, and so is a library that a C
    compiler does not make. Raises Unsupported, Mismatch or BuildError where we cannot compile it,
    ValueError for several outputs or other numbers than float32.
    """
    if question.untrained and isinstance(question.net, nn.Module):
        settle(question.net, question.shape)
    program = torch_source(question.net, [question.shape]).program
    x = torch.randn(question.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        returned = tensors_of(as_module(program)(x))
    if len(returned) != 1:
        raise ValueError(f"{question.network} returns several values: the runtimes are asked one")
    np.save(folder / INPUT, x.numpy())
    np.save(folder / EXPECTED, returned[0].numpy())
    if question.images:
        _write_images(question.images, program, question.shape[0], folder)
    cost = cost_of_graph(capture(program), question.network)
    options = replace(question.build, threads=threads)
    if "library" in forms:
        for precision in question.precisions:
            library = question.library or _compile(question, program, precision, options)
            if not library.manifest.network.is_float32:
                raise ValueError(
                    f"{question.network} has other numbers than float32, on which runtimes are "
                    "compared"
                )
            library.save(library_path(folder, precision))
    failed: dict[Form, str] = {}
    for form, write in WRITERS.items():
        if form not in forms:
            continue
        try:
            with quiet():
                write(question, program, x, folder / FILES[form])
        except Exception as error:  # exporters raise nearly anything
            failed[form] = f"cannot be exported as {form}: {_first_line(error)}"
    case = Case(folder, cost.macs, cost.params, failed)
    compiled = {
        cc: _compile_by(question, program, replace(options, cc=cc), case) for cc in compilers
    }
    return replace(case, compiled=compiled)


def _write_images(images: BenchImages, program: ExportedProgram, batch: int, folder: Path) -> None:
    """Write images as many at once as the network takes, and what float32 says of them."""
    parts = max(1, len(images.judged) // batch)
    shape = (parts, batch, *images.judged.shape[1:])
    given = np.resize(images.judged, shape)  # repeated where there are fewer
    module, expected = as_module(program), []
    with torch.inference_mode():
        for part in given:
            (y,) = tensors_of(module(torch.from_numpy(part)))
            expected.append(y.numpy())
    np.save(folder / IMAGES, given)
    np.save(folder / EXPECTED_OF_IMAGES, np.stack(expected))
    if images.calibration is not None:
        np.save(folder / CALIBRATION, images.calibration)


def plan_in(question: Question, precision: str) -> Plan:
    """Return the plan of our library of a precision on one thread."""
    if precision == INT8:
        assert question.quantised
        return choose_plan(rewrite(question.quantised), options_of_bytes(question.build))
    options = _options_in(question.build.here, precision)
    graph = torch_source(question.net, [question.shape]).graph
    return choose_plan(rewrite_for(options, graph)[0], options)


def _options_in(options: CompileOptions, precision: str) -> CompileOptions:
    return replace(options, precision=precision)  # pyright: ignore[reportArgumentType]


def _compile(
    question: Question, program: ExportedProgram, precision: str, options: CompileOptions
) -> Library:
    """Return our library of a precision; raises as `write_case` does."""
    if precision == INT8:
        assert question.quantised
        return compile_source(graph_source(question.quantised), options)
    return compile_source(torch_source(program, ()), _options_in(options, precision))


def _compile_by(
    question: Question, program: ExportedProgram, options: CompileOptions, case: Case
) -> Case:
    """Return the case of what another C compiler makes of our code, in a folder of its own."""
    folder = Path(mkdtemp(dir=case.folder))
    for name in (INPUT, EXPECTED):
        shutil.copy(case.folder / name, folder)
    try:
        precision = question.precisions[0]
        library = _compile(question, program, precision, options)
        library.save(library_path(folder, precision))
    except (DepthwiseError, ValueError) as error:
        reason = " ".join(str(error).split())[:LONGEST]
        return replace(case, folder=folder, failed={"library": reason})
    return replace(case, folder=folder, failed={})


def settle(net: nn.Module, shape: Shape) -> None:
    """Give the BatchNorms of an untrained network the statistics of a few images of noise.

    Else values shrink from layer to layer, and no runtime's error can be told from the output's.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    images = torch.randn(SETTLING, *shape[1:], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        net(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.eval()
        norm.momentum = momentum


def _write_direct(
    question: Question, program: ExportedProgram, _x: torch.Tensor, path: Path
) -> None:
    """Save a library on one thread without Winograd; raises ValueError where ours has none."""
    options = replace(question.build.here, threads=1, tune=False)
    chosen = choose_plan(rewrite(capture(program)), options).algorithms
    if not any(isinstance(algorithm, Winograd) for algorithm in chosen.values()):
        raise ValueError("all its convolutions are direct as it is")
    direct_library(program, options).save(path)


def direct_library(program: ExportedProgram, options: CompileOptions) -> Library:
    """Compile a program without Winograd, tuning and verifying."""
    captured = capture(program)
    options = options.here
    graph, target, core = rewrite(captured), options.chosen, options.core
    usual = make_plan(graph, target, core=core)
    direct = direct_only(usual.algorithms, usual.constants)
    plan = make_plan(graph, target, algorithms=direct, threads=options.threads, core=core)
    return Library(assemble([plan], options, cost_of_graph(captured), About()))


def _write_program(
    _question: Question, program: ExportedProgram, _x: torch.Tensor, path: Path
) -> None:
    torch.export.save(renamed(program), path)


def _write_onnx(
    _question: Question, program: ExportedProgram, _x: torch.Tensor, path: Path
) -> None:
    made = torch.onnx.export(program, dynamo=True, verbose=False)
    assert made is not None
    made.save(path, external_data=False)


def _write_quantised(
    question: Question, _program: ExportedProgram, _x: torch.Tensor, path: Path
) -> None:
    assert question.quantised
    export_onnx(question.quantised, path)


def _write_torchscript(
    question: Question, program: ExportedProgram, x: torch.Tensor, path: Path
) -> None:
    """Trace the module itself where there is one: pnnx knows some modules by their class."""
    net = question.net
    module = net if isinstance(net, nn.Module) else as_module(program)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # it is to go, one day
        torch.jit.trace(module, x).save(path)  # type: ignore[union-attr]


WRITERS: dict[Form, Callable[[Question, ExportedProgram, torch.Tensor, Path], None]] = {
    "direct": _write_direct,
    "program": _write_program,
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "quantised": _write_quantised,
}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
