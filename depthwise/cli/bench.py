"""`depthwise bench`: how fast networks are, beside other runtimes and layer by layer."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthwise.cli.arguments import parse_settings, parse_shapes
from depthwise.cli.files import check_place, writing_file
from depthwise.cli.options import (
    NETWORK_HELP,
    AsJson,
    Settings,
    Shapes,
    TargetName,
    Threads,
    Tune,
    TuneFor,
    Until,
    Weights,
)
from depthwise.cli.screen import say, say_taken, screen, waiting
from depthwise.compiler.options import CompileOptions
from depthwise.escaping import in_json

if TYPE_CHECKING:
    from depthwise.bench.exported_model import Question
    from depthwise.bench.record import BenchRecord
    from depthwise.sources.source import Source, TorchSource


def bench(
    networks: Annotated[list[str], typer.Argument(help=NETWORK_HELP, metavar="NETWORK")],
    shape: Shapes = None,
    settings: Settings = None,
    weights: Weights = None,
    until: Until = None,
    threads: Threads = 1,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at once: throughput, each in its best way.")
    ] = None,
    target: TargetName = CompileOptions.target,
    tune: Tune = CompileOptions.tune,
    tune_for: TuneFor = CompileOptions.tune_for,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Turns that each runtime gets.")] = 7,
    peers: Annotated[
        str | None,
        typer.Option(help="The runtimes to compare with, as in openvino,ncnn; else all."),
    ] = None,
    cc: Annotated[
        str | None,
        typer.Option(
            "--cc",
            help="Compare C compilers of our own code, as in gcc,clang; runtimes only by --peers.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="In what ours computes, as in float32,bfloat16,int8: a row each, and peers at "
            "their default as well; each beside how often it keeps the class."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images to quantise with and to judge precisions on: labelled as `depthwise "
            "train` takes them, a folder of images alone, or bundled; else noise judges."
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Print where the time goes, layer by layer, instead.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write every run of every round to this .json, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure compiled networks beside other runtimes, or layer by layer."""
    if layers and (out or peers or cc or threads > 1):
        raise ValueError(
            "--layers looks at our library alone, on one thread: leave out --out, --peers, --cc, "
            "--threads"
        )
    if out:
        check_place("--out", out)
    build = CompileOptions(target=target, tune=tune, tune_for=tune_for)
    asked = "" if cc and peers is None else peers  # compilers are compared alone
    _check_named(asked, precision)  # before the wait, not after it
    questions = []
    for network in networks:
        with waiting(f"opening {network}"):
            opened = _open(network, parse_settings(settings), weights, shape, until)
            question, source = opened
            images = batch or question.shape[0]
            question = replace(question, build=build, shape=(images, *question.shape[1:]))
            questions.append(_in_precisions(question, source, precision, data))
    if layers:
        _profile(questions, as_json)
        return
    record = _compare(questions, asked, cc, threads, rounds, batch is not None, as_json)
    text = in_json(record.model_dump_json(indent=1))
    if out:
        with writing_file("--out", out) as new:
            new.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)


def _check_named(peers: str | None, precisions: str | None) -> None:
    """Raise ValueError for runtimes or precisions that there are not."""
    from depthwise.bench.peers import find_peers  # noqa: PLC0415
    from depthwise.latency.precisions import read_precisions  # noqa: PLC0415

    find_peers(peers)
    if precisions is not None:
        read_precisions(precisions)


def _open(
    network: str, options: dict[str, str], weights: str | None, shape: list[str] | None,
    until: str | None,
) -> "tuple[Question, TorchSource]":  # fmt: skip
    """Return what is compared, and the network of PyTorch that all runtimes get their own form of.

    Of a quantised network that is the one in float32 whose weights are what the integers stand for.
    """
    import torch  # noqa: PLC0415

    from depthwise.bench.exported_model import Question, settle  # noqa: PLC0415
    from depthwise.quantization.integer import is_quantised  # noqa: PLC0415
    from depthwise.sources.opening import open  # noqa: PLC0415
    from depthwise.sources.source import TorchSource  # noqa: PLC0415
    from depthwise.sources.spec import is_untrained  # noqa: PLC0415

    torch.manual_seed(0)  # the same random weights every time
    shapes, named = parse_shapes(shape)
    source = open(network, *shapes, kwargs=named, settings=options, weights=weights, until=until)
    say_taken(source)
    if len(source.shapes) != 1:
        count = len(source.shapes)
        raise ValueError(f"--shape: {network} is compared on one input, {count} given")
    quantised = None
    if not isinstance(source, TorchSource) and is_quantised(source.graph):
        quantised, source = source.graph, _in_real_numbers(source)
    if not isinstance(source, TorchSource):
        raise ValueError(
            f"{network}: runtimes are compared on networks of PyTorch, from which each gets its own"
            " form: give a module or a .pt2 file"
        )
    if source.dtypes != [torch.float32]:
        found = str(source.dtypes[0]).removeprefix("torch.")
        raise ValueError(
            f"{network} takes {found}: runtimes are compared on networks of float32; one of "
            "another precision becomes one by net.float()"
        )
    if not source.takes_one:
        raise ValueError(
            f"{network} takes its input by name, or in a list or dict: runtimes are compared on "
            "networks of one tensor, forward(x)"
        )
    if is_untrained(network, options, weights) and source.exported:
        settle(source.exported, *source.shapes)
    (taken,) = source.shapes
    question = Question(network, options, weights or "", source.net, taken, quantised=quantised)
    return question, source


