"""How a photograph is prepared for a network that is given on the command line."""

from typing import TYPE_CHECKING

from depthwise.cli.screen import say

if TYPE_CHECKING:
    from depthwise.sources.source import Source
    from depthwise.weights import Preprocessing


def preprocessing_of(source: "Source", name: str, side: int) -> "Preprocessing":
    """Return what the weights record, for images of `side` pixels, or else what is usual."""
    from depthwise.training.classifier import preparation_for  # noqa: PLC0415

    found, notes = preparation_for(source, name, side)
    for note in notes:
        say(note)
    return found
