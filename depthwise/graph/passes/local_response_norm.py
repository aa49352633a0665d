"""Local response normalisation, which PyTorch writes as eleven operators."""

from depthwise.graph import Graph, Node, ops
from depthwise.graph.ops import LocalResponseNorm
from depthwise.graph.rewrite import GraphRewriter


def recompose_local_response_norm(graph: Graph) -> Graph:
    """Recognise local response normalisation in what torch.nn.functional makes of it.

        y = x / (k + alpha · average(pad(x · x))) ** beta   ->   y = local_response_norm(x)

    The average is a pooling over channels, between reshapes. Only where nothing else reads what
    lies between.
    """
    edit = GraphRewriter(graph)
    for node in edit:
        op = _find(edit, node)
        if op is not None:
            edit.replace(node, op, node.inputs[0])
    return edit.result()


def _find(edit: GraphRewriter, node: Node) -> LocalResponseNorm | None:
    """Return the normalisation of its first input that ends in `node`."""
    if node.op != ops.Binary("divide") or len(edit.type(node.inputs[0]).shape) != 4:
        return None
    power = edit.private(node.inputs[1])
    if power is None or not isinstance(power.op, ops.Activation) or power.op.function != "power":
        return None
    total, k = _number(edit, edit.private(power.inputs[0]), "add")
    mean, alpha = _number(edit, total, "multiply")
    size = _window(edit, mean, node.inputs[0])
    if size is None or node.type != edit.type(node.inputs[0]):
        return None
    return LocalResponseNorm(size, alpha, power.op.parameters[0], k)


def _number(edit: GraphRewriter, node: Node | None, function: str) -> tuple[Node | None, float]:
    """Return (the node that gives a, c) of a sum or product a, c with one number c."""
    if node is None or not isinstance(node.op, ops.Binary) or node.op.function != function:
        return None, 0.0
    for source, other in (node.inputs, node.inputs[::-1]):
        data = edit.data(other)
        if data is not None and data.size == 1:
            return edit.private(source), float(data.item())
    return None, 0.0


def _window(edit: GraphRewriter, mean: Node | None, x: str) -> int | None:
    """Return how many channels `mean` averages the squares of x over, None if it does not."""
    n, c, height, width = edit.type(x).shape
    pool = _before_reshapes(edit, mean)
    if pool is None or not isinstance(pool.op, ops.AvgPool2d):
        return None
    size = pool.op.kernel[0]
    average = ops.AvgPool2d((size, 1), (1, 1), ops.NO_PADDING, False, True, None)
    pad = _before_reshapes(edit, edit.private(pool.inputs[0]))
    around = ops.Pad(((0, 0), (0, 0), (size // 2, (size - 1) // 2), (0, 0), (0, 0)), "constant")
    if pad is None or pad.op != around or pool.op != average:
        return None
    square = _before_reshapes(edit, edit.private(pad.inputs[0]))
    if square is None or square.op != ops.Binary("multiply") or square.inputs != (x, x):
        return None
    shaped = pad.type.shape == (n, 1, c + size - 1, height, width)
    pooled = pool.type.shape == (n, 1, c, height * width)
    return size if shaped and pooled else None


def _before_reshapes(edit: GraphRewriter, node: Node | None) -> Node | None:
    while node is not None and isinstance(node.op, ops.Reshape):
        node = edit.private(node.inputs[0])
    return node
