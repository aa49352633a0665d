"""How a photograph is prepared for a network that is given on the command line."""

from typing import TYPE_CHECKING

from depthwise.cli.screen import say

if TYPE_CHECKING:
    from depthwise.sources.source import Source
    from depthwise.weights import Preprocessing


def preprocessing_of(source: "Source", name: str, side: int) -> "Preprocessing":
    """Return what the weights record, for images of `side` pixels, or else what is usual."""
    pretrained = source.pretrained
    return pretrained.preprocessing.for_side(side) if pretrained else assume(name, side)


def assume(source: str, side: int) -> "Preprocessing":
    """Return ImageNet's usual preprocessing, and say that `source` records none."""
    from depthwise.weights import imagenet_preprocessing  # noqa: PLC0415

    assumed = imagenet_preprocessing(side)
    say(
        f"{source} does not record its preprocessing; ImageNet's usual is assumed: "
        f"{assumed.resize} pixels, the middle {assumed.crop}"
    )
    return assumed
