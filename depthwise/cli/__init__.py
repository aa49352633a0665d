"""The command `depthwise`: one file a verb (app.py lists them), nothing heavy before a verb runs.

Exit codes: 0 done, 1 findings, 2 an input, an option or a place to write that cannot be used, 70 a
fault of depthwise itself; 130 and 143 interrupted and terminated, 141 its reader has gone.
"""

import sys

from depthwise.cli import stopping


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends in SystemExit.

    Without `arguments` the process is the command's own (sys.argv), so that it answers signals.
    """
    try:
        if arguments is None:
            stopping.answer_signals()
            arguments = sys.argv[1:]
        from depthwise.cli.command import run  # noqa: PLC0415  (signals are answered by now)

        code = run(arguments)
        stopping.ignore_signals()
    except BaseException as error:
        number = stopping.received()
        if number is None:
            raise
        code = stopping.say_stopped(number, getattr(error, "__notes__", ()))
        stopping.ignore_signals()
    sys.exit(code)
