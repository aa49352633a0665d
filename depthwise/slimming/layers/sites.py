"""The convolutions and linear layers that a move may change, and what is known of each."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from depthwise.graph import Graph, Node, ops
from depthwise.slimming.draft import Draft
from depthwise.slimming.statistics import LayerStatistics, Statistics


@dataclass(frozen=True, eq=False)
class Site:
    """A convolution or a linear layer of a draft whose weight may be replaced.

    Attributes:
        draft: Where it is.
        node: Which it is.
        statistics: Of it.
    """

    draft: Draft
    node: Node
    statistics: LayerStatistics

    @property
    def weight(self) -> np.ndarray:
        """The weight as (K, C / groups, R, S), in double precision; a linear layer's is 1 x 1."""
        numbers = self.draft.graph.numbers(self.node.inputs[1])
        return numbers.astype(np.float64).reshape(*numbers.shape[:2], *self.kernel)

    @property
    def rows(self) -> np.ndarray:
        """The weight as (K, D), one row an output channel, as the statistics count."""
        return self.weight.reshape(self.outputs, -1)

    @property
    def rows_by_group(self) -> np.ndarray:
        """The same as (groups, K / groups, D)."""
        return self.rows.reshape(self.groups, -1, self.rows.shape[-1])

    @property
    def output_mean(self) -> np.ndarray:
        """The mean of each output, (K)."""
        mean = np.einsum("gkd,gd->gk", self.rows_by_group, self.statistics.mean).reshape(-1)
        biases = self.node.inputs[2:]
        return mean + self.draft.graph.numbers(biases[0]) if biases else mean

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        shape = self.draft.graph.type(self.node.inputs[1]).shape
        return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)

    @property
    def conv(self) -> ops.Conv2d:
        """The operator; a linear layer's as a convolution of a plane of one pixel."""
        if isinstance(self.node.op, ops.Conv2d):
            return self.node.op
        return ops.POINTWISE

    @property
    def groups(self) -> int:
        """The groups of the convolution."""
        return self.conv.groups

    @property
    def outputs(self) -> int:
        """K, the channels that it gives."""
        return self.draft.graph.type(self.node.inputs[1]).shape[0]

    @property
    def inputs(self) -> int:
        """C, the channels that it reads."""
        return self.draft.graph.type(self.node.inputs[1]).shape[1] * self.groups

    @property
    def pixels(self) -> tuple[int, int]:
        """Rows and columns of its output; a linear layer has as many columns as vectors."""
        shape = self.node.type.shape
        return (
            (shape[2], shape[3]) if isinstance(self.node.op, ops.Conv2d) else (1, prod(shape[:-1]))
        )

    @property
    def plane(self) -> tuple[int, int]:
        """Rows and columns of its input."""
        if not isinstance(self.node.op, ops.Conv2d):
            return self.pixels
        shape = self.draft.graph.type(self.node.inputs[0]).shape
        return shape[2], shape[3]

    @property
    def macs(self) -> int:
        """Multiply-adds of an image."""
        return self.weight_size * prod(self.pixels)

    @property
    def weight_size(self) -> int:
        """How many numbers the weight has."""
        return self.draft.graph.type(self.node.inputs[1]).size

    @property
    def path(self) -> str:
        """The module's path, the node's name where it has none."""
        return self.node.path or self.node.name

    def is_like(self, other: "Site") -> bool:
        """Tell whether another site has the same weights and statistics."""
        here, there = self.draft.graph.constants, other.draft.graph.constants
        same = all(here[name] is there.get(name) for name in self.node.inputs[1:])
        return same and self.statistics is other.statistics

    def damage(self, rows: np.ndarray) -> float:
        """Return the damage that other rows (K, D) in place of the weight's are estimated to do."""
        change = rows - self.rows
        return self.statistics.damage(change.astype(self.statistics.covariance.dtype))


def find_sites(draft: Draft, known: Statistics) -> Iterator[Site]:
    """Yield the layers of a draft that a move may change and whose statistics are known."""
    readers = draft.graph.readers()
    for node in draft.graph:
        if node.name in known and not _reason(draft.graph, node, readers, draft.frozen):
            yield Site(draft, node, known[node.name])


def left_alone(graph: Graph, frozen: Collection[str] = ()) -> dict[str, str]:
    """Return why, of the convolutions and linear layers that no move changes, by their paths.

    Args:
        graph: The network.
        frozen: Its constants that are not to be changed.
    """
    readers = graph.readers()
    return {
        node.path or node.name: reason
        for node in graph
        if isinstance(node.op, ops.Convolution)
        and (reason := _reason(graph, node, readers, frozen))
    }


