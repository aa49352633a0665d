"""`depthwise compare`: two networks, or two convolutions, side by side."""

import json
from dataclasses import replace
from typing import Annotated

import typer

from depthwise.cli.arguments import parse_settings, parse_shapes
from depthwise.cli.options import NETWORK_HELP, AsJson, Shapes
from depthwise.cli.screen import screen, waiting


def compare(
    first: Annotated[str, typer.Argument(help=NETWORK_HELP)],
    second: Annotated[str, typer.Argument(help="Likewise.")],
    shape: Shapes = None,
    first_settings: Annotated[
        list[str] | None, typer.Option("--set-first", help="An option of the first, name=value.")
    ] = None,
    second_settings: Annotated[
        list[str] | None, typer.Option("--set-second", help="An option of the second, name=value.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the costs of two networks: conv:standard and conv:separable, say."""
    with waiting(f"counting {first} and {second}"):
        from depthwise.analysis import cost as count  # noqa: PLC0415
        from depthwise.analysis.tables import compare_table  # noqa: PLC0415
        from depthwise.sources.opening import describe  # noqa: PLC0415

        costs = []
        for spec, settings in ((first, first_settings), (second, second_settings)):
            asked = parse_settings(settings)
            shapes, named = parse_shapes(shape)
            source = describe(spec, *shapes, kwargs=named, settings=asked)
            costs.append(replace(count(source), network=spec))
    if as_json:
        print(json.dumps({"first": costs[0].to_dict(), "second": costs[1].to_dict()}, indent=2))
    else:
        screen().print(compare_table(*costs))
