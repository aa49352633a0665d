"""PyTorch as the reference: the exported program, run node after node."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from depthwise.compiler.verification.difference import largest_error
from depthwise.compiler.verification.references import NOISE, Arrays, library_types, shake
from depthwise.errors import CannotRun, Unsupported
from depthwise.graph import Graph
from depthwise.graph.frontends.torch.arguments import ExportArguments, arguments_of
from depthwise.graph.frontends.torch.exported import as_module
from depthwise.graph.frontends.torch.preserve import evaluating
from depthwise.graph.frontends.torch.purity import written
from depthwise.graph.frontends.torch.tensors import numbers_of


class PyTorchReference:
    """An exported program as the judge of the graph that was captured from it.

    Capture gives a node of the graph the name of the program's node that it computes. Where an
    operator became several of ours, they are numbered after the first, and only the last computes
    what the operator does: such a name means two things, and is left out of `paths`.
    With a `net`, the module that was exported, that is called too, to see whether it repeats.
    """

    title = "PyTorch"

    def __init__(self, program: ExportedProgram, graph: Graph, net: nn.Module | None = None):
        self._module = as_module(program)
        self._net = net
        self._arguments = arguments_of(program)
        self.types = library_types(graph)
        self._given = [type_.dtype for type_ in graph.inputs.values()]
        several = {node.name.removesuffix(".1") for node in graph if node.name.endswith(".1")}
        self.paths = {
            node.name: _path(node)
            for node in self._module.graph.nodes
            if node.op == "call_function" and node.name not in several
        }

    def start(
        self, inputs: Arrays, wanted: Collection[str] = (), double: bool = False, shaken: int = 0
    ) -> "ProgramRun":
        """Begin a run; see `Reference.start`."""
        steps = StepwiseProgram(self._module, torch.float64 if double else torch.float32, shaken)
        values = self._arguments.flat(inputs)
        return ProgramRun(steps, values, self.paths.keys() & set(wanted))

    def check_repeats(self) -> None:
        """Raise Unsupported for a module that returns something else when it is called again."""
        if self._net is not None:
            check_repeats(self._net, self._arguments, self._random_inputs())

    def _random_inputs(self) -> list[torch.Tensor]:
        """Return inputs of the types that the network takes."""
        random = np.random.default_rng(0)
        return [
            torch.from_numpy(type_.element.draw(random, type_.shape)).to(getattr(torch, dtype))
            for type_, dtype in zip(self.types, self._given, strict=True)
        ]


class StepwiseProgram(fx.Interpreter):
    """A program that runs node after node; a value is freed when its last reader has run.

    Floating numbers of any width are computed in `dtype` but for what depends on weights of another
    than float32 alone: that is in the network's own types, as capture computes it once.
    """

    def __init__(self, module: fx.GraphModule, dtype: torch.dtype, shaken: int = 0):
        super().__init__(module)
        self._dtype = dtype
        self._shaken = np.random.default_rng(shaken) if shaken else None
        self.program = module.graph
        self._computed = {node for node in module.graph.nodes if node.op == "placeholder"}
        for node in module.graph.nodes:
            if self._computed.intersection(node.all_input_nodes):
                self._computed.add(node)

    def run_each(self, inputs: Sequence[Any], before: Callable[[fx.Node], None]) -> Iterator[Any]:
        """Yield what each node computes, at last the outputs; `before` is called with each node."""
        tensors = (torch.from_numpy(x.copy()) if isinstance(x, np.ndarray) else x for x in inputs)
        self.args_iter = map(self._cast, tensors)  # copies, for it may write
        for node in self.program.nodes:
            before(node)
            with torch.no_grad():
                self.env[node] = self.run_node(node)
            yield self.env[node]
            for unused in self.user_to_last_uses.get(node, ()):
                del self.env[unused]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return a weight of the network, one of float32 in the type that is computed in."""
        value = super().get_attr(target, args, kwargs)
        if self._shaken and isinstance(value, torch.Tensor) and value.is_floating_point():
            value = torch.from_numpy(shake(numbers_of(value), self._shaken)).to(value.dtype)
        single = isinstance(value, torch.Tensor) and value.dtype == torch.float32
        return self._cast(value) if single else value

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple, dict]:
        """Return what a node is called with, all that is floating in the type computed in."""
        given = super().fetch_args_kwargs_from_env(n)
        return pytree.tree_map(self._cast, given) if n in self._computed else given

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return the outputs in the network's own structure."""
        return self.program.process_outputs(super().output(target, args, kwargs))

    def _cast(self, value: Any) -> Any:
        """Return a floating tensor, or the name of such a type, as the one that is computed in."""
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.to(self._dtype)
        floating = isinstance(value, torch.dtype) and value.is_floating_point
        return self._dtype if floating else value


