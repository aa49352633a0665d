"""From a graph to a module: which step computes which node."""

from collections.abc import Iterator

from torch import nn

from depthwise.graph import ops
from depthwise.graph.exporters.torch import (  # noqa: F401  (they register themselves)
    elementwise,
    moving,
    pooling,
    recurrent,
    weighted,
)
from depthwise.graph.exporters.torch.axes import trace_axes
from depthwise.graph.exporters.torch.axes_rules import axes_of
from depthwise.graph.exporters.torch.layers import find_layers
from depthwise.graph.exporters.torch.network import (
    Called,
    Computed,
    GraphNetwork,
    Held,
    ImageNetwork,
    Number,
    Operand,
    Program,
    Step,
)
from depthwise.graph.exporters.torch.rules import Site, Sized, function_of
from depthwise.graph.exporters.torch.schedule import freed, measured
from depthwise.graph.exporters.torch.tree import plant
from depthwise.graph.graph import Graph, Node
from depthwise.graph.structure import Leaf, usual_signature

WITH_NUMBERS = {  # functions of two that PyTorch has of a tensor and a number, either first
    "add", "subtract", "multiply", "divide", "power", "remainder", "floor_divide",
}  # fmt: skip


def to_module(graph: Graph) -> nn.Module:
    """Return an ordinary module of PyTorch's that computes a graph.

    Layers with weights are PyTorch's own modules at the paths that they have in the graph, so that
    the state dict is named as the graph's constants are; `num_batches_tracked` of BatchNorms is
    added, and numbers of the network's code are in neither. In training mode BatchNorms normalise
    by the batch and keep running statistics.

    It takes any number of images, unless the graph computes with several of them at once: another
    number then raises ValueError. Images of other sizes are taken where the network allows it.

    Raises Unsupported for operators that are not known.
    """
    return _Builder(graph).build()


class _Builder:
    """What is known of a graph while its module is made."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.layers = find_layers(graph)
        self.axes, self.fixed = trace_axes(graph, axes_of)
        self.numbers = _numbers(graph)
        signature = graph.signature or usual_signature(
            list(graph.inputs), [output.name for output in graph.outputs]
        )
        self.signature = signature
        alone = [type(each.value) for each in signature.takes if not each.by_name] == [Leaf]
        simple = alone and len(signature.takes) == 1
        self.net: GraphNetwork = ImageNetwork() if simple else GraphNetwork()

    def build(self) -> GraphNetwork:
        graph = self.graph
        constants = {n: c for n, c in graph.constants.items() if n not in self.numbers}
        plant(self.net, self.layers.values(), constants)
        steps = [step for node in graph for step in self._steps(node)]
        outputs = {output.name: self._operand(output.value) for output in graph.outputs}
        self.net._program = Program(
            {name: type_.shape for name, type_ in graph.inputs.items()},
            freed(measured(list(graph.inputs), steps), outputs.values()), outputs, self.signature,
            self.fixed,
        )  # fmt: skip
        return self.net

    def _steps(self, node: Node) -> Iterator[Step]:
        if layer := self.layers.get(node.name):
            owner, name = self._owner(layer.path)
            reads = tuple(map(self._operand, layer.reads))
            yield Step(node.name, Called(owner, name), reads)
            return
        graph = self.graph
        site = Site(
            node, tuple(map(graph.type, node.inputs)),
            tuple(map(graph.constants.get, node.inputs)), self.axes[node.name],
            tuple(self.axes[name] for name in node.inputs),
        )  # fmt: skip
        function, sizes = function_of(node.op, site), ()
        if isinstance(function, Sized):
            function, sizes = function.function, function.sizes
        operands = (*map(self._operand, node.inputs), *map(Computed, sizes))
        yield Step(node.name, function, operands)

    def _operand(self, name: str) -> Operand:
        if name in self.numbers:
            return Number(self.numbers[name])
        return Held(*self._owner(name)) if name in self.graph.constants else Computed(name)

    def _owner(self, path: str) -> tuple[nn.Module, str]:
        *parents, own = path.split(".")
        module: nn.Module = self.net
        for name in parents:
            child = module._modules[name]
            assert child is not None
            module = child
        return module, own


def _numbers(graph: Graph) -> dict[str, float]:
    """Return the numbers of the network's code that stay numbers, by the names of constants."""
    readers, returned = graph.readers(), {output.value for output in graph.outputs}
    found = {}
    for name, constant in graph.constants.items():
        if not name.startswith("literal.") or constant.type.shape or constant.numbers is None:
            continue
        if name not in returned and all(_takes_number(graph, node) for node in readers[name]):
            number = constant.numbers.item()
            found[name] = number if constant.exact is None else constant.exact
    return found


def _takes_number(graph: Graph, node: Node) -> bool:
    """Tell whether a node reads one number beside a tensor, and PyTorch has that."""
    fits = isinstance(node.op, ops.Binary) and node.op.function in WITH_NUMBERS
    return fits and len(graph.activations(node)) == 1
