"""The rules about channels: vectors half empty, and layers that undo or harm one another."""

from collections.abc import Iterator
from math import prod

from depthwise.analysis.finding import Finding
from depthwise.graph import Graph, Node, ops

LANES = 8  # floats in an AVX vector; NEON's and WASM's 4 divide it

CONVOLUTIONS = (ops.Conv2d, ops.ConvTranspose2d, ops.DeformConv2d)
WEIGHTED = (*CONVOLUTIONS, ops.Linear, ops.MatMul)
NORMS = (ops.BatchNorm, ops.GroupNorm, ops.LayerNorm)

# Activations that are flat where they are off: what falls there is lost.
FLAT = ("relu", "relu6", "hard_swish", "clamp")


def channel_multiple(graph: Graph) -> Iterator[Finding]:
    """Find convolutions whose output channels do not fill vectors of 8.

    Left out: class scores, predicted offsets, maps of one channel (an attention's, say), and
    vectors (1x1 planes), which cost next to nothing.
    """
    left_out = _predictions(graph)
    for node in graph:
        if not isinstance(node.op, CONVOLUTIONS) or node.name in left_out:
            continue
        channels, plane = node.type.shape[1], node.type.shape[2:]
        idle = -channels % LANES
        if idle and channels > 1 and plane != (1, 1):
            share = 100 * idle / (channels + idle)
            yield Finding(
                "channels", node.path or node.name,
                f"{channels} output channels: {idle} of {channels + idle} vector lanes stay empty "
                f"({share:.0f} %)",
                f"kernels compute channels {LANES} at a time: the last vector takes the time of "
                "a full one",
                f"round channels to a multiple of {LANES}, as MobileNetV2 and V3 do "
                "(families.classifier.scale_channels)",
                "note",
            )  # fmt: skip


def _predictions(graph: Graph) -> set[str]:
    """Return the weighted nodes that outputs and offsets come from, no normalisation between."""
    nodes = {node.name: node for node in graph}
    waiting, seen = [output.value for output in graph.outputs], set()
    for node in graph:
        if isinstance(node.op, ops.DeformConv2d):
            waiting += node.inputs[3:]
    while waiting:
        node = nodes.get(waiting.pop())
        if node and node.name not in seen and not isinstance(node.op, NORMS):
            seen.add(node.name)
            waiting += () if isinstance(node.op, WEIGHTED) else graph.activations(node)
    return {name for name in seen if isinstance(nodes[name].op, WEIGHTED)}


