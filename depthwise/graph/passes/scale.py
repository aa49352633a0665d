"""A factor and an offset for each channel: found in the graph, and put into weights."""

from math import prod
from typing import NamedTuple

import numpy as np

from depthwise.graph import Node, ops
from depthwise.graph.ops import NO_PADDING
from depthwise.graph.rewrite import GraphRewriter


class ChannelScale(NamedTuple):
    """source · factor + offset, channel by channel, in double precision."""

    source: str
    factor: np.ndarray
    offset: np.ndarray


def find_batchnorm(edit: GraphRewriter, node: Node) -> ChannelScale | None:
    """Return a BatchNorm as a scale."""
    data = [edit.data(name) for name in node.inputs[1:]]
    known = [array.astype(np.float64) for array in data if array is not None]
    if not isinstance(node.op, ops.BatchNorm) or len(known) < 4:
        return None
    weight, bias, mean, variance = known
    factor = weight / np.sqrt(variance + node.op.eps)
    return ChannelScale(node.inputs[0], factor, bias - mean * factor)


def find_arithmetic(edit: GraphRewriter, node: Node) -> ChannelScale | None:
    """Return a sum or product with a number, or with one number for each channel, as a scale."""
    if not isinstance(node.op, ops.Binary):
        return None
    a, b = node.inputs
    source, other = (a, b) if edit.data(a) is None else (b, a)
    c = _by_channel(edit.data(other), node.type.shape)
    if c is None or edit.data(source) is not None or edit.type(source).shape != node.type.shape:
        return None
    one, zero = np.ones_like(c), np.zeros_like(c)
    terms = {"add": (one, c), "multiply": (c, zero)}
    terms["subtract"] = (one, -c) if source == a else (-one, c)
    if source == a and np.all(c != 0):
        terms["divide"] = (1 / c, zero)
    found = terms.get(node.op.function)
    return ChannelScale(source, *found) if found else None


def _by_channel(data: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return one number a channel (axis 1) of what broadcasts over `shape`, None if it has more."""
    if data is None or len(shape) not in (2, 4) or data.ndim > len(shape):
        return None
    full = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
    if any(size != 1 for axis, size in enumerate(full.shape) if axis != 1):
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (shape[1],))


def scale_outputs(edit: GraphRewriter, conv: Node, scale: ChannelScale) -> tuple[str, ...] | None:
    """Return the inputs with which a convolution or linear layer gives its result scaled."""
    weight = edit.data(conv.inputs[1])
    bias = edit.data(conv.inputs[2]) if len(conv.inputs) > 2 else np.zeros(len(scale.factor))
    if weight is None or bias is None or not _gives_channels(conv):
        return None
    if isinstance(conv.op, ops.ConvTranspose2d):
        # (C, K / groups, R, S): output channel k lies at k % (K / groups) of its group's rows
        groups = conv.op.groups
        grouped = weight.reshape(groups, -1, *weight.shape[1:])
        scaled = grouped * scale.factor.reshape(groups, 1, weight.shape[1], 1, 1)
    else:
        scaled = weight * scale.factor.reshape(-1, *(1,) * (weight.ndim - 1))
    return _stored(edit, conv, scaled, bias * scale.factor + scale.offset)


def scale_inputs(edit: GraphRewriter, conv: Node, scale: ChannelScale) -> tuple[str, ...] | None:
    """Return the inputs with which a convolution or linear layer acts as if its input were scaled.

    None where that is not exact: an offset does not reach the zeros of a padding.
    """
    weight = edit.data(conv.inputs[1])
    bias = edit.data(conv.inputs[2]) if len(conv.inputs) > 2 else 0.0
    plain = isinstance(conv.op, ops.Conv2d) and conv.op.padding == NO_PADDING
    plain |= isinstance(conv.op, ops.Linear)
    if weight is None or bias is None or not _gives_channels(conv):
        return None
    if np.any(scale.offset != 0) and not plain:
        return None
    if isinstance(conv.op, ops.ConvTranspose2d):
        return _stored(edit, conv, weight * scale.factor.reshape(-1, 1, 1, 1), bias)
    groups = getattr(conv.op, "groups", 1)
    # (K, C / groups, taps): the outputs of group g read the channels of group g
    grouped = weight.reshape(groups, -1, weight.shape[1], prod(weight.shape[2:])).astype(np.float64)
    factor, offset = (part.reshape(groups, 1, -1, 1) for part in (scale.factor, scale.offset))
    added = (grouped * offset).reshape(weight.shape[0], -1).sum(1)
    return _stored(edit, conv, grouped * factor, bias + added)


def _gives_channels(conv: Node) -> bool:
    """Tell whether axis 1 is what the weights work on: for a linear layer it is the last one."""
    return len(conv.type.shape) == (2 if isinstance(conv.op, ops.Linear) else 4)


def _stored(
    edit: GraphRewriter, conv: Node, weight: np.ndarray, bias: np.ndarray | float
) -> tuple[str, ...]:
    """Return the convolution's inputs with weight and bias as new constants of their old type."""
    source, old_weight, *others = conv.inputs
    type = edit.type(old_weight)
    old_bias, *rest = others or [f"{conv.path}.bias".lstrip(".")]
    full = np.broadcast_to(bias, conv.type.shape[1:2])
    return (
        source,
        edit.add_constant(old_weight, weight.reshape(type.shape), type.dtype),
        edit.add_constant(old_bias, full, type.dtype),
        *rest,
    )
