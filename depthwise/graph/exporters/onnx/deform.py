"""Deformable convolution and pooling in ONNX."""

import numpy as np
from onnx import TensorProto

from depthwise.graph import ops
from depthwise.graph.exporters.onnx.layers import sides
from depthwise.graph.exporters.onnx.rules import write
from depthwise.graph.exporters.onnx.writer import NodeWriter


@write.register
def _(op: ops.DeformConv2d, node, x, weight, bias, offsets, mask=None):
    return node.add(
        "DeformConv", x, weight, offsets, bias, mask, kernel_shape=node.shape(weight)[2:],
        strides=op.stride, pads=sides(op.padding), dilations=op.dilation, group=op.groups,
        offset_group=op.offset_groups,
    )  # fmt: skip


@write.register
def _(op: ops.DeformRoIPool, node, x, boxes, offsets):
    """Sample each region by GridSample and average; coordinates come as (x, y) here."""
    regions, P, samples = node.shape(boxes)[0], op.output_size, op.samples
    _, channels, height, width = node.shape(x)
    positions = sample_positions(op, node, boxes, offsets)
    # from pixels to GridSample's coordinates, in which the image reaches from -1 to 1
    size = np.array([width, height], np.float32).reshape(1, 2, 1, 1, 1, 1)
    scaled = node.add("Mul", positions, node.constant(2 / size, "per_pixel"))
    grid = node.add("Add", scaled, node.constant(1 / size - 1, "first_pixel"))
    grid = node.add("Transpose", grid, perm=[0, 2, 3, 4, 5, 1])
    grid = node.reshape(grid, regions, P * P, samples**2, 2)
    sampled = node.add(
        "GridSample", images_of(node, x, boxes), grid, mode="linear", padding_mode="border",
        align_corners=0,
    )  # fmt: skip
    inside = inside_of(node, positions, size)
    inside = node.reshape(inside, regions, 1, P * P, samples**2)
    mean = node.add("ReduceMean", node.add("Mul", sampled, inside), node.constant([3], "axes"))
    return node.reshape(mean, regions, channels, P, P)


def sample_positions(op: ops.DeformRoIPool, node: NodeWriter, boxes: str, offsets: str) -> str:
    """Return where is sampled, in pixels: (R, 2, P, P, samples, samples)."""
    P, samples = op.output_size, op.samples
    first = node.add("Gather", boxes, node.constant([1, 2], "left_top"), axis=1)
    last = node.add("Gather", boxes, node.constant([3, 4], "right_bottom"), axis=1)
    scale = node.constant(op.spatial_scale, "spatial_scale")
    origin = node.add("Sub", node.add("Mul", first, scale), node.constant(0.5, "half"))
    extent = node.add("Mul", node.add("Sub", last, first), scale)
    regions = node.shape(boxes)[0]
    origin = node.reshape(origin, regions, 2, 1, 1, 1, 1)
    extent = node.reshape(extent, regions, 2, 1, 1, 1, 1)
    at = (np.arange(P)[:, None] + (np.arange(samples) + 0.5) / samples) / P  # bin, sample
    parts = np.empty((1, 2, P, P, samples, samples), np.float32)
    parts[0, 0], parts[0, 1] = at[None, :, None, :], at[:, None, :, None]
    shift = node.add("Gather", offsets, node.constant([1, 0], "x_y"), axis=1)
    shift = node.add("Mul", shift, node.constant(op.gamma, "gamma"))
    shift = node.reshape(shift, regions, 2, P, P, 1, 1)
    moved = node.add("Add", shift, node.constant(parts, "parts"))
    return node.add("Add", origin, node.add("Mul", extent, moved))


def images_of(node: NodeWriter, x: str, boxes: str) -> str:
    """Return the image of each region: (R, C, H, W)."""
    numbers = node.reshape(node.slice(boxes, 1, 0, 1), node.shape(boxes)[0])
    numbers = node.add("Cast", numbers, to=TensorProto.INT64)
    return node.add("Gather", x, numbers, axis=0)


def inside_of(node: NodeWriter, positions: str, size: np.ndarray) -> str:
    """Return 1 for each sample that is less than a pixel outside of the image, else 0."""
    low = node.add("GreaterOrEqual", positions, node.constant(-1.0, "lowest"))
    high = node.add("LessOrEqual", positions, node.constant(size, "highest"))
    both = node.add("CastLike", node.add("And", low, high), positions)
    return node.add("ReduceMin", both, node.constant([1], "axis"), keepdims=0)
