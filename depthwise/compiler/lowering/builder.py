"""What lowering rules call: where values lie, weights, and calls of kernels in their order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from depthwise.compiler.constants import Constants
from depthwise.compiler.lowering.algorithms import Algorithm, Algorithms, ConvWorkload
from depthwise.compiler.lowering.calls import Argument, KernelCall, Split, divisible
from depthwise.compiler.lowering.loops import COPY_AXES, copy_loops, portions
from depthwise.compiler.lowering.views import Buffer, PaddedLayout, Space, TensorView, row_major
from depthwise.compiler.lowering.weight_pool import WeightPool
from depthwise.compiler.schedule.storage import Storage
from depthwise.compiler.summation import joins_taps
from depthwise.errors import Unsupported
from depthwise.graph import Graph, Node, TensorType
from depthwise.graph.dtypes import FLOAT32, DType
from depthwise.graph.ops import NO_PADDING, GridSample

Default = Callable[[ConvWorkload, Constants], Algorithm]


@dataclass(frozen=True)
class Lowered:
    """A graph as calls of kernels in order, none of them streamed or divided yet.

    `views` has where each value lies, in buffers of `memory` or among the weights, buffer 0; those
    of another type than float32 are a buffer of `memory`. Other plans may have more weights in the
    same pool: it is read once all are lowered.
    """

    steps: tuple[KernelCall, ...]
    memory: tuple[Buffer, ...]
    views: Mapping[str, TensorView]
    algorithms: Algorithms
    pool: WeightPool

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """All buffers, the weights first."""
        found = (Buffer("weights", 0), *self.memory)
        size = self.pool.bytes
        return tuple(
            replace(each, elements=size // each.element.bytes) if each.space == "weights" else each
            for each in found
        )

    @property
    def weights(self) -> np.ndarray:
        """The weights of all plans that share them, packed."""
        return self.pool.packed


class LoweringBuilder:
    """A lowered graph under construction; `node` is the one being lowered."""

    def __init__(
        self, graph: Graph, constants: Constants, storage: Storage, requested: Algorithms,
        default: Default, pool: WeightPool,
    ):  # fmt: skip
        self.graph, self.constants, self.target = graph, constants, constants.target
        self.steps: list[KernelCall] = []
        self.buffers: list[Buffer] = [Buffer("weights", 0)]
        self.views: dict[str, TensorView] = {}
        self.row_totals: dict[str, TensorView] = {}  # (N, C, H, 1), of values that are averaged
        self.node: Node | None = None
        self._storage, self._requested, self._default = storage, requested, default
        self._roots: dict[str, TensorView] = {}
        self._algorithms: dict[ConvWorkload, Algorithm] = {}
        self._readers = graph.readers()
        self._weights = {FLOAT32.name: 0}  # the buffer of the weights of each type
        self._pool = pool

    # ------------------------------------------------------------------------------ values

    def read(self, name: str) -> TensorView:
        """Return where an input, constant or computed value lies."""
        if name in self.graph.constants and name not in self.views:
            self.views[name] = self._store_constant(name)
        return self.views[name]

    def write(self, node: Node) -> TensorView:
        """Return where the value of `node` is to be written, as values of its rank lie."""
        view = self._overwritten(node) or self.allocate(node.name, node.type)
        self.views[node.name] = view
        return view

    def alias(self, node: Node, view: TensorView) -> None:
        """Let the value of `node` be where another lies: nothing is written."""
        self.views[node.name] = view

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read a value."""
        return self._readers[name]

    def is_free(self, name: str) -> bool:
        """Tell whether a value may lie anywhere: no concatenation holds it, no border is needed."""
        return self._storage.is_free(name)

    def joins_taps(self) -> bool:
        """Tell whether the convolution being lowered takes each row of taps for one."""
        assert self.node
        return joins_taps(self.node, self.graph, self._storage.aliases)

    def is_grid(self, name: str) -> bool:
        """Tell whether a value is read as places to sample at alone: these take any strides."""
        readers = [r for r in self._readers[name] if isinstance(r.op, GridSample)]
        used = all(node.inputs[0] != name for node in readers)
        return used and bool(readers) and len(readers) == len(self._readers[name])

    def _overwritten(self, node: Node) -> TensorView | None:
        """Return where the first input of `node` lies if its value may be written over it."""
        name = node.inputs[0] if node.inputs else ""
        view = self.views.get(name)
        if node.name not in self._storage.overwriting or view is None:
            return None
        others = (known.buffer for other, known in self.views.items() if other != name)
        if self.buffers[view.buffer].space != "arena" or view.buffer in others:
            return None
        self._roots[node.name] = view
        return view

    # ------------------------------------------------------------------------------ memory

    def allocate(self, name: str, type: TensorType) -> TensorView:
        """Return memory for a value: in the buffer of its root, or in one of its own."""
        if len(type.shape) != 4:
            return self.temporary(type.shape, type.element)
        alias = self._storage.aliases[name]
        if alias.root not in self._roots:
            self._roots[alias.root] = self._add_images(
                self._storage.layout(alias.root, self.graph.type(alias.root)), type.element
            )
        part = self._roots[alias.root].part(1, alias.channel, type.shape[1])
        return replace(part, shape=type.shape)

    def temporary(self, shape: tuple[int, ...], element: DType = FLOAT32) -> TensorView:
        """Return packed memory in a buffer of its own."""
        buffer = self._add_buffer(Buffer("arena", prod(shape), dtype=element.name))
        return TensorView(buffer, 0, shape, row_major(shape))

    def total_rows(self, name: str) -> TensorView:
        """Return where the writer of a value of rank 4 puts each row's total, (N, C, H, 1)."""
        n, channels, rows, _ = self.graph.type(name).shape
        self.row_totals[name] = self._add_images(
            PaddedLayout((n, channels, rows, 1), channels, NO_PADDING)
        )
        return self.row_totals[name]

    def add_external(self, space: Space, index: int, type: TensorType) -> TensorView:
        """Return a view of a whole input or output of the network, packed row-major."""
        buffer = self._add_buffer(Buffer(space, type.size, index, type.dtype))
        return TensorView(buffer, 0, type.shape, row_major(type.shape))

    def element(self, view: TensorView) -> DType:
        """Return the type of a view's elements."""
        return self.buffers[view.buffer].element

    def _add_images(self, layout: PaddedLayout, element: DType = FLOAT32) -> TensorView:
        elements = layout.shape[0] * layout.rows * layout.row
        return layout.view(
            self._add_buffer(Buffer("arena", elements, dtype=element.name, frame=layout))
        )

    def _add_buffer(self, buffer: Buffer) -> int:
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    # ----------------------------------------------------------------------------- weights

    def constant(self, name: str) -> np.ndarray:
        """Return the numbers of a constant; raises Unsupported where there is none."""
        if name not in self.graph.constants:
            where = self.node.path if self.node else ""
            raise Unsupported(
                f"{name}, a weight in module {where!r}, is computed while the network runs: "
                "weights must be parameters, buffers, or computed from these alone"
            )
        data = self.graph.constants[name].numbers
        if data is None:
            raise Unsupported(
                f"{name} has no data: the network is on the meta device; build it on the CPU and "
                "load weights into it first"
            )
        return data

    def weights(self, array: np.ndarray, element: DType = FLOAT32) -> TensorView:
        """Return where an array lies among the weights, in a type; equal ones are stored once."""
        packed = np.asarray(element.encode(array), order="C")  # keeps rank 0
        if element.name not in self._weights:
            self._weights[element.name] = self._add_buffer(Buffer("weights", 0, dtype=element.name))
        first = self._pool.add(packed) // element.bytes
        return TensorView(self._weights[element.name], first, packed.shape, row_major(packed.shape))

    def _store_constant(self, name: str) -> TensorView:
        data, element = self.constant(name), self.graph.type(name).element
        if data.ndim != 4:
            return self.weights(data, element)
        _, c, h, w = data.shape
        view = self.weights(data.transpose(0, 2, 3, 1), element)
        return replace(view, shape=data.shape, strides=(h * w * c, 1, w * c, c))

    # ------------------------------------------------------------------------------- calls

    def algorithm(self, layer: ConvWorkload) -> Algorithm:
        """Return how to compute a layer: as was requested, or by default."""
        if layer not in self._algorithms:
            requested = self._requested.get(layer)
            self._algorithms[layer] = requested or self._default(layer, self.constants)
        return self._algorithms[layer]

    def step(
        self, kernel: str, comment: str = "", layer: ConvWorkload | None = None, /,
        **arguments: Argument,
    ) -> KernelCall:  # fmt: skip
        """Return a call of a kernel with literals and views, for the node being lowered."""
        name, path = (self.node.name, self.node.path) if self.node else ("", "")
        return KernelCall(kernel, arguments, name, path, comment, layer)

    def append(self, step: KernelCall, *splits: Split | None) -> None:
        """Append a step, and the ways to do it in parts; None where a way is not open."""
        self.steps.append(step.divided(*step.splits, *splits))

    def call(self, kernel: str, /, **arguments: Argument) -> None:
        """Append a call of a kernel that is done in one."""
        self.append(self.step(kernel, **arguments))

    def copy(self, source: TensorView, target: TensorView, comment: str = "") -> None:
        """Append a copy of a view into another of the same shape, converted to its type."""
        assert source.shape == target.shape
        given, made = self.element(source), self.element(target)
        kernel = f"{made.short}_copy"
        if given != made:
            kernel = f"{given.short}_to_floats" if made == FLOAT32 else f"{made.short}_from_floats"

        def part(x: TensorView, y: TensorView) -> KernelCall:
            loops = copy_loops(x.shape, x.strides, y.strides)
            return self.step(kernel, comment, **loops, x=x, y=y)

        for views in portions(COPY_AXES, source, target):
            self.append(divisible(part, *views, rows=True))

    def finish(self) -> Lowered:
        """Return all that was lowered, and let go of the constants: the steps keep the builder."""
        self.graph, self.node = self.graph.without_data(), None
        return Lowered(
            tuple(self.steps), tuple(self.buffers[1:]), self.views, self._algorithms, self._pool
        )  # fmt: skip
