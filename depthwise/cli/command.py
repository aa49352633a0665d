"""One command line, from its arguments to its exit code: whatever goes wrong is said in words."""

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from depthwise.cli import stopping
from depthwise.cli.app import app
from depthwise.cli.output import OutputLost, OutputStream

UNREAD = 141  # its reader has gone: as shells say of a program that SIGPIPE ends


def run(arguments: Sequence[str]) -> int:
    """Run a verb and return the exit code."""
    if sys.stderr is None:  # closed: what is said there is lost
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (to the very end)
    output = OutputStream(sys.stdout)
    try:
        with redirect_stdout(output):
            return _run(arguments, output)
    except OutputLost as lost:
        output.forget()
        if lost.reader_has_gone:
            return UNREAD
        from depthwise.cli.failures import BAD_INPUT, say  # noqa: PLC0415

        say(str(lost))
        return BAD_INPUT


def _run(arguments: Sequence[str], output: OutputStream) -> int:
    try:
        output.check_open()
        code = _code_of(arguments)
        output.flush()
        return code
    except stopping.Stopped as stop:
        return stopping.say_stopped(stop.number, getattr(stop, "__notes__", ()))
    except OutputLost:
        raise
    except BaseException as error:
        if stopping.received() is not None:  # what Stopped became on its way out of an import
            raise
        from depthwise.cli.failures import answer  # noqa: PLC0415  (not before it is needed)

        return answer(error, arguments)


def _code_of(arguments: Sequence[str]) -> int:
    try:
        app(list(arguments), prog_name="depthwise")
    except SystemExit as end:  # typer's: one of a verb's does not come out of it
        return end.code if isinstance(end.code, int) else 0
    return 0
