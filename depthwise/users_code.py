"""Code that is not ours, a network's file above all: what it raises is its fault, and said so.

A file that raises, exits, cannot be parsed or never ends its recursion is an input that cannot be
used. Its line is the innermost one that is no library's.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from depthwise.escaping import text_of

INSTALLED = frozenset({"site-packages", "dist-packages"})  # the folders of packages


def users_line(error: BaseException) -> str | None:
    """Return FILE:LINE of the last line of the user's that an error went through, with its text.

    None where it went through none.
    """
    if isinstance(error, SyntaxError) and error.filename and is_users(error.filename):
        return _place(error.filename, error.lineno or 0, error.text)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_users(frame.filename):
            return _place(frame.filename, frame.lineno or 0, frame.line)
    return None


@contextmanager
def running(spec: str) -> Iterator[None]:
    """Raise ValueError with the line for whatever the code that `spec` names raises inside."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ValueError(f"{spec}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """Return what the user's code raised, in words, and where."""
    line = users_line(error)
    where = f", at {line}" if line else ""
    if isinstance(error, SystemExit):
        return (
            f"its code ends the program, with exit code {_code(error)}{where}: what is to run as a "
            'program alone belongs under `if __name__ == "__main__":`'
        )
    reason = error.msg if isinstance(error, SyntaxError) else text_of(error)
    first, *more = reason.split("\n") if reason else [""]
    said = ": ".join(filter(None, (type(error).__name__, first)))
    return f"{said}{' ...' if more else ''}{where}"


def _code(error: SystemExit) -> int:
    """Return the code that Python would end with."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def is_users(filename: str) -> bool:
    """Tell whether a file is the user's own, and no library's."""
    if filename.startswith("<"):  # no file: text that was compiled, and Python's own frozen modules
        return False
    path = Path(filename).resolve()
    if not INSTALLED.isdisjoint(path.parts):  # here, or in another environment that is on the path
        return False
    return not any(path.is_relative_to(folder) for folder in _not_users())


@cache
def _not_users() -> tuple[Path, ...]:
    """Return where code lies that is no user's: ours, Python's, libraries', the program itself."""
    import sysconfig  # noqa: PLC0415  (not before something went wrong)

    libraries = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    program = Path(sys.argv[0])
    command = [program] if program.stem == "depthwise" else []  # else a script of the user's
    places = (Path(__file__).parent, *libraries, *command)
    return tuple(Path(place).resolve() for place in places if place)


def _place(filename: str, line: int, text: str | None) -> str:
    shown = f" ({text.strip()})" if text and text.strip() else ""
    return f"{filename}:{line}{shown}"
