"""A network that was opened, wherever it came from: with it counting and compiling begin."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from depthwise.errors import Unsupported
from depthwise.graph import NO_KWARGS, Graph, Shape, interpret, supported
from depthwise.graph.graph import shape_of
from depthwise.graph.passes.until import end_graph

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from depthwise.graph.frontends.torch.arguments import ExportArguments
    from depthwise.weights import WeightsRecord
    from depthwise.weights.load import LoadedWeights

Arrays = list[np.ndarray]


class Given(NamedTuple):
    """The shapes that a user gives, by position and by name; see `dw.open`."""

    shapes: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = NO_KWARGS

    def or_else(self, usual: Sequence[Shape]) -> "Given":
        """Return a network's usual shapes where none are given."""
        return self if any(self) else Given(usual)


@dataclass(frozen=True, eq=False)
class Source(ABC):
    """A network with its weights, fixed to the shapes of its inputs.

    Attributes:
        name: What the network calls itself.
        shapes: The shape of each input, in order.
        known: What is known of its weights where they lie in a run's directory.
    """

    name: str
    shapes: tuple[Shape, ...]
    known: "WeightsRecord | None" = field(default=None, kw_only=True)

    @cached_property
    @abstractmethod
    def graph(self) -> Graph:
        """The network as a graph. Raises Unsupported where it cannot be compiled."""

    @cached_property
    @abstractmethod
    def traced(self) -> Graph:
        """The same to be counted: operators that we do not know are Opaque nodes."""

    @cached_property
    @abstractmethod
    def runnable(self) -> Graph:
        """The same with operators that we do not know as Opaque nodes, if PyTorch can run them.

        Raises Unsupported where it cannot.
        """

    @abstractmethod
    def run(self, inputs: Arrays) -> Arrays:
        """Return what the network itself returns for inputs of its shapes, flat, in order."""

    @abstractmethod
    def at(self, shapes: Sequence[Shape], kwargs: Mapping[str, Any] = NO_KWARGS) -> "Source":
        """Return the same network for inputs of other shapes, given as to `dw.open`.

        Raises ValueError where it cannot.
        """

    @abstractmethod
    def until(self, name: str) -> "Source":
        """Return the same network, ended with what a module of it returns, or with a value.

        Raises ValueError for a name that is neither.
        """

    @property
    def output_shapes(self) -> list[Shape]:
        """The shapes of what the network returns."""
        return [self.graph.type(output.value).shape for output in self.graph.outputs]

    @property
    def pretrained(self) -> "WeightsRecord | None":
        """What the weights say of themselves; None where they record nothing."""
        return self.known

    @property
    def loaded_weights(self) -> "LoadedWeights | None":
        """What was taken from a checkpoint; None where nothing was."""
        return None


