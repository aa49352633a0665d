"""Modules by their names: what each front end that builds networks makes of a text."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from depthwise.sources.factory import build_from_factory
from depthwise.sources.libraries import build_from_timm, build_from_torchvision
from depthwise.sources.ours import build_convolution, build_network
from depthwise.sources.spec import FrontEnd, Settings, Spec

if TYPE_CHECKING:
    from torch import nn

    from depthwise.graph import Shape

BUILDERS: dict[FrontEnd, "Callable[[Spec, Settings], tuple[nn.Module, Shape]]"] = {
    "ours": build_network,
    "conv": build_convolution,
    "timm": build_from_timm,
    "torchvision": build_from_torchvision,
    "factory": build_from_factory,
}


def build(spec: Spec, settings: Settings) -> "tuple[nn.Module, Shape]":
    """Return the network that a text names, and the shape of its usual input.

    Raises ValueError for a name or an option that cannot be used.
    """
    return BUILDERS[spec.front_end](spec, settings)
