"""The rules about planes: what each output pixel is made of, and how much of the image it sees."""

from collections.abc import Iterator
from itertools import groupby

from depthwise.analysis.finding import Finding
from depthwise.analysis.gridding import Reach, WindowedLayer, gridded_stacks
from depthwise.analysis.overlap import as_text, interior, overlap_counts
from depthwise.analysis.receptive_field import Field, receptive_fields
from depthwise.graph import Graph, Node, ops


def checkerboard(graph: Graph) -> Iterator[Finding]:
    """Find transposed convolutions whose output pixels sum unequally many products."""
    for node in graph:
        if not isinstance(node.op, ops.ConvTranspose2d):
            continue
        height, width = graph.type(node.inputs[1]).shape[2:]
        plane = graph.type(node.inputs[0]).shape[2:]
        # one input pixel alone overlaps with nothing
        stride = [s if size > 1 else 1 for s, size in zip(node.op.stride, plane, strict=True)]
        axes = tuple(zip((height, width), stride, node.op.dilation, strict=True))
        counts = [overlap_counts(*axis) for axis in axes]
        if all(len(set(line)) == 1 for line in counts):
            continue
        lines = list(dict.fromkeys(", ".join(map(str, line)) for line in counts))
        text = as_text(interior((height, width), (stride[0], stride[1]), node.op.dilation))
        yield Finding(
            "checkerboard", node.path or node.name,
            f"{_times(height, width)} kernel{_dilation(node.op.dilation)} with stride "
            f"{_times(*stride)}: neighbouring outputs sum {' and '.join(lines)} products along an "
            f"axis, in the plane\n{text}",
            "outputs that sum more products are stronger: a checkerboard, which training has to "
            "unlearn and seldom does (Odena et al., Distill 2016)",
            f"{_even_kernel(stride)}, or enlarge first and then convolve (layers.ResizeConv)",
            "warning",
        )  # fmt: skip


def _even_kernel(stride: list[int]) -> str:
    twice = _times(*(2 * s if s > 1 else 3 for s in stride))
    return f"take a kernel that the stride divides, without dilation, such as {twice}"


def gridding(graph: Graph) -> Iterator[Finding]:
    """Find stacks of dilated convolutions that leave out positions of their receptive field."""
    for stack in gridded_stacks(graph):
        dilated = [window for window in stack.stack if window.dilated]
        names = list(dict.fromkeys(w.node.path or w.node.name for w in dilated))
        first = f", from {names[0]} on" if len(names) > 1 else ""
        yield Finding(
            "gridding", names[-1],
            f"dilations {_dilations(stack.stack)} of {_kernels(stack.stack)} kernels{first}: "
            f"{_coverage(stack)}",
            "a pixel sees only a grid of points and its neighbour may see quite other ones: "
            "detail is missed and the output shows the grid (arXiv:1702.08502, section 3.2)",
            "let dilations grow from 1 without a common factor (1, 2, 5 or 1, 2, 4 with 3x3 "
            "kernels), or add dense 3x3 convolutions before or after",
            "warning" if len(dilated) > 1 else "note",
        )  # fmt: skip


def _coverage(stack: Reach) -> str:
    rows, columns = stack.coverages
    share = 100 * rows.covered * columns.covered / (rows.total * columns.total)
    shown = f"{rows.covered} of {rows.total} rows and {columns.covered} of {columns.total} columns"
    if rows == columns:
        shown = f"{rows.covered} of {rows.total} positions along each axis"
    return f"a pixel reads {shown}, {share:.0f} % of its receptive field there"


def _dilations(stack: tuple[WindowedLayer, ...]) -> str:
    """Return the dilations in order; a long run of the same one is counted."""
    shown = []
    for rate, run in groupby(_rate(window.dilation) for window in stack):
        count = len(list(run))
        shown += [f"{rate} ({count} times)"] if count > 3 else [rate] * count
    return ", ".join(shown)


def _kernels(stack: tuple[WindowedLayer, ...]) -> str:
    return " and ".join(dict.fromkeys("x".join(map(str, window.kernel)) for window in stack))


