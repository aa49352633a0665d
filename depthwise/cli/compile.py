"""`depthwise compile`: a network as a C library that depends on nothing."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from depthwise.cli.arguments import default_directory, parse_settings, parse_shapes
from depthwise.cli.files import writing
from depthwise.cli.labels import LabelFile, find_labels
from depthwise.cli.options import (
    AgreementGoal,
    AsJson,
    CheckPlan,
    CompilerName,
    Directory,
    NetworkName,
    Optimize,
    PrecisionName,
    Settings,
    Shapes,
    StoredName,
    SystemName,
    TargetName,
    Threads,
    Tune,
    TuneFor,
    Until,
    Weights,
)
from depthwise.cli.screen import say, say_taken, screen, waiting
from depthwise.compiler.options import CompileOptions, not_faster
from depthwise.escaping import in_line

if TYPE_CHECKING:
    from depthwise.analysis.fitted import FittedTable
    from depthwise.runtime.manifest import Manifest, PrecisionChoice


def compile(
    network: NetworkName,
    shape: Shapes = None,
    settings: Settings = None,
    weights: Weights = None,
    until: Until = None,
    labels: LabelFile = None,
    target: TargetName = CompileOptions.target,
    cc: CompilerName = CompileOptions.cc,
    threads: Threads = CompileOptions.threads,
    optimize: Optimize = CompileOptions.optimize,
    tune: Tune = CompileOptions.tune,
    tune_for: TuneFor = CompileOptions.tune_for,
    check_plan: CheckPlan = CompileOptions.check_plan,
    system: SystemName = CompileOptions.system,
    precision: PrecisionName = CompileOptions.precision,
    data: Annotated[
        str | None,
        typer.Option(
            help="For int8 and auto: images like those that it is for, labelled as `depthwise "
            "train` takes them, a folder of images alone, or bundled."
        ),
    ] = None,
    agreement: AgreementGoal = None,
    stored_weights: StoredName = CompileOptions.stored_weights,
    out: Directory = None,
    show: Annotated[
        Literal["graph", "plan", "c"] | None,
        typer.Option(help="Print the rewritten graph, the plan or the C, and make no library."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compile a network to C and a shared library, and verify it against PyTorch."""
    with waiting(f"compiling {network} for {target}"):
        from depthwise.compiler.pipeline import show_stage  # noqa: PLC0415
        from depthwise.precision.compiling import (  # noqa: PLC0415
            compile_in,
            in_its_precision,
            own_precision,
        )
        from depthwise.precision.request import AUTO, PrecisionRequest  # noqa: PLC0415
        from depthwise.runtime.artifact import check_replaceable  # noqa: PLC0415
        from depthwise.sources.opening import open  # noqa: PLC0415

        asked = PrecisionRequest(precision, data, agreement, say)
        options = CompileOptions(
            target, threads, optimize, tune, tune_for, cc, check_plan, system, own_precision(asked),
            stored_weights,
        )  # fmt: skip
        directory = out or default_directory(network, options.chosen.full_name)
        if not show:
            with writing("--out", directory):  # before the wait, not after it
                check_replaceable(directory)
        (shapes, named), given = parse_shapes(shape), parse_settings(settings)
        source = open(network, *shapes, kwargs=named, settings=given, weights=weights, until=until)
        say_taken(source)
        if show:
            if precision == AUTO:
                raise ValueError(f"--show {show} with --precision {AUTO}: name the precision")
            source = in_its_precision(source, options, asked)
            made = show_stage(source.graph, show, options)
        else:
            names = find_labels(labels, weights, None, source)
            made = compile_in(source, options, asked, labels=names)
    if isinstance(made, str):
        print(made)
        return
    with writing("--out", directory):
        made.save(directory)
    if as_json:
        print(json.dumps(made.manifest.model_dump(mode="json"), indent=2))
    else:
        if choice := made.manifest.choice:
            screen().print(precision_table(choice))
        screen().print(Text(in_line(f"{directory}: {_summary(made.manifest)}")), soft_wrap=True)


def precision_table(choice: "PrecisionChoice") -> "FittedTable":
    """Return a row a precision that was tried, the chosen one first."""
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415

    note = f"same class: as in float32, on {choice.images}; {choice.agreement:.2%} is asked for"
    columns = (
        Column("", kind="word"), Column("target", kind="word"), Column("ms"),
        Column("same class", note=note), Column("error", note="error: of the largest output"),
        Column("", kind="text"),
    )  # fmt: skip
    order = sorted(choice.candidates, key=lambda each: bool(each.left_out))
    rows = [
        (
            each.precision, each.target, _or_empty(each.milliseconds, ".3f"),
            _or_empty(each.agreement, ".2%"), _or_empty(each.error, ".1e"),
            each.left_out or "chosen",
        )
        for each in order
    ]  # fmt: skip
    return FittedTable(columns, rows)


def _or_empty(number: float | None, form: str) -> str:
    return "" if number is None else format(number, form)


def _summary(manifest: "Manifest") -> str:
    from depthwise.analysis.units import in_units  # noqa: PLC0415

    memory, verification = manifest.memory, manifest.verification
    precisions = " and ".join(manifest.network.precisions)
    computed = f", computed in float32 where the network has {precisions}" if precisions else ""
    ran = [level.target for level in manifest.levels if level.verification]
    levels = f"; run at {', '.join(ran)}" if ran else ""
    if verification is None:
        proven = manifest.unproven
    else:
        proven = verification.summary
        if kept := manifest.build.kept:
            layers = "layer" if len(kept) == 1 else "layers"
            computed += f", {len(kept)} {layers} in float32, which {manifest.build.precision} would"
            computed += " not hold"
    build = manifest.build
    if slow := not_faster(build.precision, build.chosen):
        proven += f"; {slow}"
    code = f"{in_units(manifest.build.library_bytes or 0, 'B')} of code, "
    return (
        f"for {manifest.build.chosen.full_name}, {code}{in_units(memory.weights_bytes, 'B')} of "
        f"weights, {in_units(memory.arena_bytes, 'B')} of memory{computed}; {proven}{levels}"
    )