@dataclass(frozen=True, eq=False)
class TorchSource(Source):
    """A network of PyTorch: a module, or a program that was exported from one."""

    net: "nn.Module | ExportedProgram"
    arguments: "ExportArguments"

    @cached_property
    def program(self) -> "ExportedProgram":
        """The network as torch.export sees it, without writes that no graph can say."""
        from torch import nn  # noqa: PLC0415

        from depthwise.graph.frontends.torch.export import export_with  # noqa: PLC0415
        from depthwise.graph.frontends.torch.functional import functional  # noqa: PLC0415

        if not isinstance(self.net, nn.Module):
            return functional(self.net)
        return functional(export_with(self.net, self.arguments))

    @property
    def exported(self) -> "nn.Module | None":
        """The module that the program was exported from, None where it came as a program."""
        from torch import nn  # noqa: PLC0415

        return self.net if isinstance(self.net, nn.Module) else None

    @cached_property
    def graph(self) -> Graph:
        """The network as a graph. Raises Unsupported where it cannot be compiled."""
        from depthwise.graph import capture  # noqa: PLC0415

        return capture(self.program)

    @cached_property
    def traced(self) -> Graph:
        """The same to be counted: operators that we do not know are Opaque nodes."""
        from depthwise.graph import trace  # noqa: PLC0415

        return trace(self.program)

    @cached_property
    def runnable(self) -> Graph:
        """The same with operators that we do not know as Opaque nodes, if PyTorch can run them."""
        from depthwise.graph import capture  # noqa: PLC0415

        try:
            return self.graph
        except Unsupported:
            return capture(self.program, unknown=True)

    @cached_property
    def module(self) -> "nn.Module":
        """A module that computes the network."""
        from depthwise.graph.frontends.torch.exported import as_module  # noqa: PLC0415

        return self.exported or as_module(self.program)

    @property
    def takes_one(self) -> bool:
        """Whether it is called with one tensor, as in net(x)."""
        return self.arguments.positional == self.shapes[:1] and not self.arguments.named

    def at(self, shapes: Sequence[Shape], kwargs: Mapping[str, Any] = NO_KWARGS) -> "TorchSource":
        """Return the same network for inputs of other shapes; a program has its own."""
        return replace(torch_source(self.net, shapes, kwargs), known=self.known)

    def until(self, name: str) -> "TorchSource":
        """Return the same network, ended with what a module returns; a program, with a node too."""
        from depthwise.graph.frontends.torch.exported import end_program  # noqa: PLC0415
        from depthwise.graph.frontends.torch.until import end_module  # noqa: PLC0415

        if self.exported is None:
            return torch_source(end_program(self.program, name), ())
        return replace(self, net=end_module(self.exported, self.arguments, name))

    def run(self, inputs: Arrays) -> Arrays:
        """Return what PyTorch computes; inputs are converted to the types that it takes."""
        import torch  # noqa: PLC0415

        from depthwise.graph.frontends.torch.tensors import numbers_of  # noqa: PLC0415

        pairs = zip(inputs, self.dtypes, strict=True)
        return [numbers_of(y) for y in self._call(torch.tensor(x).to(d) for x, d in pairs)]

    @property
    def dtypes(self) -> "list[torch.dtype]":
        """The element type of each input: that of the weights where no other is given."""
        import torch  # noqa: PLC0415

        usual = next(self.module.parameters(), torch.empty(0)).dtype
        return [dtype or usual for dtype in self.arguments.dtypes]

    def _call(self, tensors: "Iterable[Tensor]") -> "list[Tensor]":
        """Return the tensors that the network returns."""
        import torch  # noqa: PLC0415
        from torch.utils._pytree import tree_leaves  # noqa: PLC0415

        with torch.inference_mode():
            result = self.arguments.call(self.module, tensors)
        return [y for y in tree_leaves(result) if isinstance(y, torch.Tensor)]

    @property
    def output_shapes(self) -> list[Shape]:
        """The shapes of what the network returns, having run it once: that needs no export."""
        import torch  # noqa: PLC0415

        pairs = zip(self.shapes, self.dtypes, strict=True)
        tensors = (torch.zeros(shape, dtype=dtype) for shape, dtype in pairs)
        return [tuple(y.shape) for y in self._call(tensors)]

    @property
    def pretrained(self) -> "WeightsRecord | None":
        """What `dw.train` or `dw.create_model` recorded of the weights."""
        from depthwise.weights import find_pretrained  # noqa: PLC0415

        return self.known or find_pretrained(self.net)

    @property
    def loaded_weights(self) -> "LoadedWeights | None":
        """What `load_weights` recorded of the checkpoint."""
        from depthwise.weights.load import LoadedWeights  # noqa: PLC0415

        found = getattr(self.net, "loaded_weights", None)  # networks of others may have one too
        return found if isinstance(found, LoadedWeights) else None


