"""The preparation of images at the front of a graph."""

from dataclasses import replace
from typing import cast

import numpy as np

from depthwise.compiler.fused_ops import Fused, Images
from depthwise.compiler.preparation import Preparation
from depthwise.graph import Constant, Graph, Node, TensorType, ops
from depthwise.graph.names import take_name
from depthwise.graph.ops import NO_PADDING, Op, Padding
from depthwise.graph.passes.scale import ChannelScale, scale_inputs
from depthwise.graph.rewrite import GraphRewriter


def fold_input(graph: Graph, preparation: Preparation) -> Graph:
    """Let a graph take raw images, and prepare them at no cost where a convolution comes first.

        z = conv(x, w, b)   ->   z = conv'(images(x'), w / std, b - sum of w · mean / std)
        z = f(x)            ->   z = f(batchnorm(images(x')))

    with x = (x' - mean) / std. What the convolution pads with zeros is now a border of `mean`
    around the images, and its own padding none. The second wherever x has other readers, or is
    returned. Raises ValueError for a graph that has not one input of images with as many channels.
    """
    name = _only_input(graph, preparation)
    conv = _only_reader(graph, name)
    return _fold(graph, name, conv, preparation) if conv else _scale(graph, name, preparation)


def _only_input(graph: Graph, preparation: Preparation) -> str:
    types = list(graph.inputs.values())
    channels = len(preparation.mean)
    images = len(types) == 1 and len(types[0].shape) == 4 and types[0].dtype == "float32"
    if not images or types[0].shape[1] != channels:
        found = ", ".join(map(str, types)) or "none"
        raise ValueError(
            f"preparation with {channels} means and stds: the network's inputs are {found}, where "
            f"it takes a single one of images, (N, {channels}, H, W) in float32"
        )
    return next(iter(graph.inputs))


def _only_reader(graph: Graph, name: str) -> Node | None:
    """Return the convolution that alone reads the input, with weights that we know, else None."""
    readers = graph.readers()[name]
    if len(readers) != 1 or any(output.value == name for output in graph.outputs):
        return None
    conv = readers[0]
    known = all(value in graph.constants and graph.constants[value].data is not None
                for value in conv.inputs[1:3])  # fmt: skip
    once = conv.inputs.count(name) == 1 and conv.inputs[0] == name
    return conv if _conv2d(conv.op) and known and once else None


def _conv2d(op: Op) -> ops.Conv2d | None:
    inner = op.op if isinstance(op, Fused) else op
    return inner if isinstance(inner, ops.Conv2d) else None


def _fold(graph: Graph, name: str, conv: Node, preparation: Preparation) -> Graph:
    inner = _conv2d(conv.op)
    assert inner is not None
    plain = replace(inner, padding=NO_PADDING)
    op = replace(conv.op, op=plain) if isinstance(conv.op, Fused) else plain
    raw = _with_images(graph, name, preparation, inner.padding)
    raw = replace(raw, nodes=tuple(replace(node, op=op) if node.name == conv.name else node
                                   for node in raw))  # fmt: skip
    edit = GraphRewriter(raw)
    node = edit.node(conv.name)
    assert node is not None
    mean, std = (np.array(values) for values in (preparation.mean, preparation.std))
    scale = ChannelScale(node.inputs[0], 1 / (std * preparation.largest), -mean / std)
    inputs = scale_inputs(edit, replace(node, op=plain), scale)
    assert inputs is not None
    edit.replace(node, op, *inputs)
    return edit.result()


def _scale(graph: Graph, name: str, preparation: Preparation) -> Graph:
    """Put arithmetic between the images and whatever reads them."""
    graph = _with_images(graph, name, preparation, NO_PADDING)
    images, *nodes = graph.nodes
    mean, std = (np.array(values) * preparation.largest
                 for values in (preparation.mean, preparation.std))  # fmt: skip
    data = (1 / std, 0 * mean, mean, np.ones_like(std))  # weight, bias, mean, variance
    parts = ("weight", "bias", "mean", "variance")
    names = [take_name(f"{name}.{part}", graph.names()) for part in parts]
    constants = {
        constant: Constant(TensorType(values.shape), values.astype(np.float32))
        for constant, values in zip(names, data, strict=True)
    }
    made = take_name(f"{name}.prepared", graph.names())
    inputs = (images.name, *names)
    prepared = Node(made, ops.BatchNorm(0.0), inputs, images.type, images.path)
    readers = (_reading(node, images.name, prepared.name) for node in nodes)
    outputs = tuple(replace(output, value=prepared.name) if output.value == images.name else output
                    for output in graph.outputs)  # fmt: skip
    return replace(
        graph, constants={**graph.constants, **constants}, nodes=(images, prepared, *readers),
        outputs=outputs,
    )  # fmt: skip


def _with_images(graph: Graph, name: str, preparation: Preparation, padding: Padding) -> Graph:
    """Let everyone read raw images, in floats with a border of the mean, in place of the input."""
    n, c, h, w = graph.inputs[name].shape
    border = tuple(mean * preparation.largest for mean in preparation.mean)
    op = Images(preparation.layout, padding, border if any(padding) else (0.0,) * c)
    type_ = TensorType((n, c, padding.top + h + padding.bottom, padding.left + w + padding.right))
    # graph.ops.Op lists what capture makes; check and interpret find ours by dispatch
    images = Node(take_name(f"{name}.images", graph.names()), cast(Op, op), (name,), type_, "")
    raw = TensorType(preparation.raw_shape((n, c, h, w)), preparation.dtype)
    readers = (_reading(node, name, images.name) for node in graph)
    outputs = tuple(replace(output, value=images.name) if output.value == name else output
                    for output in graph.outputs)  # fmt: skip
    return replace(graph, inputs={name: raw}, nodes=(images, *readers), outputs=outputs)


def _reading(node: Node, old: str, new: str) -> Node:
    return replace(node, inputs=tuple(new if name == old else name for name in node.inputs))
