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
from depthwise.cli.screen import say_taken, screen, waiting
from depthwise.compiler.options import CompileOptions
from depthwise.escaping import in_json

if TYPE_CHECKING:
    from depthwise.bench.exported_model import Question
    from depthwise.bench.record import BenchRecord


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
    questions = []
    for network in networks:
        with waiting(f"opening {network}"):
            opened = _open(network, parse_settings(settings), weights, shape, until)
            images = batch or opened.shape[0]
            questions.append(replace(opened, build=build, shape=(images, *opened.shape[1:])))
    if layers:
        _profile(questions, as_json)
        return
    asked = "" if cc and peers is None else peers  # compilers are compared alone
    record = _compare(questions, asked, cc, threads, rounds, batch is not None, as_json)
    text = in_json(record.model_dump_json(indent=1))
    if out:
        with writing_file("--out", out) as new:
            new.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)


def _open(
    network: str, options: dict[str, str], weights: str | None, shape: list[str] | None,
    until: str | None,
) -> "Question":  # fmt: skip
    import torch  # noqa: PLC0415

    from depthwise.bench.exported_model import Question  # noqa: PLC0415
    from depthwise.sources.opening import open  # noqa: PLC0415
    from depthwise.sources.source import TorchSource  # noqa: PLC0415

    torch.manual_seed(0)  # the same random weights every time
    shapes, named = parse_shapes(shape)
    source = open(network, *shapes, kwargs=named, settings=options, weights=weights, until=until)
    say_taken(source)
    if len(source.shapes) != 1:
        count = len(source.shapes)
        raise ValueError(f"--shape: {network} is compared on one input, {count} given")
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
    return Question(network, options, weights or "", source.net, *source.shapes)


def _profile(questions: "list[Question]", as_json: bool) -> None:
    from depthwise.bench.layers import agreed, profile  # noqa: PLC0415
    from depthwise.bench.tables import layers_table  # noqa: PLC0415
    from depthwise.compiler.pipeline import choose_plan, rewrite  # noqa: PLC0415
    from depthwise.hardware import find  # noqa: PLC0415
    from depthwise.sources.source import torch_source  # noqa: PLC0415

    rows = []
    for question in questions:
        with waiting(f"timing the layers of {question.network}"):
            plan = choose_plan(
                rewrite(torch_source(question.net, [question.shape]).graph), question.build.here
            )
            found, here = profile(plan), find()
            if here:
                found, here = agreed(found, here)
        if not as_json:
            shape = "x".join(map(str, question.shape))
            screen().print(layers_table(f"{question.network} on {shape}", found, here))
        rows.append({"network": question.network, **asdict(found)})
    if as_json:
        print(in_json(json.dumps(rows, indent=2)))


def _compare(
    questions: "list[Question]", peers: str | None, cc: str | None, threads: int, rounds: int,
    throughput: bool,
    silent: bool,
) -> "BenchRecord":  # fmt: skip
    from depthwise.bench.environment import describe_machine, describe_software  # noqa: PLC0415
    from depthwise.bench.peak import known_machine  # noqa: PLC0415
    from depthwise.bench.peers import compiled_by, find_peers  # noqa: PLC0415
    from depthwise.bench.record import BenchRecord  # noqa: PLC0415
    from depthwise.bench.rounds import TOLERANCE, compare  # noqa: PLC0415
    from depthwise.bench.tables import network_table  # noqa: PLC0415

    chosen, compilers = find_peers(peers, throughput), compiled_by(cc)
    found = []
    for question in questions:
        with waiting(f"comparing {question.network}"):
            found.append(compare(question, chosen, threads, rounds, compilers, throughput))
            here = known_machine(found[-1].peaks, threads)
        if not silent:
            screen().print(network_table(found[-1], threads, here))
            screen().print()
    return BenchRecord(
        machine=describe_machine(), software=describe_software(questions[0].build.target),
        threads=threads, tolerance=TOLERANCE, networks=tuple(found),
    )  # fmt: skip
