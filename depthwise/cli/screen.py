"""Where the verbs print."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from rich.console import Console
from rich.status import Status
from rich.text import Text

from depthwise.spelling import Screen, in_line

MOST_NAMED = 4  # images, in one message
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


def name_left_out(broken: Sequence[str], usable: int) -> None:
    """Say on standard error which images are left out, and why.

    Raises ValueError where none is left.
    """
    if broken and not usable:
        shown = "; ".join(broken[:MOST_NAMED])
        more = len(broken) - MOST_NAMED
        raise ValueError(f"{shown}; and {more} more like it" if more > 0 else shown)
    for reason in broken:
        print(f"depthwise: left out: {in_line(reason)}", file=sys.stderr)
