"""Every error of depthwise's own, under one base class.

A value that cannot be used is a `ValueError`, as everywhere in Python: an argument, an option, a
shape, an image, a file that cannot be read as what it should be. What the system refuses (a file
that is not there, a full disk) is its `OSError`. Everything else that a caller can do something
about derives from `DepthwiseError`. Our own broken invariants are assertions, not errors.
"""

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class DepthwiseError(Exception):
    """Base class of everything that depthwise raises beside `ValueError` and `OSError`.

    The message says where, what was found, what is accepted, and what to do.
    """


class Unsupported(DepthwiseError):  # noqa: N818
    """A network cannot be lowered: the message names the operator, its module and what to do."""


class BuildError(DepthwiseError):
    """A C compiler is missing or failed, or there is no place for what it builds.

    The message holds the compiler's first errors, each on its line.
    """


class Mismatch(DepthwiseError):  # noqa: N818
    """A library computes something else than its network: the message names the first layer."""


class PlanFault(Mismatch):
    """A step of a plan does what no step may: the message names the step and says what."""


class RunError(DepthwiseError):
    """A compiled library did not run: its threads cannot be started, or `net_run` failed."""


class CannotRun(DepthwiseError):  # noqa: N818
    """A runtime cannot run a network, or not on such inputs: the message is its reason."""


def check_whole(name: str, value: object, least: int) -> None:
    """Raise ValueError for an option that is no whole number, or one below `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: a whole number of {least} or more is accepted")


def nearest(name: str, names: "Iterable[str]") -> str:
    """Return the few of `names` that are spelled most like `name`, as words for a message."""
    near = difflib.get_close_matches(name, list(names), 4, 0.5)
    return f"the nearest are {', '.join(near)}" if near else "none is near"
