"""The module that computes a graph, step by step."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from depthwise.graph.graph import Shape
from depthwise.graph.structure import Signature, bind, fill

Results = dict[Hashable, Any]  # by the name of the value, or by the size that is meant


@dataclass(frozen=True)
class ValueOperand:
    """An operand that a step before has computed."""

    name: Hashable

    def among(self, values: Results) -> Any:
        """Return it."""
        return values[self.name]


@dataclass(frozen=True, eq=False)
class TensorOperand:
    """An operand that is a parameter or a buffer: the one that `owner` has under a name by then."""

    owner: nn.Module
    name: str

    def among(self, values: Results) -> Any:  # noqa: ARG002
        """Return it."""
        parameter = self.owner._parameters.get(self.name)
        return self.owner._buffers[self.name] if parameter is None else parameter


@dataclass(frozen=True)
class NumberOperand:
    """An operand that is written in the network's code."""

    value: float

    def among(self, values: Results) -> Any:  # noqa: ARG002
        """Return it."""
        return self.value


Operand = ValueOperand | TensorOperand | NumberOperand


@dataclass(frozen=True, eq=False)
class Called:
    """What computes a step where a module does: whatever `owner` has under a name by then."""

    owner: nn.Module
    name: str

    def __call__(self, *operands: Any) -> Any:
        """Call the module."""
        return self.owner._modules[self.name](*operands)  # type: ignore[misc]


@dataclass(frozen=True, eq=False)
class NetworkStep:
    """One value computed from others.

    Attributes:
        result: What it is called: its node, or the size that it is.
        compute: A function of the operands, or the module that is called with them.
        operands: What is read.
        done: Results that nothing reads after it.
    """

    result: Hashable
    compute: Callable[..., Any]
    operands: tuple[Operand, ...]
    done: tuple[Hashable, ...] = ()


@dataclass(frozen=True, eq=False)
class Program:
    """What a network does.

    Attributes:
        shapes: The shape of each input in the graph.
        steps: All values in order.
        outputs: The operand that each output is.
        signature: What the network is given, and what it returns.
        fixed: Why the number of images is that of the graph; empty where it may be any.
    """

    shapes: Mapping[str, Shape]
    steps: tuple[NetworkStep, ...]
    outputs: Mapping[str, Operand]
    signature: Signature
    fixed: str


class GraphNetwork(nn.Module):
    """A network that a graph describes.

    Its layers are PyTorch's own, at the paths that they have in the graph; what lies between them
    is functions, listed by `steps_of`.
    """

    _program: Program

    def forward(self, *given: Any, **named: Any) -> Any:
        """Return what the network returns for what it takes."""
        return self._compute(bind(self._program.signature.takes, given, named, "the network"))

    def _compute(self, tensors: Mapping[str, Tensor]) -> Any:
        program = self._program
        if program.fixed:
            _check_images(program, tensors)
        values: Results = {**tensors}
        for step in program.steps:
            operands = [operand.among(values) for operand in step.operands]
            values[step.result] = step.compute(*operands)
            for name in step.done:
                del values[name]
        found = {name: operand.among(values) for name, operand in program.outputs.items()}
        return fill(program.signature.returns, found)


def compute_otherwise(
    net: GraphNetwork, change: Callable[[NetworkStep], NetworkStep],
    first: Sequence[NetworkStep] = (),
) -> None:  # fmt: skip
    """Let a network compute its steps as `change` returns them, after some that come first.

    A step's result and what it reads have to stay: `compute` alone is another.
    """
    program = net._program
    net._program = replace(program, steps=(*first, *map(change, program.steps)))


class ImageNetwork(GraphNetwork):
    """A network that is called with one tensor, as in net(x)."""

    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        """Return what the network returns for what it takes."""
        return self._compute(dict.fromkeys(self._program.shapes, x))


def _check_images(program: Program, tensors: Mapping[str, Tensor]) -> None:
    for name, shape in program.shapes.items():
        found = tensors[name].shape
        if shape and (len(found) != len(shape) or found[0] != shape[0]):
            raise ValueError(
                f"input {name} has the shape {tuple(found)}: this network was captured with "
                f"{shape[0]} along the first axis and takes no other number, for {program.fixed}"
            )
