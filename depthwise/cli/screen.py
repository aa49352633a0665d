"""Where the verbs print."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from rich.console import Console
from rich.status import Status
from rich.text import Text

from depthwise.spelling import Screen

WIDE = 140  # characters, where nobody's window sets the width: in a pipe or a file


def screen() -> Console:
    """Return the console of standard output, as wide as its window."""
    return Screen(width=None if sys.stdout.isatty() else WIDE)


def progress() -> Console:
    """Return the console of standard error for what is under way, silent where nobody looks on."""
    return Screen(stderr=True, quiet=not sys.stderr.isatty())


@contextmanager
def waiting(doing: str) -> Iterator[Status]:
    """Show on standard error, with what is done, that a verb is at work.

    What the network's own code prints meanwhile goes there, too: results alone are on standard
    output.
    """
    with redirect_stdout(sys.stderr), progress().status(Text(doing)) as status:
        yield status
