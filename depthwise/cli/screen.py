"""Where the verbs print."""

import sys

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


def waiting(doing: str) -> Status:
    """Return what turns on standard error, with what is done, while a verb is at work."""
    return progress().status(Text(doing))
