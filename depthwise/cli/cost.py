"""`depthwise cost`: what a network costs, layer by layer."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from depthwise.cli.arguments import parse_settings, parse_shapes
from depthwise.cli.files import check_place, writing_file
from depthwise.cli.options import AsJson, NetworkName, Settings, Shapes, Until
from depthwise.cli.screen import screen, waiting

if TYPE_CHECKING:
    from depthwise.hardware import Machine


def cost(
    network: NetworkName,
    shape: Shapes = None,
    settings: Settings = None,
    until: Until = None,
    all_layers: Annotated[
        bool, typer.Option("--all", help="List layers without multiply-adds, too.")
    ] = False,
    explained: Annotated[
        bool, typer.Option("--explain", help="Say what other counters print, and why.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Draw the cost by layer into this .svg or .png, too.")
    ] = None,
    timed: Annotated[
        bool, typer.Option("--machine", help="Predict the milliseconds of each layer here.")
    ] = False,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16", "int8"],
        typer.Option(
            help="With --machine: what the library computes in; a quantised network's is int8."
        ),
    ] = "float32",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the layers as CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count parameters, multiply-adds, bytes, memory and what each layer sees."""
    if as_csv and (as_json or explained):
        raise ValueError("--csv prints the layers alone: leave out --json and --explain")
    if precision != "float32" and not timed:
        raise ValueError(f"--precision {precision}: it is for --machine; add that")
    if out:
        check_place("--out", out)
    with waiting(f"counting {network}"):
        from depthwise.analysis import cost_of_graph, explain  # noqa: PLC0415
        from depthwise.analysis.explain import explanation_table  # noqa: PLC0415
        from depthwise.analysis.tables import cost_table  # noqa: PLC0415
        from depthwise.sources.opening import describe, open  # noqa: PLC0415

        here = _find_machine() if timed else None
        find = open if timed else describe  # a plan packs weights, so that there must be some
        (shapes, named), asked = parse_shapes(shape), parse_settings(settings)
        source = find(network, *shapes, kwargs=named, settings=asked, until=until)
        graph = source.traced
        found = cost_of_graph(graph, network)
        if here:
            from depthwise.latency.predict import with_latency  # noqa: PLC0415

            found = with_latency(found, source.graph, here, precision)
        if out:
            from depthwise.report.cost_picture import cost_picture  # noqa: PLC0415

            with writing_file("--out", out) as new:
                cost_picture(found, new)
        explanation = explain(graph) if explained else None
    if as_json:
        extra = {"explanation": explanation.to_dict()} if explanation else {}
        print(json.dumps({**found.to_dict(), **extra}, indent=2))
    elif as_csv:
        print(found.to_csv(), end="")
    else:
        table = explanation_table(explanation) if explanation else cost_table(found, all_layers)
        screen().print(table)


def _find_machine() -> "Machine":
    from depthwise.hardware import find  # noqa: PLC0415

    here = find()
    if here is None:
        raise ValueError("--machine: this machine was not measured: run `depthwise calibrate` once")
    return here
