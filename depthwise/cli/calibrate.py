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
    as_json: AsJson = False,
) -> None:
    """Measure this machine once, in a minute: arithmetic, caches, memory, threads, our kernels.

    What was measured while other programs ran is printed and not kept.
    """
    with waiting("measuring this machine: let nothing else run on it") as status:
        from depthwise import hardware  # noqa: PLC0415
        from depthwise.hardware.tables import machine_table, not_kept  # noqa: PLC0415
        from depthwise.latency.fingerprint import is_current  # noqa: PLC0415
        from depthwise.latency.timing import time_kernels  # noqa: PLC0415

        found = (None if again else hardware.find()) or hardware.calibrate()
        if not found.disturbed and not is_current(found):
            status.update("timing our kernels in eight networks, a minute: let nothing else run")
            found = time_kernels(found)
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        screen().print(machine_table(found))
    if found.disturbed:
        Screen(stderr=True).print(Text(not_kept(found), style="bold red"), soft_wrap=True)
