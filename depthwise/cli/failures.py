"""From an exception to one message and an exit code: whose fault it is, and what to do about it."""

import errno
import platform
import shlex
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from depthwise import __version__
from depthwise.errors import BuildError, DepthwiseError
from depthwise.escaping import in_line, text_of
from depthwise.users_code import describe, users_line

BAD_INPUT = 2
OUR_FAULT = 70  # EX_SOFTWARE of sysexits.h

# What PyTorch, NumPy and the system say, in whatever class, where there is not memory enough.
SHORT_OF_MEMORY = (
    "can't allocate memory", "not enough memory", "bad_alloc", "cannot allocate memory",
    "failed to map segment", "can't start new thread", "storage size calculation overflowed",
)  # fmt: skip


def answer(error: BaseException, arguments: Sequence[str]) -> int:
    """Say on standard error what went wrong, and return the exit code."""
    message = _explain(error)
    if message is not None:
        say(message)
        return BAD_INPUT
    say(
        f"this is a fault of depthwise itself, not of what it was given: {describe(error)}; please "
        f"report it, with {_keep(error, arguments)}"
    )
    return OUR_FAULT


def say(message: str) -> None:
    """Say something on standard error, in red; silent where that cannot be written."""
    from rich.text import Text  # noqa: PLC0415

    from depthwise.console import Screen  # noqa: PLC0415

    with suppress(OSError, ValueError):
        Screen(stderr=True).print(Text(f"depthwise: {message}", style="red"), soft_wrap=True)


def _explain(error: BaseException) -> str | None:
    """Return the message for what a user can do something about; None for a fault of ours."""
    if isinstance(error, MemoryError) or _is_short_of_memory(error):
        return (
            f"there is not memory enough ({describe(error)}): take a smaller input or network, or "
            "give the process more"
        )
    line = users_line(error)
    if line is not None:
        return f"the network's own code: {describe(error)}"
    if isinstance(error, ValueError | DepthwiseError):
        # what a compiler printed has lines; a name in any other message must not make one
        return str(error) if isinstance(error, BuildError) else in_line(str(error))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return in_line(f"{place}{error.strerror or error}")
    if isinstance(error, ImportError) and not (error.name or "").startswith("depthwise"):
        return f"a package that depthwise needs cannot be imported: {error}; install it again"
    return None


def _is_short_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = text_of(error).lower()
    return isinstance(error, RuntimeError | ImportError) and any(
        sign in said for sign in SHORT_OF_MEMORY
    )


def _keep(error: BaseException, arguments: Sequence[str]) -> str:
    """Write all that a report needs to a file; return its name, or the words for having none."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="depthwise-fault-", suffix=".txt", delete=False, encoding="utf-8",
            errors="backslashreplace",
        ) as file:  # fmt: skip
            file.write(_report(error, arguments))
            return f"{file.name} (its traceback, versions and the command)"
    except OSError as failure:
        return f"what you did (the traceback could not be kept: {failure.strerror})"


def _report(error: BaseException, arguments: Sequence[str]) -> str:
    names = ("torch", "torchvision", "timm", "numpy", "pillow", "typer", "rich", "pydantic")
    lines = (
        f"command: {shlex.join(['depthwise', *arguments])}",
        f"depthwise {__version__}, Python {platform.python_version()}, {platform.platform()}",
        ", ".join(f"{name} {_version(name)}" for name in names),
        "",
        *traceback.format_exception(error),
    )
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
