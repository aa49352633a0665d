"""The graph: values by name, in the order in which they are computed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from depthwise.graph.dtypes import DType, find_dtype
from depthwise.graph.ops import Op
from depthwise.graph.structure import Signature

Shape = tuple[int, ...]
NO_KWARGS: Mapping[str, Any] = MappingProxyType({})  # no arguments that are given by name


@dataclass(frozen=True)
class TensorType:
    """A value's shape and the name of its element type. Raises ValueError for one not known.

    Where an input's shape is given, its type may be, for one whose elements are not of the type of
    the network's weights: `dw.TensorType((1, 3, 224, 224), "uint8")`.
    """

    shape: Shape
    dtype: str = "float32"

    def __post_init__(self):
        find_dtype(self.dtype)

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def element(self) -> DType:
        """The element type."""
        return find_dtype(self.dtype)

    @property
    def bytes(self) -> int:
        """The bytes that the elements take, packed."""
        return self.size * self.element.bytes

    def __str__(self) -> str:
        """Return as in 1x3x224x224, with the element type where it is not float32."""
        shape = "x".join(map(str, self.shape)) or "scalar"
        return shape if self.dtype == "float32" else f"{shape} {self.dtype}"


def shape_of(given: Any) -> Shape:
    """Return the shape of what stands for a tensor: its shape, its type or an example.

    An array of NumPy's is no example, and holds the shape.
    """
    sizes = given if isinstance(given, np.ndarray) else getattr(given, "shape", given)
    return tuple(map(int, sizes))


@dataclass(frozen=True, eq=False)
class Constant:
    """A weight, buffer or literal; `data` is None where the network is on the meta device.

    `data` is stored as its element type is (`DType.storage`), `numbers` are what it stands for.
    `sources` names the parameters that a constant was computed from (a standardised weight, say).
    `exact` is a number that the network's code has, before it was rounded to a narrow type:
    PyTorch multiplies halves by 0.1 in float32.
    """

    type: TensorType
    data: np.ndarray | None = None
    trainable: bool = False
    sources: tuple[str, ...] = ()
    exact: float | None = None

    @property
    def numbers(self) -> np.ndarray | None:
        """The numbers that are stored, None where there is no data."""
        return None if self.data is None else self.type.element.decode(self.data)


@dataclass(frozen=True)
class Node:
    """One operator at work: the value `name` of type `type`, computed inside the module `path`.

    `line` is where the network's own code calls it, empty where that is not known; it is no part of
    what a node is.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    type: TensorType
    path: str
    line: str = field(default="", compare=False)


@dataclass(frozen=True)
class Output:
    """A value the network returns; `name` is its path, as in "0" or "boxes", empty where alone."""

    name: str
    value: str


@dataclass(frozen=True, eq=False)
class Graph:
    """A network fixed to its input shapes. Constants are named as in the state dict.

    `signature` says how its inputs are given and what it returns them in; None where nobody knows,
    as of a file of another format.
    """

    inputs: Mapping[str, TensorType]
    constants: Mapping[str, Constant]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    signature: Signature | None = None
    _types: dict[str, TensorType] = field(init=False, repr=False)

    def __post_init__(self):
        types = dict(self.inputs)
        types |= {name: constant.type for name, constant in self.constants.items()}
        types |= {node.name: node.type for node in self.nodes}
        object.__setattr__(self, "_types", types)

    def type(self, value: str) -> TensorType:
        """Return the type of an input, constant or node."""
        return self._types[value]

    def names(self) -> set[str]:
        """Return the names of the inputs, constants and nodes."""
        return set(self._types)

    def numbers(self, constant: str) -> np.ndarray:
        """Return the numbers of a constant, of a network that is not on the meta device."""
        numbers = self.constants[constant].numbers
        assert numbers is not None, f"{constant} has no data"
        return numbers

    def without_data(self) -> "Graph":
        """Return the same network, of whose constants the types alone are known."""
        constants = {name: replace(known, data=None) for name, known in self.constants.items()}
        return replace(self, constants=constants)

    def activations(self, node: Node) -> tuple[str, ...]:
        """Return the inputs of a node that are not constants, each once."""
        return tuple(dict.fromkeys(name for name in node.inputs if name not in self.constants))

    def weights(self, node: Node) -> tuple[str, ...]:
        """Return the inputs of a node that are constants."""
        return tuple(name for name in node.inputs if name in self.constants)

    def readers(self) -> dict[str, list[Node]]:
        """Return, for each value, the nodes that read it."""
        readers: dict[str, list[Node]] = {name: [] for name in self._types}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return readers

    def __str__(self) -> str:
        """Return the graph as text, a line a node."""
        from depthwise.graph.show import show  # noqa: PLC0415  (it imports this module)

        return show(self)

    def __iter__(self) -> Iterator[Node]:
        """Iterate over the nodes in order."""
        return iter(self.nodes)
