"""The rules of PyTorch's operators that cut tensors into windows, and put windows together."""

from depthwise.graph import ops
from depthwise.graph.builder import Builder
from depthwise.graph.frontends.patches import columns, overlapped, windows
from depthwise.graph.frontends.torch.aten import image_rule, pair, rule
from depthwise.graph.frontends.torch.aten_index import permuted


@rule("aten.unfold")
def _(b: Builder, x, dimension, size, step):
    """Windows take the place of the axis, and what is in them comes last."""
    axis = x.axis(dimension)
    y = windows(b, x, axis, size, step)
    order = [a for a in range(y.rank) if a != axis + 1]
    return permuted(b, y, (*order, axis + 1))


@image_rule("aten.im2col")
def _(b: Builder, x, kernel_size, dilation, padding, stride):
    return columns(b, x, *map(pair, (kernel_size, dilation, padding, stride)))


@rule("aten.col2im")
def _(b: Builder, x, output_size, kernel_size, dilation, padding, stride):
    batch = x if x.rank == 3 else b.emit(ops.Reshape((1, *x.shape)), x)
    sizes = map(pair, (output_size, kernel_size, dilation, padding, stride))
    y = overlapped(b, batch, *sizes)
    return y if x.rank == 3 else b.emit(ops.Reshape(y.shape[1:]), y)
