"""Where the verbs print."""

import os
import sys

from rich.console import Console
from rich.status import Status
from rich.text import Text

WIDE = 140  # characters, where neither a window nor COLUMNS sets the width: in a pipe or a file


def screen() -> Console:
    """Return the console of standard output, as wide as its window or as COLUMNS says."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    return Console(width=None if known else WIDE)


def progress() -> Console:
    """Return the console of standard error for what is under way, silent where nobody looks on."""
    return Console(stderr=True, quiet=not sys.stderr.isatty())


def waiting(doing: str) -> Status:
    """Return what turns on standard error, with what is done, while a verb is at work."""
    return progress().status(Text(doing))
