"""`depthwise calibrate`: what this machine can do at best."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from depthwise.cli.screen import screen


def calibrate(
    again: Annotated[
        bool, typer.Option("--again", help="Measure, though this machine was measured before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure this machine once: arithmetic, caches, memory, what a second thread adds."""
    from depthwise import machine  # noqa: PLC0415
    from depthwise.machine.tables import machine_table  # noqa: PLC0415

    found = None if again else machine.find()
    if found is None:
        console = Console(stderr=True, quiet=not sys.stderr.isatty())
        with console.status("measuring this machine: let nothing else run on it"):
            found = machine.calibrate()
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        screen().print(machine_table(found))