def small_field(graph: Graph) -> Iterator[Finding]:
    """Find classifiers whose last plane sees less than the image."""
    image = _image(graph)
    if image is None:
        return
    for node, field, pooled in _last_planes(graph):
        if not pooled or all(seen >= size for seen, size in zip(field.size, image, strict=True)):
            continue
        small = any(2 * seen < size for seen, size in zip(field.size, image, strict=True))
        yield Finding(
            "receptive-field", _last_layer(graph, node),
            f"the last layer with a plane sees {_times(*field.size)} pixels of an input of "
            f"{_times(*image)}",
            "no feature can relate what lies further apart; the head only weighs or averages what "
            "each place says on its own",
            "add layers, stride or dilation, or feed smaller images",
            "warning" if small else "note",
        )  # fmt: skip


def small_field_for_object(graph: Graph, object_size: int) -> Iterator[Finding]:
    """Find last planes that see less than an object of `object_size` pixels."""
    if _image(graph) is None:
        return
    for node, field, _ in _last_planes(graph):
        if min(field.size) >= object_size:
            continue
        yield Finding(
            "object-size", _last_layer(graph, node),
            f"the last layer with a plane sees {_times(*field.size)} pixels, the object has "
            f"{_times(object_size, object_size)}",
            "no feature sees the whole object at once: it is known by its parts only",
            "add layers, stride or dilation, or feed the objects smaller",
            "warning",
        )  # fmt: skip


def _image(graph: Graph) -> ops.Pair | None:
    """Return the input's (H, W); None where there is none or the layers do not bound the field."""
    unbounded = any(
        isinstance(n.op, ops.Opaque)
        or (isinstance(n.op, ops.MatMul) and len(graph.activations(n)) == 2)  # attention
        for n in graph
    )
    shape = next((t.shape for t in graph.inputs.values() if len(t.shape) == 4), None)
    return None if unbounded or shape is None else (shape[2], shape[3])


def _last_planes(graph: Graph) -> Iterator[tuple[Node, Field, bool]]:
    """Yield the nodes with planes that outputs are made of, and whether a pooling follows."""
    fields, nodes = receptive_fields(graph), {node.name: node for node in graph}
    found: set[str] = set()
    waiting = [(output.value, False) for output in graph.outputs]
    while waiting:
        name, pooled = waiting.pop()
        node = nodes.get(name)
        if node is None or name in found:
            continue
        found.add(name)
        plane, shape = not fields[name].whole, node.type.shape
        if plane and len(shape) == 4:
            # a plane read position by position, as tokens, is not the end of what is seen
            yield node, fields[name], pooled or shape[2:] == (1, 1)
        else:
            reads = graph.activations(node)
            tokens = plane and any(
                len(graph.type(r).shape) == 4 and graph.type(r).shape[2:] != (1, 1) for r in reads
            )
            waiting += [] if tokens else [(r, fields[name].whole) for r in reads]


def _last_layer(graph: Graph, node: Node) -> str:
    """Return the path of the convolution that a plane comes from, its own where there is none."""
    nodes, layer = {node.name: node for node in graph}, node
    while not isinstance(layer.op, (ops.Conv2d, ops.ConvTranspose2d, ops.DeformConv2d)):
        before = [nodes[name] for name in layer.inputs if name in nodes]
        if not before:
            return node.path or node.name
        layer = before[0]
    return layer.path or layer.name


def asymmetric_padding(graph: Graph) -> Iterator[Finding]:
    """Find windows whose input is padded more on one side than on the other."""
    readers = graph.readers()
    for node in graph:
        windows = (ops.Conv2d, ops.DeformConv2d, ops.MaxPool2d, ops.AvgPool2d)
        if isinstance(node.op, windows):
            padding = node.op.padding
        elif isinstance(node.op, ops.Pad) and any(
            isinstance(r.op, windows) for r in readers[node.name]
        ):
            padding = ops.Padding(*node.op.pads[-2], *node.op.pads[-1])
        else:
            continue
        if padding.symmetric:
            continue
        yield Finding(
            "asymmetric-padding", node.path or node.name,
            f"padding of {padding.top} above, {padding.bottom} below, {padding.left} left, "
            f"{padding.right} right",
            "features move by half a pixel against those of symmetric padding, and where the "
            "padding is an operator of its own the plane is copied once more",
            "pad both sides alike when you train again; keep it for weights trained so, such as "
            "TensorFlow's SAME in timm's tf_ checkpoints",
            "note",
        )  # fmt: skip


def _times(height: int, width: int) -> str:
    return f"{height}x{width}"


def _rate(dilation: ops.Pair) -> str:
    return str(dilation[0]) if dilation[0] == dilation[1] else _times(*dilation)


def _dilation(dilation: ops.Pair) -> str:
    return "" if dilation == (1, 1) else f" of dilation {_rate(dilation)}"
