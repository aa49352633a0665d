"""Networks that are quantised: what of them is computed in integers, and who judges that.

A graph with Quantize nodes says itself what is held in bytes. Between a Dequantize and a Quantize
lies one computation in integers (quantization/integer.py); what has no such form is computed in
float32 of what the bytes stand for.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from depthwise.compiler.options import CompileOptions
from depthwise.compiler.preparation import Preparation
from depthwise.compiler.verification.references import Arrays
from depthwise.compiler.verification.references.interpreter import (
    Interpretation,
    InterpreterReference,
)
from depthwise.graph import Graph, Node, ops
from depthwise.hardware.choice import NATIVE
from depthwise.quantization.integer import MOVING, to_integers
from depthwise.quantization.integer_ops import IntegerOp
from depthwise.runtime.target import native_of_bytes

MOVED = 2.0**-19  # of the largest: 16 of its last digits, as long sums in float32 are off
EXACT = (IntegerOp, ops.Quantize, ops.Dequantize, *MOVING)


def is_exact(graph: Graph) -> bool:
    """Tell whether all of a graph of integers has but one result, to the last bit."""
    return all(isinstance(node.op, EXACT) for node in graph)


def options_of_bytes(
    options: CompileOptions, preparation: Preparation | None = None
) -> CompileOptions:
    """Return the options of a quantised network: "native" is what is best for bytes, on this core.

    Raises ValueError for what there is for networks of floats alone.
    """
    if preparation:
        raise ValueError(
            "preparation: a quantised network takes images that are prepared, as it was "
            "calibrated with; leave out the preparation"
        )
    if options.stored_weights != "float32":
        raise ValueError(
            f"stored_weights={options.stored_weights!r}: the network is quantised, and its weights "
            "are bytes: leave it out"
        )
    if options.tune:
        raise ValueError("tune=True: ways to compute bytes are not timed yet; leave it out")
    if options.chosen.members:
        levels = ", ".join(level.name for level in options.chosen.levels)
        raise ValueError(
            f"target={options.target!r}: a quantised network is compiled for one CPU, not for a "
            f"family of them: for native, {levels}, or one with VNNI or AMX"
        )
    if options.target != "native":
        return options
    return replace(options, target=native_of_bytes().name, tune_for=options.tune_for or NATIVE)


def check_narrow(rewritten: Graph, precision: str) -> None:
    """Raise ValueError where nothing of a quantised network is computed in a narrow precision.

    It is for the layers that are kept out of eight bits.
    """
    if not any(node.type.dtype == precision for node in rewritten):
        raise ValueError(
            f"precision={precision!r}: the network is quantised, and its bytes are computed as "
            "they are, and no layer is left that is not in bytes; leave it out, or compile the "
            "network that was quantised"
        )


class SimulatorReference(InterpreterReference):
    """A quantised network as kernels of bytes compute it: `dw.simulate`, value by value."""

    title = "the simulator"

    def __init__(self, graph: Graph):
        super().__init__(to_integers(graph))
        self._exact = frozenset(graph.inputs)

    def start(
        self,
        inputs: Arrays,
        wanted: Collection[str] = (),
        double: bool = False,
        shaken: int = 0,  # noqa: ARG002  (weights are integers)
    ) -> Interpretation:
        """Begin a run; with `double` what is computed in floats between integers is in float64.

        Some of it lies so near the middle between two integers that rounding alone decides which it
        becomes, and so all that follows: that run decides it another way.
        """
        return super().start(inputs, wanted, double)

    def compute_node(self, node: Node, *inputs: np.ndarray) -> np.ndarray:
        """Return a node's value: what computes in integers has factors in float32 at all times."""
        if isinstance(node.op, IntegerOp):
            inputs = tuple(x.astype(np.float32) if x.dtype == np.float64 else x for x in inputs)
        elif (
            isinstance(node.op, ops.Quantize)
            and inputs[0].dtype == np.float64
            and (node.inputs[0] not in self._exact)
        ):
            x, *rest = inputs
            far = MOVED * np.abs(x).max(initial=0)
            inputs = (x + np.random.default_rng(0).uniform(-far, far, x.shape), *rest)
        return super().compute_node(node, *inputs)
