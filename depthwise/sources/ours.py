"""Networks and single convolutions of ours, by name, with their options as text or values."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from depthwise.sources.spec import RUN, Settings, Spec, is_run, join
from depthwise.users_code import describe as describe_error

if TYPE_CHECKING:
    from torch import nn

    from depthwise.families.registry import Entry
    from depthwise.graph import Shape

    Built = tuple[nn.Module, Shape]


def build_network(spec: Spec, settings: Settings) -> "Built":
    """Return a registered network, and the shape of the image that its paper feeds it."""
    from depthwise.families import find_network  # noqa: PLC0415

    try:
        entry = find_network(spec.name)
    except ValueError as error:
        run = f"{RUN}{spec.name}, " if is_run(Path(spec.name)) else ""
        elsewhere = f"{run}timm:{spec.name}, torchvision:{spec.name}"
        raise ValueError(f"{error}; elsewhere: {elsewhere}") from None
    return _construct(entry, settings)


def build_convolution(spec: Spec, settings: Settings) -> "Built":
    """Return a network of one convolution, by its kind."""
    from depthwise.families.single import CONVOLUTIONS  # noqa: PLC0415

    return _construct(CONVOLUTIONS.find(spec.name), settings)


def _construct(entry: "Entry", settings: Settings) -> "Built":
    with _settable(entry.name, settings):
        net = entry.construct(**settings).eval()
    channels = entry.options["in_channels"].default
    if "in_channels" in settings:
        channels = entry.parse("in_channels", settings["in_channels"])
    return net, (1, channels, entry.resolution, entry.resolution)


@contextmanager
def _settable(name: str, settings: Settings) -> Iterator[None]:
    """Raise ValueError where options, with large numbers above all, make what cannot be built."""
    try:
        yield
    except (ArithmeticError, MemoryError, RuntimeError, TypeError) as error:
        if not settings:
            raise
        reason = describe_error(error)
        raise ValueError(f"{name} cannot be built with {join(settings)}: {reason}") from error
