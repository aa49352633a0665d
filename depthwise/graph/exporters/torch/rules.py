"""How each operator is computed in PyTorch: a rule an operator, registered by the files beside.

A rule takes the operator and the place that it has in a graph, and returns a function of the
tensors that the node reads; a `Sized` one where it needs sizes beside them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

from torch import Tensor, nn

from depthwise.graph.exporters.torch.axes import Axis, OpenSize
from depthwise.graph.graph import Constant, Node, Shape, TensorType
from depthwise.graph.ops import Op

TensorFunction = Callable[..., Tensor]


@dataclass(frozen=True)
class Sized:
    """A function that is given sizes after the tensors."""

    function: TensorFunction
    sizes: tuple[OpenSize, ...]


@dataclass(frozen=True)
class NodeSite:
    """A node where it stands.

    Attributes:
        root: The network that is made.
        node: The node.
        inputs: The type of each value that it reads, at the images that the graph is of.
        constants: Those that are constants, None for each that is computed.
        axes: What each axis of its result consists of.
        read: What each axis of each input consists of.
    """

    root: nn.Module
    node: Node
    inputs: tuple[TensorType, ...]
    constants: tuple[Constant | None, ...]
    axes: tuple[Axis, ...]
    read: tuple[tuple[Axis, ...], ...]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of each input."""
        return tuple(type_.shape for type_ in self.inputs)


@singledispatch
def function_of(op: Op, site: NodeSite) -> TensorFunction | Sized:
    """Return what computes a node."""
    raise NotImplementedError(type(op))
