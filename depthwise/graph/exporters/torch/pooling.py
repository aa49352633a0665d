"""Windows over planes and what gives them another size, in PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from depthwise.graph import ops
from depthwise.graph.exporters.torch.rules import function_of
from depthwise.graph.exporters.torch.weighted import pad_plane
from depthwise.graph.infer import pooled
from depthwise.graph.interpret import pixels_counted
from depthwise.graph.ops import Padding, Pair

PoolingOp = ops.MaxPool2d | ops.MaxPoolIndices | ops.AvgPool2d


def is_usual(op: PoolingOp) -> bool:
    """Tell whether PyTorch has the padding: equal on opposite sides, half a window at most."""
    pad, (height, width) = op.padding, op.kernel
    return pad.symmetric and 2 * pad.top <= height and 2 * pad.left <= width


def covered(x: Tensor, op: PoolingOp, outside: float) -> tuple[Tensor, Pair]:
    """Return planes with pixels wherever a window hangs over, and how many windows there are."""
    dilation = (1, 1) if isinstance(op, ops.AvgPool2d) else op.dilation
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, op.kernel, strict=True)]
    height, width = x.shape[-2:]
    size = pooled((height, width), (reach[0], reach[1]), op.stride, op.padding, op.ceil)
    needed = [(n - 1) * s + k for n, s, k in zip(size, op.stride, reach, strict=True)]
    pad = op.padding
    bottom = max(pad.bottom, needed[0] - height - pad.top)
    right = max(pad.right, needed[1] - width - pad.left)
    return pad_plane(x, Padding(pad.top, bottom, pad.left, right), outside), size


def lowest(dtype: torch.dtype) -> float:
    """Return what is below all numbers of a type."""
    return -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min


@function_of.register
def _(op: ops.MaxPool2d, site):  # noqa: ARG001
    sides = (op.padding.top, op.padding.left)
    if is_usual(op):
        return lambda x: F.max_pool2d(x, op.kernel, op.stride, sides, op.dilation, op.ceil)

    def pool(x):
        padded, (height, width) = covered(x, op, lowest(x.dtype))
        y = F.max_pool2d(padded, op.kernel, op.stride, 0, op.dilation)
        return y[..., :height, :width]

    return pool


@function_of.register
def _(op: ops.MaxPoolIndices, site):  # noqa: ARG001
    def pool(x):
        sides = (op.padding.top, op.padding.left)
        if is_usual(op):
            how = op.kernel, op.stride, sides, op.dilation, op.ceil
            return F.max_pool2d(x, *how, return_indices=True)[1]
        padded, (height, width) = covered(x, op, lowest(x.dtype))
        _, at = F.max_pool2d(padded, op.kernel, op.stride, 0, op.dilation, return_indices=True)
        rows, columns = at // padded.shape[-1], at % padded.shape[-1]
        places = (rows - sides[0]) * x.shape[-1] + columns - sides[1]
        return places[..., :height, :width]

    return pool


@function_of.register
def _(op: ops.MaxUnpool2d, site):
    before = site.shapes[0][-2:]

    def unpool(x, places):
        return torch.ops.aten.max_unpool2d(x, places, scaled(op.size, before, x))

    return unpool


@function_of.register
def _(op: ops.AvgPool2d, site):  # noqa: ARG001
    sides = (op.padding.top, op.padding.left)
    if is_usual(op):
        how = op.kernel, op.stride, sides, op.ceil, op.count_padding, op.divisor
        return lambda x: F.avg_pool2d(x, *how)

    def pool(x):
        padded, (height, width) = covered(x, op, 0.0)
        total = F.avg_pool2d(padded, op.kernel, op.stride, divisor_override=1)
        rows, columns = x.shape[-2:]
        counted = torch.from_numpy(pixels_counted(op, (rows, columns)))
        return total[..., :height, :width] / counted.to(x)

    return pool


@function_of.register
def _(op: ops.AdaptivePool2d, site):  # noqa: ARG001
    pool = F.adaptive_avg_pool2d if op.function == "mean" else F.adaptive_max_pool2d
    return lambda x: pool(x, op.size)


# -------------------------------------------------------------------------------------- resizing


def scaled(size: Pair, before: Pair, x: Tensor) -> Pair:
    """Return the size that planes get, in proportion to how large they are in the graph."""
    height, width = (new * n // old for new, old, n in zip(size, before, x.shape[-2:], strict=True))
    return height, width


@function_of.register
def _(op: ops.Resize, site):
    before = site.shapes[0][-2:]
    if op.align_corners:
        steps = tuple(
            (n - 1) / (m - 1) if m > 1 else 0.0 for n, m in zip(before, op.size, strict=True)
        )
    else:
        steps = tuple(n / m for n, m in zip(before, op.size, strict=True))
    factors = (None, None) if steps == op.step else tuple(1 / step for step in op.step)
    aten = torch.ops.aten
    if op.mode == "bilinear":
        return lambda x: aten.upsample_bilinear2d(
            x, scaled(op.size, before, x), op.align_corners, *factors
        )
    resize = aten.upsample_nearest2d if op.mode == "nearest" else aten._upsample_nearest_exact2d
    return lambda x: resize(x, scaled(op.size, before, x), *factors)


@function_of.register
def _(op: ops.Resample, site):
    """Multiply by the matrix that has the weights in its rows."""
    length, rows = site.shapes[0][op.axis], len(op.first)
    cells = [
        row * length + first + tap
        for row, (first, count) in enumerate(zip(op.first, op.counts, strict=True))
        for tap in range(count)
    ]

    def resample(x, weights):
        places = torch.tensor(cells, device=x.device)
        matrix = weights.new_zeros(rows * length).scatter(0, places, weights)
        y = x.movedim(op.axis, -1) @ matrix.view(rows, length).T
        return y.movedim(-1, op.axis)

    return resample


@function_of.register
def _(op: ops.GridSample, site):  # noqa: ARG001
    def sample(x, grid):
        images = max(len(x), len(grid))
        x, grid = x.expand(images, -1, -1, -1), grid.expand(images, -1, -1, -1)
        return F.grid_sample(x, grid, op.mode, op.outside, op.align_corners)

    return sample
