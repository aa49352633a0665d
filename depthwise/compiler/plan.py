"""The plan: which kernels run in which order on which places. It decides; emit prints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from types import MappingProxyType

import numpy as np

from depthwise.compiler.fused_ops import Fused, Images, takes_plane_mean
from depthwise.compiler.lowering.algorithms import (
    Algorithm,
    Algorithms,
    ConvWorkload,
    choose,
    direct_default,
)
from depthwise.compiler.lowering.axes import COPY_AXES, TooManyAxes, copy_numbers, portions
from depthwise.compiler.lowering.lower import check_computed, lower
from depthwise.compiler.lowering.views import (
    Argument,
    Buffer,
    KernelCall,
    PaddedLayout,
    Space,
    Split,
    TensorView,
    by_rows,
    is_canonical,
    row_major,
)
from depthwise.compiler.lowering.weight_pool import WeightPool
from depthwise.compiler.schedule.arena import Arena, Live, plan_arena
from depthwise.compiler.schedule.partition import (
    Group,
    Optimize,
    Partition,
    Steps,
    partition,
    single,
)
from depthwise.compiler.schedule.storage import (
    NO_BORDER,
    Alias,
    find_aliases,
    find_borders,
    pixel_stride,
)
from depthwise.compiler.schedule.threads import Divider, Parts, Shares, divide, stream_parts
from depthwise.graph import Graph, Node, TensorType, Unsupported, ops
from depthwise.runtime.target import Target

Default = Callable[[ConvWorkload, Target], Algorithm]
NONE_ASKED: Algorithms = MappingProxyType({})
IN_PLACE = (ops.Activation, ops.Binary, ops.BatchNorm, ops.PRelu)


@dataclass(frozen=True)
class Plan:
    """What runs in which order, on which buffers, with the arena's places and the packed weights.

    A region is done before the next begins; its parts are done at once, each by a thread.
    """

    graph: Graph
    target: Target
    regions: tuple[Parts, ...]
    buffers: tuple[Buffer, ...]
    arena: Arena
    weights: np.ndarray
    places: Mapping[str, TensorView]  # where each value of the graph lies
    threads: int = 1
    algorithms: Algorithms = field(default_factory=dict)  # how each convolution is computed
    whole: Steps = field(default_factory=lambda: Steps((), ()))  # before any was streamed
    groups: tuple[Group, ...] = ()  # of these: what was streamed

    @property
    def steps(self) -> tuple[KernelCall, ...]:
        """The steps in the order in which one thread does all of them."""
        return tuple(step for region in self.regions for part in region for step in part)


class PlanBuilder:
    """A plan under construction; `node` is the one being lowered."""

    def __init__(
        self, graph: Graph, target: Target, keep_all: bool, asked: Algorithms, default: Default
    ):  # fmt: skip
        self.graph, self.target, self.keep_all = graph, target, keep_all
        self._asked, self._default = asked, default
        self.steps: list[KernelCall] = []
        self.buffers: list[Buffer] = [Buffer("weights", 0)]
        self.places: dict[str, TensorView] = {}
        self.row_totals: dict[str, TensorView] = {}  # (N, C, H, 1), of values that are averaged
        self.node: Node | None = None
        self.algorithms: dict[ConvWorkload, Algorithm] = {}
        self._homes = find_aliases(graph)
        self._borders = find_borders(graph, self._homes)
        self._roots: dict[str, TensorView] = {}
        self._readers = graph.readers()
        self._pool = WeightPool()

    # ------------------------------------------------------------------------------ values

    def read(self, name: str) -> TensorView:
        """Return where an input, constant or computed value lies."""
        if name in self.graph.constants and name not in self.places:
            self.places[name] = self._place_constant(name)
        return self.places[name]

    def write(self, node: Node) -> TensorView:
        """Return where the value of `node` is to be written, as values of its rank lie."""
        place = self._in_place(node) or self.allocate(node.name, node.type)
        self.places[node.name] = place
        return place

    def view(self, node: Node, place: TensorView) -> None:
        """Let the value of `node` be where another lies: nothing is written."""
        self.places[node.name] = place

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read a value."""
        return self._readers[name]

    def free(self, name: str) -> bool:
        """Tell whether a value may lie anywhere: no concatenation holds it, no border is asked."""
        home = self._homes.get(name)
        return home is None or (home.root == name and not any(self._borders.get(name, NO_BORDER)))

    def allocate(self, name: str, type: TensorType) -> TensorView:
        """Return a place for a value: in the buffer of its root, or in one of its own."""
        if len(type.shape) != 4:
            return self.scratch(type.shape)
        home = self._homes[name]
        root = self._root(home)
        shape = type.shape
        return replace(root.part(1, home.channel, shape[1]), shape=shape)

    def total_rows(self, name: str) -> TensorView:
        """Return where the writer of a value of rank 4 puts each row's total, (N, C, H, 1)."""
        n, channels, rows, _ = self.graph.type(name).shape
        frame = PaddedLayout((n, channels, rows, 1), channels, NO_BORDER)
        buffer = self._add_buffer("arena", n * rows * channels, frame)
        self.row_totals[name] = frame.place(buffer)
        return self.row_totals[name]

    def _root(self, home: Alias) -> TensorView:
        if home.root not in self._roots:
            shape = self.graph.type(home.root).shape
            border = self._borders.get(home.root, NO_BORDER)
            pixel = pixel_stride(shape[1], shape[2] * shape[3])
            frame = PaddedLayout(shape, pixel, border)
            buffer = self._add_buffer("arena", shape[0] * frame.rows * frame.row, frame)
            self._roots[home.root] = frame.place(buffer)
        return self._roots[home.root]

    def _in_place(self, node: Node) -> TensorView | None:
        """Return the place of the first input where `node` may write over it.

        Means of its planes may have read it before: they are not streamed, so that no band of rows
        is written over that is still to be read.
        """
        op = node.op.op if isinstance(node.op, Fused) else node.op
        if not isinstance(op, IN_PLACE) or self.keep_all or node.inputs[0] not in self.places:
            return None
        name = node.inputs[0]
        place = self.places[name]
        if self.buffers[place.buffer].space != "arena" or node.type.shape != place.shape:
            return None
        means = [reader for reader in self._readers[name] if takes_plane_mean(reader)]
        alone = all(
            other == name or known.buffer != place.buffer for other, known in self.places.items()
        )
        others = [reader for reader in self._readers[name] if reader not in means]
        last = others == [node] and all(mean.name in self.places for mean in means)
        kept = any(output.value in (name, node.name) for output in self.graph.outputs)
        own = self._homes.get(node.name, Alias(node.name, 0)).root == node.name
        first = self._homes.get(name, Alias(name, 0)).root == name
        border = self._borders.get(node.name, NO_BORDER) == self._borders.get(name, NO_BORDER)
        once = node.inputs.count(name) == 1
        if alone and last and not kept and own and first and border and once:
            if node.name in self._homes:
                self._roots[node.name] = place
            return place
        return None

    # ----------------------------------------------------------------------- memory, weights

    def _add_buffer(self, space: Space, elements: int, frame: PaddedLayout | None = None) -> int:
        self.buffers.append(Buffer(space, elements, frame=frame))
        return len(self.buffers) - 1

    def add_external(self, space: Space, index: int, type: TensorType) -> TensorView:
        """Return the place of a whole input or output of the network, packed row-major."""
        self.buffers.append(Buffer(space, type.size, index, type.dtype))
        return TensorView(len(self.buffers) - 1, 0, type.shape, row_major(type.shape))

    def scratch(self, shape: tuple[int, ...] | int) -> TensorView:
        """Return a packed place in a buffer of its own."""
        shape = (shape,) if isinstance(shape, int) else shape
        return TensorView(self._add_buffer("arena", prod(shape)), 0, shape, row_major(shape))

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

    def weights(self, array: np.ndarray) -> TensorView:
        """Return the place of an array among the weights; equal ones are stored once."""
        packed = np.asarray(array, np.float32, order="C")  # keeps rank 0
        return TensorView(0, self._pool.add(packed), packed.shape, row_major(packed.shape))

    def _place_constant(self, name: str) -> TensorView:
        data = self.constant(name)
        if data.ndim != 4:
            return self.weights(data)
        _, c, h, w = data.shape
        place = self.weights(data.transpose(0, 2, 3, 1))
        return replace(place, shape=data.shape, strides=(h * w * c, 1, w * c, c))

    # ------------------------------------------------------------------------------- steps

    def algorithm(self, layer: ConvWorkload) -> Algorithm:
        """Return how to compute a layer: as was asked, or by default."""
        if layer not in self.algorithms:
            self.algorithms[layer] = self._asked.get(layer) or self._default(layer, self.target)
        return self.algorithms[layer]

    def step(
        self, kernel: str, *arguments: Argument, comment: str = "",
        layer: ConvWorkload | None = None, outputs: int = 1,
    ) -> KernelCall:  # fmt: skip
        """Return a call of a kernel with literals and places, for the node being lowered."""
        name, path = (self.node.name, self.node.path) if self.node else ("", "")
        return KernelCall(kernel, arguments, name, path, comment, layer, outputs)

    def append(self, step: KernelCall, *splits: Split | None) -> None:
        """Append a step, and the ways to do it in parts; None where a way is not open."""
        self.steps.append(replace(step, splits=tuple(split for split in splits if split)))

    def call(self, kernel: str, *arguments: Argument, comment: str = "") -> None:
        """Append a call of a kernel that is done in one."""
        self.append(self.step(kernel, *arguments, comment=comment))

    def copy(self, source: TensorView, target: TensorView, comment: str = "") -> None:
        """Append a copy of a place into another of the same shape."""
        assert source.shape == target.shape

        def part(x: TensorView, y: TensorView) -> KernelCall:
            numbers = copy_numbers(x.shape, x.strides, y.strides)
            return self.step("f32_copy", *numbers, x, y, comment=comment)

        for places in portions(COPY_AXES, source, target):
            self.append(part(*places), by_rows(part, *places))

    def finish(self, groups: Partition, threads: int) -> Plan:
        """Return a plan with every buffer placed in the arena; others can be finished after it."""
        whole = Steps(tuple(self.steps), tuple(self.buffers))
        chosen = groups(whole)
        regions = self._regions(whole, chosen, threads)
        lives: dict[int, Live] = {}
        end = len(regions)
        for position, region in enumerate(regions):
            for place in (place for part in region for step in part for place in step.places):
                buffer = self.buffers[place.buffer]
                if buffer.space == "arena":
                    first = lives[place.buffer].first if place.buffer in lives else position
                    last = end if self.keep_all else position
                    lives[place.buffer] = Live(buffer.bytes, first, last)
        buffers = (replace(self.buffers[0], elements=self._pool.floats), *self.buffers[1:])
        del self.buffers[len(whole.buffers) :]  # windows, and scratch of parts: this plan's own
        return Plan(
            self.graph, self.target, tuple(regions), buffers, plan_arena(lives), self._pool.packed,
            self.places, threads, self.algorithms, whole, tuple(chosen),
        )  # fmt: skip

    def _regions(self, steps: Steps, groups: Sequence[Group], threads: int) -> list[Parts]:
        """Return the steps streamed where that pays, and divided among threads."""
        divider = Divider(self.buffers, threads, self.target.lanes)
        add_buffer = partial(self._add_buffer, "arena")
        items: list[list[Shares]] = []
        for group in groups:
            chain = steps.chain(group.first, group.last) if group.height else None
            parts = chain and stream_parts(chain, group.height, threads, add_buffer)
            if chain and parts:
                items.append([divider.chain(chain, parts)])
            else:
                alone = self.steps[group.first : group.last + 1]
                items += [list(divider.options(step)) for step in alone]
        return self._with_borders(divide(items, threads))

    def _with_borders(self, regions: list[Parts]) -> list[Parts]:
        """Return the regions with steps that zero each border, before the first region to touch it.

        With threads the last of them does so while the region before is done.
        """
        filled: set[int] = set()
        result: list[Parts] = []
        for region in regions:
            fills = self._fill_borders(region, filled)
            if fills and result and len(result[-1]) > 1:
                result[-1] = (*result[-1][:-1], (*result[-1][-1], *fills))
            elif fills:
                result += [((fill,),) for fill in fills]
            result.append(region)
        return result

    def _fill_borders(self, region: Parts, filled: set[int]) -> list[KernelCall]:
        """Return the steps that zero the borders of buffers that a region is the first to touch."""
        fills = []
        for step in (step for part in region for step in part):
            for buffer in sorted({place.buffer for place in step.places} - filled):
                filled.add(buffer)
                frame = self.buffers[buffer].frame
                if frame and frame.border != NO_BORDER:
                    n, _, height, width = frame.shape
                    numbers = (n, height, width, frame.pixel, *frame.border)
                    start = replace(frame.place(buffer), offset=0)
                    fills.append(
                        KernelCall("f32_fill_border", (*numbers, start), step.name, step.path)
                    )
        return fills


