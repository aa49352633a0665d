"""From a graph to a module: which step computes which node."""

from torch import nn

from depthwise.graph.exporters.torch import (  # noqa: F401  (they register themselves)
    elementwise,
    moving,
    pooling,
    recurrent,
    unknown,
    weighted,
)
from depthwise.graph.exporters.torch.axes import trace_axes
from depthwise.graph.exporters.torch.axes_rules import axes_of
from depthwise.graph.exporters.torch.layers import find_layers
from depthwise.graph.exporters.torch.network import (
    Called,
    GraphNetwork,
    ImageNetwork,
    NetworkStep,
    NumberOperand,
    Operand,
    Program,
    TensorOperand,
    ValueOperand,
)
from depthwise.graph.exporters.torch.numbers import numbers_in
from depthwise.graph.exporters.torch.operator_modules import find_operators
from depthwise.graph.exporters.torch.rules import NodeSite, Sized, TensorFunction, function_of
from depthwise.graph.exporters.torch.schedule import freed, measured
from depthwise.graph.exporters.torch.tree import plant
from depthwise.graph.graph import Graph, Node
from depthwise.graph.structure import Leaf, usual_signature


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
        self.axes, self.fixed = trace_axes(graph, axes_of)
        self.numbers = numbers_in(graph)
        names = list(graph.inputs), [output.name for output in graph.outputs]
        self.signature = graph.signature or usual_signature(*names)
        takes = self.signature.takes
        alone = len(takes) == 1 and isinstance(takes[0].value, Leaf) and not takes[0].by_name
        self.net: GraphNetwork = ImageNetwork() if alone else GraphNetwork()
        self.functions = {node.name: self._function(node) for node in graph}
        self.layers = find_layers(graph)
        self.layers |= find_operators(graph, self.layers, self.functions)

    def build(self) -> GraphNetwork:
        """Return the module."""
        graph = self.graph
        constants = {n: c for n, c in graph.constants.items() if n not in self.numbers}
        for layer in self.layers.values():  # whose own numbers stand for these
            constants = {n: c for n, c in constants.items() if n not in layer.without}
        plant(self.net, [self.layers[n.name] for n in graph if n.name in self.layers], constants)
        steps = list(map(self._step, graph))
        outputs = {output.name: self._operand(output.value) for output in graph.outputs}
        self.net._program = Program(
            {name: type_.shape for name, type_ in graph.inputs.items()},
            freed(measured(list(graph.inputs), steps), outputs.values()), outputs, self.signature,
            self.fixed,
        )  # fmt: skip
        return self.net

    def _function(self, node: Node) -> TensorFunction | Sized:
        graph, inputs = self.graph, node.inputs
        site = NodeSite(
            self.net, node, tuple(map(graph.type, inputs)),
            tuple(map(graph.constants.get, inputs)), self.axes[node.name],
            tuple(self.axes[name] for name in inputs),
        )  # fmt: skip
        return function_of(node.op, site)

    def _step(self, node: Node) -> NetworkStep:
        if layer := self.layers.get(node.name):
            reads = tuple(map(self._operand, layer.reads))
            return NetworkStep(node.name, Called(*self._owner(layer.path)), reads)
        function, operands = self.functions[node.name], tuple(map(self._operand, node.inputs))
        if isinstance(function, Sized):
            sizes = tuple(map(ValueOperand, function.sizes))
            return NetworkStep(node.name, function.function, (*operands, *sizes))
        return NetworkStep(node.name, function, operands)

    def _operand(self, name: str) -> Operand:
        if name in self.numbers:
            return NumberOperand(self.numbers[name])
        if name in self.graph.constants:
            return TensorOperand(*self._owner(name))
        return ValueOperand(name)

    def _owner(self, path: str) -> tuple[nn.Module, str]:
        *parents, own = path.split(".")
        module: nn.Module = self.net
        for name in parents:
            child = module._modules[name]
            assert child is not None
            module = child
        return module, own
