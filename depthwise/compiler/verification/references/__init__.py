"""References: who says what a network should compute, value by value.

A library is verified against a reference of the graph that it was compiled from. The references
stand side by side, each in a module of its own: `pytorch` runs an exported program, `interpreter`
computes the graph itself in NumPy. Another runtime needs one more module with a class that has
what `Reference` asks for; verification knows of nothing else.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from depthwise.graph import Graph, TensorType
from depthwise.graph.dtypes import FLOAT32

Arrays = Sequence[np.ndarray]

NOISE = 1e-6  # between two runs of one reference: sums in another order, never what was drawn


def library_types(graph: Graph) -> list[TensorType]:
    """Return the types in which a library takes the inputs of a network."""
    return [
        replace(type_, dtype=FLOAT32.name) if type_.element.is_floating else type_
        for type_ in graph.inputs.values()
    ]


def shake(numbers: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return floating numbers moved by one or two of their last digits in float32."""
    moves = random.choice(np.array([-2, -1, 1, 2]) * 2.0**-23, numbers.shape)
    return (numbers * (1 + moves)).astype(numbers.dtype)


class ReferenceRun(Protocol):
    """One run of a reference on one set of inputs, which goes only as far as it was asked to.

    So it can keep step with another run, and neither holds more values than it needs.
    """

    def value(self, name: str) -> np.ndarray | None:
        """Return a wanted value of the graph as it was when it was computed, until it is dropped.

        None for a name that the reference does not know, or no longer has.
        Raises CannotRun.
        """
        ...

    def drop(self, name: str) -> None:
        """Free a value, which will not be asked for again."""

    def outputs(self) -> list[np.ndarray]:
        """Finish the run, and return what the network returns, in the order of the graph.

        Raises CannotRun.
        """
        ...


class Reference(Protocol):
    """What a graph should compute.

    The graph is the one that a front end made, before any pass: values bear its names, inputs come
    in its order. Floating numbers of any width are float32 here, at the inputs and inside, since a
    library computes in it: weights are as they are, and so is what depends on them alone.
    """

    @property
    def title(self) -> str:
        """Who computes, as messages name it: "PyTorch"."""
        ...

    @property
    def types(self) -> Sequence[TensorType]:
        """The type of each input, in the graph's order, as the library takes it."""
        ...

    @property
    def paths(self) -> Mapping[str, str]:
        """The values that can be asked for, in the order in which they are computed.

        Each has the path of its module, empty where there is none. A value of the graph that means
        something else here, or that is never there as a tensor, is left out.
        """
        ...

    def start(
        self, inputs: Arrays, wanted: Collection[str] = (), double: bool = False, shaken: int = 0
    ) -> ReferenceRun:
        """Begin a run on `inputs`, which stay as they are.

        Args:
            inputs: An array for each input.
            wanted: The names that `ReferenceRun.value` will be asked for; unknown ones are ignored.
            double: Compute in float64 whatever is float32 else, weights and inputs included.

            shaken: A number other than 0 draws how each weight is moved in its last digits.

        Raises:
            CannotRun: It refuses the values of these inputs, or cannot compute in float64. A run
                may raise it later, too.
        """
        ...

    def check_repeats(self) -> None:
        """Raise Unsupported where the network that it stands for is no function of its inputs.

        That is asked once, before anything is compiled. Whether two runs of the reference itself
        agree is seen when they are compared.
        """
