"""The feature maps of a network's layers: which values they are, and their numbers for an input."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthwise.analysis.count import kind
from depthwise.errors import nearest
from depthwise.escaping import in_line
from depthwise.graph import Graph, Node, Output, Shape, interpret, ops
from depthwise.graph.passes.dead_code import remove_dead_code
from depthwise.graph.until import Computed, find_end, known_ends

CONVOLUTIONS = (ops.Conv2d, ops.ConvTranspose2d, ops.DeformConv2d)
# What a convolution hands its result to and is drawn with: the maps are those that others read.
AFTER = (ops.BatchNorm, ops.GroupNorm, ops.Activation, ops.PRelu)


@dataclass(frozen=True)
class MapLayer:
    """A layer whose maps can be looked at.

    Attributes:
        name: The path of a convolution, or whatever names another layer.
        kind: The convolution's kind, as in `depthwise cost`; "" for what is no convolution.
        value: The value of the graph that holds the maps.
        shape: Its shape, (N, C, H, W).
    """

    name: str
    kind: str
    value: str
    shape: Shape


def convolution_layers(graph: Graph) -> tuple[MapLayer, ...]:
    """Return each convolution, with its normalisation and its activation: the maps after both."""
    readers = graph.readers()
    returned = {output.value for output in graph.outputs}
    found = []
    for node in (node for node in graph if isinstance(node.op, CONVOLUTIONS)):
        last = node
        while last.name not in returned and (after := _only(readers[last.name])):
            if not (isinstance(after.op, AFTER) and after.inputs[0] == last.name):
                break
            last = after
        shape = graph.type(last.name).shape
        found.append(MapLayer(node.path or node.name, kind(graph, node), last.name, shape))
    paths = [layer.name for layer in found]
    return tuple(  # one that is called several times has as many maps, named as values are
        layer if paths.count(layer.name) == 1 else replace(layer, name=layer.value)
        for layer in found
    )


def find_layer(graph: Graph, name: str) -> MapLayer:
    """Return the layer of that name: a convolution, or what another module gives, or a value.

    Raises ValueError for a name that is none of these, and for a layer that gives no maps.
    """
    layers = convolution_layers(graph)
    steps = [Computed(node.name, node.path, node.inputs) for node in graph]
    for layer in layers:
        if layer.name == name:
            return layer
    known = known_ends(steps)
    if name not in known:
        raise ValueError(
            f"layer {in_line(name)}: no module and no value of the network has that name: "
            f"{in_line(nearest(name, known))}"
        )
    values = find_end(name, steps, {output.value for output in graph.outputs})
    shapes = [graph.type(value).shape for value in values]
    if len(values) != 1 or len(shapes[0]) != 4:
        given = ", ".join("x".join(map(str, shape)) for shape in shapes) or "nothing"
        some = ", ".join(layer.name for layer in layers[:4]) or "none"
        raise ValueError(
            f"layer {in_line(name)} gives {given}, and no 2-D maps (N, C, H, W); "
            f"layers that do: {in_line(some)}"
        )
    return MapLayer(name, "", values[0], shapes[0])


def feature_maps(
    graph: Graph, layers: Iterable[MapLayer], inputs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return the maps (C, H, W) of the first image, layer by layer, as NumPy computes them.

    What the layers do not need is not computed. Raises Unsupported for an operator that is not
    known, and for weights that have no data.
    """
    values = [layer.value for layer in layers]
    outputs = tuple(Output(str(i), value) for i, value in enumerate(values))
    computed = interpret(remove_dead_code(replace(graph, outputs=outputs, signature=None)), *inputs)
    return [computed[value][0] for value in values]


def _only(readers: list[Node]) -> Node | None:
    return readers[0] if len(readers) == 1 else None
