"""Plans by other constants than a core's, so that what is small is streamed and divided too."""

from collections.abc import Callable
from dataclasses import replace

from depthwise.compiler.constants import Constants, constants_of
from depthwise.hardware.core import Core
from depthwise.runtime.target import Target

PLACE = "depthwise.compiler.planning.constants_of"  # where planning finds the function


def changed(**changes: float) -> Callable[..., Constants]:
    """Return what takes the place of `constants_of`, and changes what it returns."""

    def found(target: Target, core: Core | None = None) -> Constants:
        return replace(constants_of(target, core), **changes)

    return found
