"""Other people's code in a verb: no exit of theirs ends the command."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from depthwise.cli.stopping import Stopped
from depthwise.users_code import describe


def returning(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb out of which no exit of other people's code, and no KeyboardInterrupt, comes.

    Typer would take both for its own.
    """

    @wraps(verb)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            verb(*arguments, **options)
        except SystemExit as error:
            raise ValueError(f"the network: {describe(error)}") from error
        except KeyboardInterrupt as error:
            stop = Stopped()
            for note in getattr(error, "__notes__", ()):
                stop.add_note(note)
            raise stop from None

    return run