class ProgramRun:
    """A run of a program that goes as far as it is asked to, and keeps what will be asked for."""

    def __init__(self, steps: StepwiseProgram, inputs: Sequence[Any], wanted: Collection[str]):
        self._steps = steps
        self._nodes = iter(steps.program.nodes)
        self._results = self._steps.run_each(inputs, self._save_from)
        self._wanted = set(wanted)
        self._kept: dict[str, torch.Tensor] = {}
        self._outputs: list[np.ndarray] = []

    def value(self, name: str) -> np.ndarray | None:
        """Return a wanted value, None for one that the program does not compute as a tensor."""
        while name in self._wanted and name not in self._kept and self._advance():
            pass
        kept = self._kept.get(name)
        return None if kept is None else numbers_of(kept)

    def drop(self, name: str) -> None:
        """Free a value."""
        self._wanted.discard(name)
        self._kept.pop(name, None)

    def outputs(self) -> list[np.ndarray]:
        """Return what the network returns, flat, once all of it has run."""
        while self._advance():
            pass
        return self._outputs

    def _advance(self) -> bool:
        """Run one more node; return whether there was one."""
        node = next(self._nodes, None)
        if node is None:
            return False
        try:
            result = next(self._results)
        except (IndexError, RuntimeError, ValueError) as error:
            raise CannotRun(f"PyTorch does not compute {node.name}: {error}") from error
        if node.op == "output":
            self._outputs = _flat(result)
            next(self._results, None)  # which frees what is left
        elif node.name in self._wanted:
            if isinstance(result, torch.Tensor):
                self._kept[node.name] = result
            else:
                self._wanted.discard(node.name)
        return True

    def _save_from(self, node: fx.Node) -> None:
        """Copy what is kept and lies where the next node writes."""
        values = self._steps.env
        at = {_memory(values[x]) for x in written(node)}
        region = any(isinstance(values.get(x), fx.GraphModule) for x in node.all_input_nodes)
        for name, tensor in self._kept.items():
            if region or _memory(tensor) in at:  # what a region writes is not looked into
                self._kept[name] = tensor.clone()


def check_repeats(
    net: nn.Module, arguments: ExportArguments, inputs: Sequence[torch.Tensor]
) -> None:
    """Raise Unsupported for a network that returns something else when it is called again.

    An exported program holds what Python computed in one call: a counter, the time, a number that
    Python or NumPy drew. Its own two runs always agree, so that the network itself is called.
    """
    try:
        with evaluating(net), torch.no_grad():
            first, second = (
                [y.copy() for y in _flat(arguments.call(net, (x.clone() for x in inputs)))]
                for _ in range(2)
            )
    except (RuntimeError, ValueError, IndexError):  # not for such inputs: boxes, rows of a table
        return
    error = np.inf if len(first) != len(second) else largest_error(second, first)
    if not error <= NOISE:
        raise Unsupported(
            "the network is no function of its inputs: called again on the same ones, it returns "
            f"something else, by {error:.2g} of the largest. A counter, the time, or numbers that "
            "Python or NumPy draw would be kept as they were in one call: make them inputs, or "
            "take them out of its forward"
        )


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _flat(result: Any) -> list[np.ndarray]:
    return [numbers_of(y) for y in _tensors(result)]


def _tensors(result: Any) -> list[torch.Tensor]:
    return [y for y in pytree.tree_leaves(result) if isinstance(y, torch.Tensor)]


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return next(reversed(stack.values()))[0] if stack else ""