def group_size(graph: Graph) -> Iterator[Finding]:
    """Find grouped convolutions, not depthwise ones, whose groups do not fill vectors of 4."""
    for node in graph:
        if not isinstance(node.op, CONVOLUTIONS) or node.op.groups == 1:
            continue
        groups = node.op.groups
        into, out = (graph.type(name).shape[1] // groups for name in (node.inputs[0], node.name))
        if 1 in (into, out) or (into % 4 == 0 and out % 4 == 0):
            continue
        idle = -out % 4
        empty = f": {idle} of {out + idle} vector lanes stay empty" if idle else ""
        yield Finding(
            "groups", node.path or node.name,
            f"{groups} groups of {into} input and {out} output channels{empty}",
            "a grouped convolution is many small ones: where a group fills no vector, it costs "
            "more time than its multiply-adds say",
            "take groups of 8 channels or a multiple (4 at the least), or a depthwise and a "
            "pointwise convolution",
            "note",
        )  # fmt: skip


def gate_without_plane(graph: Graph) -> Iterator[Finding]:
    """Find squeeze-and-excitation on 1x1 maps, where there is nothing to squeeze."""
    readers = graph.readers()
    for pool in graph:
        if not _pools_plane(pool) or graph.type(pool.inputs[0]).shape[2:] != (1, 1):
            continue
        gate, scaled = _gate_behind(pool, readers)
        if scaled is None:
            continue
        weights = dict.fromkeys(name for node in gate for name in graph.weights(node))
        count = sum(prod(graph.type(n).shape) for n in weights if graph.constants[n].trainable)
        yield Finding(
            "gate-1x1", scaled.path or scaled.name,
            f"a gate on {scaled.type.shape[1]} channels of 1x1 pixel, with {count:,} parameters",
            "the mean over one pixel is that pixel: the gate is computed from the very numbers it "
            "scales and adds no view of the whole image",
            "leave the gate out here, or feed larger images",
            "warning",
        )  # fmt: skip


def _pools_plane(node: Node) -> bool:
    match node.op:
        case ops.AdaptivePool2d(size=size):
            return size == (1, 1)
        case ops.Reduce(axes=axes):
            return axes == (2, 3)
    return False


def _gate_behind(pool: Node, readers: dict[str, list[Node]]) -> tuple[list[Node], Node | None]:
    """Return the nodes from a pooling to where they scale what was pooled, and that last node."""
    gate, waiting, seen = [], [pool], set()
    while waiting:
        node = waiting.pop(0)
        for reader in readers[node.name]:
            if reader.name in seen:
                continue
            if _is_binary(reader, "multiply") and pool.inputs[0] in reader.inputs:
                return gate, reader
            seen.add(reader.name)
            gate.append(reader)
            waiting.append(reader)
    return gate, None


def bias_before_norm(graph: Graph) -> Iterator[Finding]:
    """Find biases that a normalisation of each channel subtracts again."""
    readers, outputs = graph.readers(), {output.value for output in graph.outputs}
    for node in graph:
        reads = readers[node.name]
        if not isinstance(node.op, (*CONVOLUTIONS, ops.Linear)) or len(reads) != 1:
            continue
        biases = [name for name in node.inputs[2:3] if name in graph.constants]
        bias = next((name for name in biases if graph.constants[name].trainable), None)
        norm, channels = reads[0].op, graph.type(node.name).shape[1]
        by_channel = isinstance(norm, ops.BatchNorm) or (
            isinstance(norm, ops.GroupNorm) and norm.groups == channels
        )
        if bias is None or not by_channel or node.name in outputs:
            continue
        kind = "batch" if isinstance(norm, ops.BatchNorm) else "instance"
        yield Finding(
            "bias-before-norm", node.path or node.name,
            f"{channels} biases in front of a {kind} normalisation",
            "the normalisation subtracts each channel's mean, and the bias with it: parameters "
            "that learn nothing",
            "build the layer with bias=False; the normalisation has its own shift",
            "note",
        )  # fmt: skip


def bottleneck_activation(graph: Graph) -> Iterator[Finding]:
    """Find inverted residuals whose narrow output goes through an activation."""
    nodes, readers = {node.name: node for node in graph}, graph.readers()
    for project in graph:
        if not _is_pointwise(project, graph) or not _shrinks(project, graph):
            continue
        depthwise = _convolution_before(project, nodes)
        if depthwise is None or not _is_depthwise(depthwise, graph):
            continue
        expand = _convolution_before(depthwise, nodes)
        inverted = expand is not None and _is_pointwise(expand, graph) and _expands(expand, graph)
        activation, added = _activation_behind(project, readers)
        if activation is None or not (inverted or added):
            continue
        into, out = graph.type(project.inputs[0]).shape[1], project.type.shape[1]
        yield Finding(
            "bottleneck-activation", project.path or project.name,
            f"a projection {into} -> {out} channels, then {_function(activation)}"
            f"{' after the shortcut' if added else ''}, in {activation.path or activation.name}",
            "in few channels what an activation sets to a constant cannot be restored from the "
            "others: information is lost (MobileNetV2, arXiv:1801.04381, section 3.2)",
            "leave the narrow end of the block linear: no activation between the projection and "
            "the next expansion",
            "warning",
        )  # fmt: skip


def _function(activation: Node) -> str:
    assert isinstance(activation.op, ops.Activation)
    is_relu6 = activation.op.function == "clamp" and activation.op.parameters == (0, 6)
    return "relu6" if is_relu6 else activation.op.function


def _is_pointwise(node: Node, graph: Graph) -> bool:
    return (
        isinstance(node.op, ops.Conv2d)
        and node.op.groups == 1
        and graph.type(node.inputs[1]).shape[2:] == (1, 1)
    )


def _is_depthwise(node: Node, graph: Graph) -> bool:
    return (
        isinstance(node.op, ops.Conv2d)
        and node.op.groups > 1
        and graph.type(node.inputs[1]).shape[1] == 1
    )


def _shrinks(node: Node, graph: Graph) -> bool:
    return 2 * node.type.shape[1] <= graph.type(node.inputs[0]).shape[1]


def _expands(node: Node, graph: Graph) -> bool:
    return node.type.shape[1] > graph.type(node.inputs[0]).shape[1]


def _is_binary(node: Node, function: str) -> bool:
    return isinstance(node.op, ops.Binary) and node.op.function == function


def _convolution_before(node: Node, nodes: dict[str, Node]) -> Node | None:
    """Return the convolution that a node reads through normalisation, activation and gate."""
    before = nodes.get(node.inputs[0])
    while before and not isinstance(before.op, CONVOLUTIONS):
        if not isinstance(before.op, (*NORMS, ops.Activation, ops.PRelu)) and not _is_binary(
            before, "multiply"
        ):
            return None
        # of a gate's two inputs, the plane and not the 1x1 factors
        same = [n for n in before.inputs if n in nodes and nodes[n].type.shape == before.type.shape]
        before = nodes[same[0]] if same else None
    return before


def _activation_behind(project: Node, readers: dict[str, list[Node]]) -> tuple[Node | None, bool]:
    """Return the flat activation that reads a projection, and whether a shortcut joins before."""
    waiting = [(project, False)]
    while waiting:
        node, added = waiting.pop()
        for reader in readers[node.name]:
            if isinstance(reader.op, ops.Activation) and reader.op.function in FLAT:
                return reader, added
            if isinstance(reader.op, NORMS):
                waiting.append((reader, added))
            elif _is_binary(reader, "add") and not added:
                waiting.append((reader, True))
    return None, False
