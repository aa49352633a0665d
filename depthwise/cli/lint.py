"""`depthwise lint`: what is wrong with a network's design."""

import json
from typing import Annotated

import typer

from depthwise.cli.arguments import parse_settings, parse_shapes
from depthwise.cli.options import AsJson, NetworkName, Settings, Shapes
from depthwise.cli.screen import screen, waiting

FINDINGS = 1


def lint(
    network: NetworkName,
    shape: Shapes = None,
    settings: Settings = None,
    object_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels across the object that must be seen at once.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 1 for notes, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Warn of a bad design: where, what, why, what to do. Exits with 1 where it warns."""
    with waiting(f"looking at {network}"):
        from depthwise.analysis import lint as find  # noqa: PLC0415
        from depthwise.analysis.finding import lint_table  # noqa: PLC0415
        from depthwise.sources.opening import describe  # noqa: PLC0415

        (shapes, named), asked = parse_shapes(shape), parse_settings(settings)
        findings = find(
            describe(network, *shapes, kwargs=named, settings=asked), object_size=object_size
        )
    if as_json:
        print(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        screen().print(lint_table(findings))
    if any(strict or finding.severity == "warning" for finding in findings):
        raise typer.Exit(FINDINGS)
