"""How much of the input each output pixel sees, and how far apart two neighbours look.

Araujo, Norris & Sim, "Computing receptive fields of convolutional neural networks", Distill 2019.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import singledispatch
from math import ceil

from depthwise.graph import Graph, Shape, ops


@dataclass(frozen=True)
class AxisField:
    """One axis of a receptive field: `size` input pixels, neighbours `step` input pixels apart."""

    size: Fraction
    step: Fraction

    def window(self, kernel: int, stride: int, dilation: int = 1) -> "AxisField":
        """Return the axis after a window of `kernel` taps."""
        return AxisField(self.size + (kernel - 1) * dilation * self.step, self.step * stride)

    def spread(self, kernel: int, stride: int, dilation: int = 1) -> "AxisField":
        """Return the axis after a transposed window: each output sees kernel / stride inputs."""
        taps = ceil(Fraction((kernel - 1) * dilation + 1, stride))
        return AxisField(self.size + (taps - 1) * self.step, self.step / stride)


@dataclass(frozen=True)
class Field:
    """The receptive field of one value: vertical and horizontal; `whole` once all was pooled."""

    axes: tuple[AxisField, AxisField]
    whole: bool = False
    plane: tuple[int, ...] | None = None  # height and width after the last window

    @property
    def size(self) -> tuple[int, int]:
        """Pixels of the input seen, down and across, as if the input had no end."""
        return ceil(self.axes[0].size), ceil(self.axes[1].size)

    @property
    def step(self) -> tuple[float, float]:
        """Input pixels from one output pixel to the next."""
        return float(self.axes[0].step), float(self.axes[1].step)


POINT = Field((AxisField(Fraction(1), Fraction(1)), AxisField(Fraction(1), Fraction(1))))


def receptive_fields(graph: Graph) -> dict[str, Field]:
    """Return the receptive field of every input and node, by name.

    A gate (squeeze-and-excitation) is not followed: it weighs channels, it does not see shapes.
    A deformable convolution counts as the convolution it starts from.
    """
    fields, whole = dict.fromkeys(graph.inputs, POINT), _whole(graph)
    for node in graph:
        reads = [name for name in node.inputs if name in fields]
        if not reads:  # made of constants alone
            fields[node.name] = POINT
            continue
        planes = [name for name in reads if _has_plane(graph.type(name).shape)] or reads
        seen = _union([fields[name] for name in planes])
        shapes = [graph.type(name).shape for name in node.inputs]
        field = _step(node.op, seen, whole, *shapes)
        if isinstance(node.op, WINDOWED):
            # a plane folded into one axis (local response normalisation) slides over channels
            folded = seen.plane not in (None, shapes[0][-2:])
            field = seen if folded else replace(field, plane=node.type.shape[-2:])
        fields[node.name] = field
    return fields


def _has_plane(shape: Shape) -> bool:
    return len(shape) >= 4 and shape[-1] * shape[-2] > 1


def _union(fields: list[Field]) -> Field:
    """Return the largest of fields that meet in one value."""
    axes = [
        AxisField(max(f.axes[i].size for f in fields), max(f.axes[i].step for f in fields))
        for i in (0, 1)
    ]
    plane = next((f.plane for f in fields if f.plane), None)
    return Field((axes[0], axes[1]), any(f.whole for f in fields), plane)


def _whole(graph: Graph) -> Field:
    """Return the field that covers the whole of the first image."""
    height, width = next((t.shape[2:] for t in graph.inputs.values() if len(t.shape) == 4), (1, 1))
    axes = [AxisField(Fraction(size), Fraction(size)) for size in (height, width)]
    return Field((axes[0], axes[1]), whole=True)


WINDOWED = (
    ops.Conv2d, ops.ConvTranspose2d, ops.DeformConv2d, ops.MaxPool2d, ops.AvgPool2d,
    ops.AdaptivePool2d, ops.Resize, ops.Resample, ops.MaxUnpool2d,
)  # fmt: skip


@singledispatch
def _step(op: ops.Op, seen: Field, whole: Field, *shapes: Shape) -> Field:  # noqa: ARG001
    return seen


def _windowed(seen: Field, kernel, stride, dilation=(1, 1), method=AxisField.window) -> Field:
    axes = [
        method(axis, k, s, d)
        for axis, k, s, d in zip(seen.axes, kernel, stride, dilation, strict=True)
    ]
    return replace(seen, axes=(axes[0], axes[1]))


@_step.register
def _(op: ops.Conv2d | ops.DeformConv2d, seen, whole, x, weight, *_):  # noqa: ARG001
    return _windowed(seen, weight[2:], op.stride, op.dilation)


@_step.register
def _(op: ops.ConvTranspose2d, seen, whole, x, weight, *_):  # noqa: ARG001
    return _windowed(seen, weight[2:], op.stride, op.dilation, AxisField.spread)


@_step.register
def _(op: ops.MaxPool2d, seen, whole, *_):  # noqa: ARG001
    return _windowed(seen, op.kernel, op.stride, op.dilation)


@_step.register
def _(op: ops.AvgPool2d, seen, whole, *_):  # noqa: ARG001
    return _windowed(seen, op.kernel, op.stride)


@_step.register
def _(op: ops.AdaptivePool2d, seen, whole, x):
    if op.size == (1, 1):
        return whole
    bins = [ceil(Fraction(n, m)) for n, m in zip(x[-2:], op.size, strict=True)]
    return _windowed(seen, bins, bins)


@_step.register
def _(op: ops.Resize, seen, whole, *_):  # noqa: ARG001
    taps = 2 if op.mode == "bilinear" else 1
    axes = [
        AxisField(
            axis.size + (taps - 1) * axis.step, axis.step * Fraction(step).limit_denominator(64)
        )
        for axis, step in zip(seen.axes, op.step, strict=True)
    ]
    return replace(seen, axes=(axes[0], axes[1]))


@_step.register
def _(op: ops.Resample, seen, whole, x, *_):  # noqa: ARG001
    if len(x) != 4 or op.axis < 2:
        return seen
    axis, step = seen.axes[op.axis - 2], Fraction(x[op.axis], len(op.first))
    wider = replace(axis, size=axis.size + (max(op.counts) - 1) * axis.step, step=axis.step * step)
    return replace(seen, axes=(wider, seen.axes[1]) if op.axis == 2 else (seen.axes[0], wider))


@_step.register
def _(op: ops.MaxUnpool2d, seen, whole, x, *_):  # noqa: ARG001
    axes = [
        replace(axis, step=axis.step * Fraction(n, m))
        for axis, n, m in zip(seen.axes, x[-2:], op.size, strict=True)
    ]
    return replace(seen, axes=(axes[0], axes[1]))


@_step.register
def _(op: ops.Reduce, seen, whole, x):
    return whole if len(x) == 4 and {2, 3} <= set(op.axes) else seen


@_step.register
def _(op: ops.Reshape, seen, whole, x):
    # a plane flattened into features is read by the next layer as a whole
    return whole if _has_plane(x) and len(op.shape) == 2 else seen


@_step.register
def _(op: ops.DeformRoIPool | ops.GridSample, seen, whole, *_):  # noqa: ARG001
    return whole
