"""Where the verbs print."""

import sys

from rich.console import Console

WIDE = 140  # characters, where nobody's window sets the width: in a pipe or a file


def screen() -> Console:
    """Return the console of standard output, as wide as its window."""
    return Console(width=None if sys.stdout.isatty() else WIDE)