def make_plan(
    graph: Graph, target: Target, keep_all: bool = False, optimize: Optimize | None = "speed",
    threads: int = 1, algorithms: Algorithms = NONE_ASKED, groups: Partition | None = None,
) -> Plan:  # fmt: skip
    """Lower every node of a rewritten graph to kernel calls, and place all buffers.

    `optimize` chooses what is streamed: for speed, for the smallest arena, or nothing. `keep_all`
    lets every value live to the end, so that each can be looked at; then nothing is streamed.
    `algorithms` says how layers are computed; others as algorithms.choose has them, or, for the
    smallest arena, all directly. `groups` chooses what is streamed in place of `optimize`.
    """
    default = direct_default if optimize == "memory" else choose
    builder = lower_graph(PlanBuilder(graph, target, keep_all, algorithms, default))
    if keep_all or not optimize:
        groups = single
    elif groups is None:
        groups = partial(partition, optimize=optimize)
    return replace(builder.finish(groups, threads), graph=graph)


def make_plans(
    graph: Graph, target: Target, algorithms: Algorithms, partitions: Sequence[Partition]
) -> list[Plan]:
    """Return a plan for one thread for each way to stream the same steps; weights are shared."""
    builder = lower_graph(PlanBuilder(graph, target, False, algorithms, choose))
    return [replace(builder.finish(groups, threads=1), graph=graph) for groups in partitions]


def lower_graph(builder: PlanBuilder) -> PlanBuilder:
    """Return the builder with the steps of every node, and those that bring inputs and outputs."""
    graph = builder.graph
    check_computed(graph)
    for index, (name, type_) in enumerate(graph.inputs.items()):
        external = builder.add_external("input", index, type_)
        builder.places[name] = external
        if any(isinstance(reader.op, Images) for reader in builder.readers(name)):
            continue  # they are read as they are
        if not (is_canonical(external) and builder.free(name)):
            place = builder.allocate(name, type_)
            builder.copy(external, place, comment=f"input {name}, channels last")
            builder.places[name] = place
    for node in graph:
        builder.node = node
        try:
            lower(node.op, node, builder)
        except TooManyAxes as error:
            raise Unsupported(
                f"operator {type(node.op).__name__} in module "
                f"{node.path or '(the network itself)'!r} runs over {error}: join axes with "
                "reshape() before it"
            ) from None
    builder.node = None
    for index, output in enumerate(graph.outputs):
        type_ = graph.type(output.value)
        external = builder.add_external("output", index, type_)
        builder.copy(builder.read(output.value), external, comment=f"output {output.name}".strip())
    builder.graph = graph.without_data()  # its steps keep the builder
    return builder