def _in_real_numbers(source: "Source") -> "TorchSource":
    from depthwise.graph.exporters.torch import to_module  # noqa: PLC0415
    from depthwise.quantization.removal import remove_quantization  # noqa: PLC0415
    from depthwise.sources.source import torch_source  # noqa: PLC0415

    net = to_module(remove_quantization(source.graph)).eval()
    return replace(torch_source(net, source.shapes), known=source.pretrained)


def _in_precisions(
    question: "Question", source: "TorchSource", names: str | None, data: str | None
) -> "Question":
    """Return what is compared in the precisions named; float32 alone is judged on no images."""
    from depthwise.compiler.options import INT8  # noqa: PLC0415
    from depthwise.latency.precisions import read_precisions  # noqa: PLC0415
    from depthwise.precision.comparison import in_precisions  # noqa: PLC0415

    if names is None and question.quantised is None:
        if data is not None:
            raise ValueError(f"--data {data}: it is for --precision, as in float32,{INT8}")
        return question
    return in_precisions(
        question, source, read_precisions(INT8 if names is None else names), data, say
    )


def _profile(questions: "list[Question]", as_json: bool) -> None:
    from depthwise.bench.exported_model import plan_in  # noqa: PLC0415
    from depthwise.bench.layers import agreed, profile  # noqa: PLC0415
    from depthwise.bench.tables import layers_table  # noqa: PLC0415
    from depthwise.hardware import find  # noqa: PLC0415

    rows = []
    for question, precision in [(each, name) for each in questions for name in each.precisions]:
        with waiting(f"timing the layers of {question.network}"):
            found, here = profile(plan_in(question, precision)), find()
            if here:
                found, here = agreed(found, here)
        whole = precision == CompileOptions.precision
        named = question.network if whole else f"{question.network} in {precision}"
        if not as_json:
            shape = "x".join(map(str, question.shape))
            screen().print(layers_table(f"{named} on {shape}", found, here))
        rows.append({"network": question.network, "precision": precision, **asdict(found)})
    if as_json:
        print(in_json(json.dumps(rows, indent=2)))


def _compare(
    questions: "list[Question]", peers: str | None, cc: str | None, threads: int, rounds: int,
    throughput: bool,
    silent: bool,
) -> "BenchRecord":  # fmt: skip
    from depthwise.bench.environment import describe_machine, describe_software  # noqa: PLC0415
    from depthwise.bench.peak import known_machine  # noqa: PLC0415
    from depthwise.bench.peers import at_precisions, compiled_by, find_peers  # noqa: PLC0415
    from depthwise.bench.record import BenchRecord  # noqa: PLC0415
    from depthwise.bench.rounds import TOLERANCE, compare  # noqa: PLC0415
    from depthwise.bench.tables import network_table  # noqa: PLC0415

    chosen, compilers = find_peers(peers, throughput), compiled_by(cc)
    found = []
    for question in questions:
        with waiting(f"comparing {question.network}"):
            beside, images = chosen, question.images
            if images:
                beside = at_precisions(chosen, question.precisions, images.calibration is not None)
            found.append(compare(question, beside, threads, rounds, compilers, throughput))
            here = known_machine(found[-1].peaks, threads)
        if not silent:
            screen().print(network_table(found[-1], threads, here))
            screen().print()
    return BenchRecord(
        machine=describe_machine(), software=describe_software(questions[0].build.target),
        threads=threads, tolerance=TOLERANCE, networks=tuple(found),
    )  # fmt: skip
