"""The judge of a library: the exported program, run in PyTorch, node after node."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from depthwise.compiler.preparation import Preparation
from depthwise.compiler.verification.difference import largest_error, relative_error
from depthwise.graph import Shape, Unsupported
from depthwise.graph.frontends.torch.exported import as_module
from depthwise.graph.frontends.torch.preserve import evaluating
from depthwise.graph.frontends.torch.purity import written

NOISE = 1e-6  # between two runs of PyTorch: sums in another order, never what was drawn

Arrays = Sequence[np.ndarray]


class Reference(fx.Interpreter):
    """An exported program to run in PyTorch; a value is freed when its last reader has run.

    `shapes` are those of its inputs, before the preparation. `paths` are the modules of its nodes,
    in the order in which they run.
    """

    def __init__(self, program: ExportedProgram, preparation: Preparation | None):
        module = as_module(program)
        super().__init__(module)
        self._program = module.graph
        self.nodes = list(module.graph.nodes)
        inputs = [node for node in self.nodes if node.op == "placeholder"]
        self.preparation = preparation
        self.shapes = [tuple(node.meta["val"].shape) for node in inputs]
        if preparation:
            self.shapes = [preparation.raw_shape(shape) for shape in self.shapes]
        self.paths = {node.name: _path(node) for node in self.nodes}
        self._dtype = torch.float32

    def outputs(self, inputs: Arrays) -> list[np.ndarray]:
        """Return what the network returns, flat."""
        last = deque(self.steps(inputs), maxlen=1)  # which keeps no step before
        return _flat(last[0][1])

    def outputs_in_double(self, inputs: Arrays) -> list[np.ndarray]:
        """Return what the network returns when it computes in float64; NaN where it cannot."""
        with self._in_double():
            try:
                return self.outputs(inputs)
            except RuntimeError:  # the network itself asks for float32
                return [np.array(np.nan)]

    def own_errors(self, inputs: Arrays, names: Collection[str]) -> dict[str, float]:
        """Return how far values in float32 are from those in float64, where that can be had."""
        with self._in_double():
            try:
                exact = self._values(inputs, names)
            except RuntimeError:
                return {}
        single = self._values(inputs, names)
        return {name: relative_error(single[name], exact[name]) for name in single}

    def _values(self, inputs: Arrays, names: Collection[str]) -> dict[str, np.ndarray]:
        """Return copies of some values of the network, all tensors."""
        return {
            node.name: _flat(result)[0].copy()
            for node, result in self.steps(inputs)
            if node.name in names
        }

    @contextmanager
    def _in_double(self) -> Iterator[None]:
        self._dtype = torch.float64
        try:
            yield
        finally:
            self._dtype = torch.float32

    def steps(self, inputs: Arrays) -> Iterator[tuple[fx.Node, Any]]:
        """Run node after node: each is given with what it computed, the last with the outputs."""
        self.env = {}
        apply = self.preparation.apply if self.preparation else np.array  # the network may write
        tensors = [self._cast(torch.from_numpy(apply(x))) for x in inputs]
        self.args_iter = iter(self._program.process_inputs(*tensors))
        for node in self.nodes:
            with torch.no_grad():
                self.env[node] = self.run_node(node)
            yield node, self.env[node]
            for unused in self.user_to_last_uses.get(node, ()):
                del self.env[unused]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return a weight of the network, in the type that is computed in."""
        value = super().get_attr(target, args, kwargs)
        return self._cast(value) if isinstance(value, torch.Tensor) else value

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return the outputs in the network's own structure."""
        return self._program.process_outputs(super().output(target, args, kwargs))

    def first_to_differ(self, inputs: Arrays) -> str | None:
        """Return the name of the first node that gives another result when run once more."""
        digests = (
            [(node.name, _digest(result)) for node, result in self.steps(inputs)] for _ in range(2)
        )
        pairs = zip(*digests, strict=True)
        return next((name for (name, one), (_, two) in pairs if one != two), None)

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._dtype) if tensor.dtype == torch.float32 else tensor


def check_repeats(net: nn.Module, shapes: Sequence[Shape]) -> None:
    """Raise Unsupported for a network that returns something else when it is called again.

    An exported program holds what Python computed in one call: a counter, the time, a number that
    Python or NumPy drew. Its own two runs always agree, so that the network itself is called.
    """
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(shape, np.float32) for shape in shapes]
    try:
        with evaluating(net), torch.no_grad():
            first, second = (
                [y.copy() for y in _flat(net(*map(torch.tensor, inputs)))] for _ in range(2)
            )
    except (RuntimeError, ValueError):  # not meant for such inputs: boxes, say
        return
    error = np.inf if len(first) != len(second) else largest_error(second, first)
    if not error <= NOISE:
        raise Unsupported(
            "the network is no function of its inputs: called again on the same ones, it returns "
            f"something else, by {error:.2g} of the largest. A counter, the time, or numbers that "
            "Python or NumPy draw would be kept as they were in one call: make them inputs, or "
            "take them out of its forward"
        )


class Following:
    """A run of the reference that goes as far as somebody asks, and keeps what they will ask for.

    `wanted` are the names of values that will be asked for, each until it is dropped.
    """

    def __init__(self, reference: Reference, inputs: Arrays, wanted: Collection[str]):
        self._reference = reference
        self._steps = reference.steps(inputs)
        computed = {node.name for node in reference.nodes if node.op == "call_function"}
        self._wanted = set(wanted) & computed
        self._kept: dict[str, torch.Tensor] = {}
        self._position = 0
        self._result: Any = None

    def value(self, name: str) -> np.ndarray | None:
        """Return a wanted value, None for one that the program does not compute as a tensor."""
        while name in self._wanted and name not in self._kept and self._advance():
            pass
        kept = self._kept.get(name)
        return None if kept is None else kept.detach().numpy()

    def drop(self, name: str) -> None:
        """Free a value."""
        self._wanted.discard(name)
        self._kept.pop(name, None)

    def outputs(self) -> list[np.ndarray]:
        """Return what the network returns, flat, once all of it has run."""
        while self._advance():
            pass
        return _flat(self._result)

    def _advance(self) -> bool:
        """Run one more node; return whether there was one."""
        nodes = self._reference.nodes
        if self._position == len(nodes):
            return False
        self._save_from(nodes[self._position])
        self._position += 1
        node, result = next(self._steps)
        if node.op == "output":
            self._result = result
            return next(self._steps, None) is not None
        if node.name in self._wanted:
            if isinstance(result, torch.Tensor):
                self._kept[node.name] = result
            else:
                self._wanted.discard(node.name)
        return True

    def _save_from(self, node: fx.Node) -> None:
        """Copy what is kept and lies where the next node writes."""
        values = self._reference.env
        at = {_memory(values[x]) for x in written(node)}
        region = any(isinstance(values.get(x), fx.GraphModule) for x in node.all_input_nodes)
        for name, tensor in self._kept.items():
            if region or _memory(tensor) in at:  # what a region writes is not looked into
                self._kept[name] = tensor.clone()


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _flat(result: Any) -> list[np.ndarray]:
    return [y.detach().numpy() for y in _tensors(result)]


def _tensors(result: Any) -> list[torch.Tensor]:
    return [y for y in pytree.tree_leaves(result) if isinstance(y, torch.Tensor)]


def _digest(result: Any) -> bytes:
    """Return what tells the tensors of a result from others, bit by bit."""
    found = blake2b()
    for tensor in _tensors(result):
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.digest()


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return next(reversed(stack.values()))[0] if stack else ""
