"""Channels brought to one range: what a layer gives is scaled, and scaled back where it is read.

An activation has one scale for all of its channels; a channel of small numbers has few of the 255
steps. Where functions between two layers let factors pass (relu, pooling, a gate), the first
layer's outputs take them and the second one's inputs lose them. Nagel et al., arXiv:1906.04721,
section 4.1; how far is split between activation and weights as in Xiao et al., arXiv:2211.10438.

A relu6 lets no factor pass: but of a channel that stays below 6 in calibration, the cut at 6 then
stands where its range ends, as the end of a range of its own would.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import NamedTuple

import numpy as np

from depthwise.graph import Constant, Graph, Node, ops
from depthwise.graph.layers import is_layer
from depthwise.quantization.placement import CLAMPS, clamp_ends
from depthwise.quantization.ranges import Observation

MARGIN = 1.1  # times the largest number seen, below the 6 of a relu6
MOST = 64.0  # times a channel is scaled up


class Absorber(NamedTuple):
    """A layer that reads a scaled value, and whether each of its outputs reads one channel."""

    layer: Node
    depthwise: bool


def equalise(graph: Graph, seen: Mapping[str, Observation]) -> Graph:
    """Return the same network with channels of like ranges, by what calibration images show.

    Args:
        graph: The network as `prepare` returns it.
        seen: What `observe` found of its values.
    """
    constants = dict(graph.constants)
    readers, returned = graph.readers(), {output.value for output in graph.outputs}
    for node in graph:
        if not _is_first(graph, node) or not _alone(readers, node):
            continue
        value, cap, then = node.name, inf, readers[node.name]
        if len(then) == 1 and isinstance(then[0].op, ops.Activation):
            value, cap = then[0].name, _cap(then[0].op)
        if not cap or value not in seen or not returned.isdisjoint((node.name, value)):
            continue
        found = _absorbers(graph, readers, returned, value)
        if found and all(_alone(readers, each.layer) for each in found):
            factors = _factors(constants, seen[value].channels, found, cap)
            _apply(constants, node, found, factors)
    return replace(graph, constants=constants)


def _is_first(graph: Graph, node: Node) -> bool:
    """Tell whether a node is a convolution whose outputs may be scaled one by one."""
    return isinstance(node.op, ops.Conv2d) and is_layer(graph, node)


def _alone(readers: Mapping[str, list[Node]], layer: Node) -> bool:
    """Tell whether a layer shares its weights with no other."""
    return all(len(readers[name]) == 1 for name in layer.inputs[1:])


def _cap(op: ops.Activation) -> float:
    """Return where an activation cuts off that cuts at 0 as well; 0 for any other."""
    if op.function not in CLAMPS:
        return 0.0
    low, high = clamp_ends(op)
    return high if low == 0 else 0.0


def _absorbers(
    graph: Graph, readers: Mapping[str, list[Node]], returned: set[str], value: str
) -> list[Absorber] | None:
    """Return the layers that can take a channel's factor back, None where others read it, too."""
    found: list[Absorber] = []
    waiting, known, channels = [value], {value}, graph.type(value).shape[1]
    while waiting:
        for node in readers[waiting.pop()]:
            if is_layer(graph, node) and node.inputs[0] in known:
                groups = node.op.groups if isinstance(node.op, ops.Conv2d) else 1
                outputs, inputs = graph.type(node.inputs[1]).shape[:2]
                apart = groups > 1 and inputs == 1 and outputs == groups
                if (groups > 1 and not apart) or (not isinstance(node.op, ops.Conv2d)):
                    return None
                found.append(Absorber(node, apart))
            elif (
                _lets_pass(node, known)
                and node.type.shape[1] == channels  # a gate of one channel is repeated by a product
                and node.name not in returned
            ):
                known.add(node.name)
                waiting.append(node.name)
            else:
                return None
    return found


def _lets_pass(node: Node, scaled: set[str]) -> bool:
    """Tell whether a node gives its channels scaled where it reads them scaled."""
    match node.op:
        case ops.MaxPool2d() | ops.AvgPool2d() | ops.AdaptivePool2d():
            return True
        case ops.Reduce("mean", axes=axes):
            return 1 not in axes and len(node.type.shape) == 4
        case ops.Activation("relu"):
            return True
        case ops.Binary("multiply"):  # by a gate, which has a channel's number for all pixels
            return sum(name in scaled for name in node.inputs) == 1
    return False


def _factors(
    constants: Mapping[str, Constant], channels: np.ndarray, found: list[Absorber], cap: float
) -> np.ndarray:
    """Return how many times each channel is made larger."""
    channels = np.maximum(channels.astype(np.float64), 1e-12)
    largest = channels.max() if cap == inf else cap
    full = np.minimum(largest / channels, MOST)
    mixed = [each.layer for each in found if not each.depthwise]
    if mixed:  # halfway: inputs of small numbers would need large weights to take them back
        weights = [np.abs(_numbers(constants, layer.inputs[1])).max((0, 2, 3)) for layer in mixed]
        most = np.maximum(np.max([w / max(w.max(), 1e-12) for w in weights], 0), 1e-6)
        full = np.maximum(1.0, np.sqrt(full * most))
    if cap < inf:
        full = np.maximum(1.0, np.minimum(full, largest / (MARGIN * channels)))
    return full


def _apply(
    constants: dict[str, Constant], first: Node, found: list[Absorber], factors: np.ndarray
) -> None:
    for name in first.inputs[1:]:
        numbers = _numbers(constants, name)
        _set(constants, name, numbers * factors.reshape(-1, *(1,) * (numbers.ndim - 1)))
    for each in found:
        name = each.layer.inputs[1]
        by_input = factors.reshape(-1, 1, 1, 1) if each.depthwise else factors.reshape(1, -1, 1, 1)
        _set(constants, name, _numbers(constants, name) / by_input)


def _numbers(constants: Mapping[str, Constant], name: str) -> np.ndarray:
    numbers = constants[name].numbers
    assert numbers is not None
    return numbers


def _set(constants: dict[str, Constant], name: str, numbers: np.ndarray) -> None:
    data = numbers.astype(np.float32)
    constants[name] = replace(constants[name], data=data, exact=None)
