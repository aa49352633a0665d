"""Modules by their names: what each front end that builds networks makes of a text."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from depthwise.graph import Graph, Shape
from depthwise.sources.factory import build_from_factory
from depthwise.sources.files import open_file
from depthwise.sources.libraries import build_from_timm, build_from_torchvision
from depthwise.sources.ours import build_convolution, build_network
from depthwise.sources.spec import GRAPHS, FrontEnd, Settings, Spec

if TYPE_CHECKING:
    from torch import nn

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
    if spec.front_end in GRAPHS:
        from depthwise.graph.exporters.torch import to_module  # noqa: PLC0415

        if settings:
            raise ValueError(f"{spec.text} is built already: it takes no {next(iter(settings))!r}")
        graph = graph_named(spec)
        return to_module(graph).eval(), next(iter(graph.inputs.values())).shape
    if spec.front_end == "quantized":
        raise ValueError(
            f"{spec.text} is quantised: it is trained further by `depthwise train --quantize int8` "
            "alone; else give the network that it was made of"
        )
    return BUILDERS[spec.front_end](spec, settings)


def graph_named(spec: Spec) -> Graph:
    """Return the network of a front end in `GRAPHS`, its weights named as modules name them.

    Raises ValueError for a file that cannot be used, Unsupported for one that cannot be computed.
    """
    from depthwise.graph.exporters.torch.naming import name_weights  # noqa: PLC0415
    from depthwise.sources.network_folder import GRAPH  # noqa: PLC0415
    from depthwise.sources.slimmed_folder import read_slimmed  # noqa: PLC0415

    path = Path(spec.name)
    if spec.front_end == "slimmed":
        read_slimmed(path)
        path = path / GRAPH
    return name_weights(open_file(path, ()).graph)
