"""`depthwise bench`: how fast networks are, layer by layer."""

from typing import Annotated

import typer

from depthwise.cli.screen import screen
from depthwise.cli.source import (
    NETWORK_HELP,
    SET_HELP,
    SHAPE_HELP,
    parse_settings,
    parse_shapes,
    resolve,
)


def bench(
    networks: Annotated[list[str], typer.Argument(help=NETWORK_HELP, metavar="NETWORK...")],
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help=SET_HELP)] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Print each layer's time and share of the peak.")
    ] = False,
) -> None:
    """Measure how fast compiled networks are."""
    from depthwise.bench.layers import profile  # noqa: PLC0415
    from depthwise.bench.peak import measure_peak  # noqa: PLC0415
    from depthwise.bench.tables import layers_table  # noqa: PLC0415
    from depthwise.compiler import pipeline  # noqa: PLC0415
    from depthwise.compiler.plan import make_plan  # noqa: PLC0415
    from depthwise.compiler.target import find_target  # noqa: PLC0415
    from depthwise.graph import capture  # noqa: PLC0415

    if not layers:
        raise ValueError("only --layers is there in this version")
    target = find_target("native")
    for network in networks:
        net, usual = resolve(network, parse_settings(settings or []))
        shapes = parse_shapes(shape) or (usual,)
        graph = pipeline.rewrite(capture(pipeline.open_program(net, shapes)))
        found = profile(make_plan(graph, target))
        screen().print(layers_table(network, found, measure_peak(target)))
