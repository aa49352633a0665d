"""A network in an ONNX file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthwise.graph import NO_KWARGS, Shape
from depthwise.graph.frontends.onnx import read_onnx
from depthwise.graph.graph import shape_of
from depthwise.sources.source import GraphSource, check_dtypes


@dataclass(frozen=True, eq=False)
class OnnxSource(GraphSource):
    """An ONNX file, fixed to the shapes of its inputs.

    Attributes:
        path: The file.
    """

    path: Path

    def at(self, shapes: Sequence[Shape], kwargs: Mapping[str, Any] = NO_KWARGS) -> "OnnxSource":
        """Return the same network for inputs of other shapes, where the file leaves them open."""
        return onnx_source(self.path, shapes, kwargs)


def onnx_source(
    path: Path, shapes: Sequence[Shape] = (), kwargs: Mapping[str, Any] = NO_KWARGS
) -> OnnxSource:
    """Return the network in an ONNX file, for inputs of `shapes` where it leaves sizes open.

    Inputs have their shapes by position or by name; raises ValueError for some of both.
    """
    if shapes and kwargs:
        raise ValueError(
            f"{path}: some shapes are given with a name and some without: give each as "
            "NAME=SHAPE, or all in the file's order"
        )
    named = {name: shape_of(shape) for name, shape in kwargs.items()}
    graph = read_onnx(path, named or [shape_of(shape) for shape in shapes])
    check_dtypes(graph, shapes, kwargs)
    own = tuple(type_.shape for type_ in graph.inputs.values())
    return OnnxSource(path.stem, own, graph, path)
