"""`dw.simulate`: what a quantised network computes on a device, bit for bit, in NumPy."""

from collections.abc import Iterator

import numpy as np

from depthwise.escaping import kind_of
from depthwise.graph import Graph
from depthwise.graph.interpret import interpret
from depthwise.quantization.integer import is_quantised, to_integers

Results = np.ndarray | tuple[np.ndarray, ...]


class IntegerSimulator:
    """A quantised network, as kernels of integers compute it.

    Attributes:
        integers: The network as `integer_ops`.
    """

    def __init__(self, graph: Graph):
        self.integers = to_integers(graph)

    def __call__(self, *inputs: np.ndarray) -> Results:
        """Return what the network returns, as `simulate` does."""
        found = [self._once(each) for each in self._parts(inputs)]
        joined = tuple(np.concatenate(each) for each in zip(*found, strict=True))
        return joined[0] if len(joined) == 1 else joined

    def values(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return every value by name, for inputs of exactly the network's shapes."""
        with np.errstate(all="ignore"):  # what is no number is computed as kernels do
            return interpret(self.integers, *inputs)

    def _once(self, inputs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        values = self.values(*inputs)
        return [values[output.value] for output in self.integers.outputs]

    def _parts(self, inputs: tuple[np.ndarray, ...]) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield as many images at once as the network takes."""
        types = list(self.integers.inputs.values())
        if len(inputs) != len(types):
            raise ValueError(f"{len(inputs)} inputs: the network takes {len(types)}")
        for name, x, type_ in zip(self.integers.inputs, inputs, types, strict=True):
            known = isinstance(x, np.ndarray)
            if not known or x.dtype != type_.element.numpy:
                given = f"an array of {x.dtype}" if known else kind_of(x)
                raise ValueError(
                    f"input {name!r} is {given}: an array of {type_.element.numpy} is taken; "
                    "convert it"
                )
            if x.shape[1:] != type_.shape[1:] or not len(x) or len(x) % type_.shape[0]:
                raise ValueError(
                    f"input {name!r} is {'x'.join(map(str, x.shape))}: the network takes "
                    f"{'x'.join(map(str, type_.shape))}, or some times as many images"
                )
        counts = {len(x) // type_.shape[0] for x, type_ in zip(inputs, types, strict=True)}
        if len(counts) > 1:
            raise ValueError(f"inputs of {sorted(counts)} images: give equally many")
        for start in range(counts.pop()):
            yield tuple(
                x[start * type_.shape[0] : (start + 1) * type_.shape[0]]
                for x, type_ in zip(inputs, types, strict=True)
            )


def simulate(graph: Graph, *inputs: np.ndarray) -> Results:
    """Compute a quantised network as kernels of integers do: int32 sums, rounded in float32.

    What has no form in integers is computed in float32.

    Args:
        graph: A network with Quantize and Dequantize nodes, as `dw.quantize` makes them or an ONNX
            file holds them.
        inputs: Its inputs, float32: any number of images of the network's shape.

    Returns:
        What the network returns: an array, or a tuple of them.

    Raises:
        ValueError: The graph is not quantised, or the inputs do not fit.
    """
    if not isinstance(graph, Graph):
        raise ValueError(
            f"simulate: {kind_of(graph)} was given; it takes a graph, as `dw.quantize` leaves it "
            "in `.graph`, or `dw.open` in `.traced`"
        )
    if not is_quantised(graph):
        raise ValueError(
            "simulate: the graph holds no value in eight bits (no Quantize node reads one): give "
            "one that was quantised, by `dw.quantize` or in an ONNX file; a network in float32 is "
            "computed by `dw.open(NETWORK).run`"
        )
    return IntegerSimulator(graph)(*inputs)
