"""Whatever a network comes as, as a graph."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthwise.graph.graph import Graph, Shape
from depthwise.graph.serialize import SUFFIX, open_graph

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    Network = Graph | nn.Module | ExportedProgram | str | PathLike[str]


def as_graph(net: "Network", *shapes: Shape) -> Graph:
    """Return a network as a graph: a module, a program, the path of a saved one, or a graph itself.

    Only a module needs `shapes`, one for each input (N, C, H, W): all others bring their own.
    Raises ValueError for shapes or a file that do not fit, Unsupported where `capture` does.
    """
    graph = net if isinstance(net, Graph) else None
    if isinstance(net, str | PathLike) and Path(net).suffix == SUFFIX:
        graph = open_graph(net)
    if graph is None:
        return _captured(net, shapes)
    own = tuple(type_.shape for type_ in graph.inputs.values())
    if shapes and tuple(map(tuple, shapes)) != own:
        raise ValueError(f"shapes {shapes}: this graph is for inputs of {own}")
    return graph


def _captured(net: Any, shapes: tuple[Shape, ...]) -> Graph:
    """Return what PyTorch knows how to read, as a graph."""
    from depthwise.graph.frontends.torch.capture import capture  # noqa: PLC0415
    from depthwise.graph.frontends.torch.pt2 import load_program  # noqa: PLC0415

    if isinstance(net, str | PathLike):
        path = Path(net)
        if path.suffix != ".pt2":
            raise ValueError(
                f"{path}: a network's file is a .pt2 file (torch.export.save) or a graph that "
                f"save_graph wrote ({SUFFIX})"
            )
        net = load_program(path)
    return capture(net, *shapes)