def _reason(
    graph: Graph, node: Node, readers: dict[str, list[Node]], frozen: Collection[str]
) -> str:
    """Return why a layer stays as it is, nothing where it may be changed."""
    if not isinstance(node.op, ops.Conv2d | ops.Linear):
        return f"{type(node.op).__name__}: only convolutions and linear layers are changed"
    for name in node.inputs[1:]:
        if name in frozen:
            return f"{name} is frozen (requires_grad=False)"
        others = [reader for reader in readers[name] if reader is not node]
        if others:
            return f"{name} is shared with {others[0].path or others[0].name}"
    return next(filter(None, (_fixed(graph, name) for name in node.inputs[1:])), "")


def _fixed(graph: Graph, name: str) -> str:
    """Return why a weight or bias cannot be changed, nothing where it can."""
    constant = graph.constants.get(name)
    if constant is None:
        return f"{name} is computed"
    if constant.data is None:
        return f"{name} has no numbers: the network was captured on the meta device"
    if constant.sources or not constant.trainable:
        return f"{name} is no parameter of its own"
    if constant.type.dtype != "float32":
        return f"{name} is {constant.type.dtype}: only float32 is changed"
    return ""


def find_again(site: Site, draft: Draft) -> Site:
    """Return a site as it is in a later draft, whose other layers may have been changed.

    Channels that were cut or reordered meanwhile are cut or reordered in the statistics. Raises
    ValueError where it is another layer by now.
    """
    node = next((node for node in draft.graph if node.name == site.node.name), site.node)
    kernels = [_kernel_shape(each.graph, node) for each in (site.draft, draft)]
    if kernels[0] is None or kernels[0] != kernels[1]:
        raise ValueError(f"{site.path}: the layer was replaced meanwhile, look for changes anew")
    inputs = _places(site.draft, site.node.inputs[0], draft, node.inputs[0], channels_axis(node))
    outputs = _places(site.draft, site.node.name, draft, node.name, channels_axis(node))
    return Site(draft, node, _restrict(site, inputs, outputs))


def _kernel_shape(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """Return all of a weight's shape but the channels, None where it is gone."""
    name = node.inputs[1]
    return graph.type(name).shape[2:] if name in graph.constants else None


def channels_axis(node: Node) -> int:
    """Return the axis of its result on which the channels of a layer lie."""
    return len(node.type.shape) - 1 if isinstance(node.op, ops.Linear) else 1


def _places(before: Draft, old: str, after: Draft, new: str, axis: int) -> np.ndarray | None:
    """Return where a value's channels stood before, None if all are where they were."""
    had, has = before.kept.get(old), after.kept.get(new)
    if had is has:
        return None
    count = before.graph.type(old).shape[axis]
    where = {channel: place for place, channel in enumerate(range(count) if had is None else had)}
    now = range(after.graph.type(new).shape[axis]) if has is None else has
    places = np.array([where[channel] for channel in now])
    return None if np.array_equal(places, np.arange(count)) else places


def _restrict(site: Site, inputs: np.ndarray | None, outputs: np.ndarray | None) -> LayerStatistics:
    """Return the statistics of a site for some of its channels, in another order."""
    known = site.statistics
    if inputs is not None:
        width = site.inputs // site.groups
        old, within = np.divmod(inputs.reshape(-1, min(width, len(inputs))), width)
        assert np.all(old == old[:, :1]), f"{site.path}: a group reads what two groups read"
        taps = np.arange(prod(site.kernel))
        places = (within[..., None] * len(taps) + taps).reshape(len(old), -1)
        pairs = list(zip(old[:, 0], places, strict=True))
        known = replace(
            known,
            mean=np.stack([known.mean[group][own] for group, own in pairs]),
            covariance=np.stack(
                [known.covariance[group][np.ix_(own, own)] for group, own in pairs]
            ),
        )
    if outputs is not None:
        near = known.neighbours
        if near is not None:
            near = replace(
                near,
                mean=near.mean[outputs],
                covariance=near.covariance[outputs],
                products=near.products[outputs][:, :, outputs],
            )
        gradient = known.gradient[np.ix_(outputs, outputs)]
        known = replace(known, gradient=gradient, neighbours=near)
    return known