@dataclass(frozen=True, eq=False)
class GraphSource(Source):
    """A network that came as a graph: from a file, or from what rewrites graphs."""

    given: Graph

    @cached_property
    def graph(self) -> Graph:
        """The graph itself. Raises Unsupported where it cannot be compiled."""
        return supported(self.given)

    @cached_property
    def traced(self) -> Graph:
        """The graph itself."""
        return self.given

    @cached_property
    def runnable(self) -> Graph:
        """The graph itself. Raises Unsupported where it cannot be run by PyTorch either."""
        return supported(self.given, unknown=True)

    def at(self, shapes: Sequence[Shape], kwargs: Mapping[str, Any] = NO_KWARGS) -> "GraphSource":
        """Return the graph itself, whose shapes are its own."""
        source = graph_source(self.given, shapes, kwargs, self.name)
        return replace(source, known=self.known)

    def until(self, name: str) -> "GraphSource":
        """Return the graph, ended with a node or with what the nodes of a module give."""
        source = graph_source(end_graph(self.given, name), name=self.name)
        return replace(source, known=self.known)

    def run(self, inputs: Arrays) -> Arrays:
        """Return what our interpreter computes."""
        values = interpret(self.given, *inputs)
        return [values[output.value] for output in self.given.outputs]


def torch_source(
    net: "nn.Module | ExportedProgram", shapes: Sequence[Shape],
    kwargs: Mapping[str, Any] = NO_KWARGS,
) -> TorchSource:  # fmt: skip
    """Return a module fixed to inputs of `shapes`, or a program, which brings its own.

    Raises ValueError for shapes that a program was not exported for, or a module does not take.
    """
    from torch import nn  # noqa: PLC0415

    from depthwise.graph.frontends.torch.arguments import bind_arguments  # noqa: PLC0415
    from depthwise.graph.frontends.torch.capture import check_arguments  # noqa: PLC0415
    from depthwise.graph.frontends.torch.wrappers import unwrapped  # noqa: PLC0415

    if isinstance(net, nn.Module):
        net = unwrapped(net)
        arguments = bind_arguments(net, shapes, kwargs)
    else:
        arguments = check_arguments(net, shapes, kwargs)
    return TorchSource(network_name(net), arguments.shapes, net, arguments)


def graph_source(
    graph: Graph, shapes: Sequence[Shape] = (), kwargs: Mapping[str, Any] = NO_KWARGS,
    name: str = "graph",
) -> GraphSource:  # fmt: skip
    """Return a graph as a source. Raises ValueError for shapes that it is not for."""
    check_dtypes(graph, shapes, kwargs)
    own = {name: type_.shape for name, type_ in graph.inputs.items()}
    named = {name: shape_of(shape) for name, shape in kwargs.items()}
    asked = {**dict(zip(own, map(shape_of, shapes), strict=False)), **named}
    if (shapes or kwargs) and (len(shapes) + len(kwargs), asked) != (len(own), own):
        given = (*map(shape_of, shapes), *named.items())
        raise ValueError(f"shapes {given}: this graph is for inputs of {tuple(own.values())}")
    shapes = tuple(own.values())
    return GraphSource(name, shapes, graph)


def check_dtypes(graph: Graph, shapes: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise ValueError where other element types are asked for than a graph's inputs have."""
    for name, given in (*zip(graph.inputs, shapes, strict=False), *kwargs.items()):
        dtype = str(getattr(given, "dtype", "")).removeprefix("torch.")
        if dtype and name in graph.inputs and dtype != graph.inputs[name].dtype:
            raise ValueError(
                f"input {name} of {dtype}: this graph takes {graph.inputs[name].dtype}"
            )


def network_name(net: object) -> str:
    """Return what a network of ours is called, or the class of another."""
    own = getattr(net, "network", None)  # in networks of others it may be a module
    if isinstance(own, str) and own:
        return own
    scripted = getattr(net, "original_name", None)  # of a class that was made into TorchScript
    return scripted if isinstance(scripted, str) else type(net).__name__
