"""`depthwise calibrate`: what this machine can do at best."""

from typing import Annotated

import typer
from rich.text import Text

from depthwise.cli.options import AsJson
from depthwise.cli.screen import screen, waiting
from depthwise.console import Screen


def calibrate(
    again: Annotated[
        bool, typer.Option("--again", help="Measure again a machine that was measured before.")
    ] = False,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Time our kernels of narrow types as well, as in bfloat16,int8: some minutes more."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine once, in a minute: arithmetic, caches, memory, threads, our kernels.

    What was measured while other programs ran is printed and not kept.
    """
    with waiting("measuring this machine: let nothing else run on it") as status:
        from depthwise import hardware  # noqa: PLC0415
        from depthwise.hardware.tables import machine_table, not_kept  # noqa: PLC0415
        from depthwise.latency.fingerprint import is_current  # noqa: PLC0415
        from depthwise.latency.precisions import read_narrow  # noqa: PLC0415
        from depthwise.latency.timing import time_kernels  # noqa: PLC0415

        asked = read_narrow(precision) if precision is not None else []
        found = (None if again else hardware.find()) or hardware.calibrate()
        wanted = [each for each in asked if not is_current(found, each)]
        if not found.disturbed and (wanted or not is_current(found)):
            status.update("timing our kernels, a minute a precision: let nothing else run")
            found = time_kernels(found, wanted)
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        screen().print(machine_table(found))
    if found.disturbed:
        Screen(stderr=True).print(Text(not_kept(found), style="bold red"), soft_wrap=True)
