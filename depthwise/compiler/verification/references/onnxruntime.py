"""ONNX Runtime as the reference of a network that came as an ONNX file."""

from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, ValueInfoProto
from onnx.helper import make_node

from depthwise.compiler.verification.references import Arrays, library_types
from depthwise.compiler.verification.references.interpreter import (
    Interpretation,
    InterpreterReference,
)
from depthwise.errors import CannotRun
from depthwise.graph import Graph
from depthwise.graph.frontends.onnx.load import load

ERRORS = 3  # of ONNX Runtime's levels of logging


class OnnxRuntimeReference:
    """A file as the judge of the graph that was read from it.

    Values of the graph bear the names of the file. ONNX Runtime runs without its optimisations,
    under which they would not be there. In float64 our interpreter computes, for ONNX Runtime has
    few operators in that precision, and with weights that are moved.
    """

    title = "ONNX Runtime"

    def __init__(self, path: Path, graph: Graph):
        self._model = _with_exact_sigmoids(load(path))
        self._graph = graph
        self.types = library_types(graph)
        named = {name for node in self._model.graph.node for name in node.output}
        self.paths = {node.name: node.path for node in graph if node.name in named}
        self._plain = self._open(())

    def start(
        self, inputs: Arrays, wanted: Collection[str] = (), double: bool = False, shaken: int = 0
    ) -> "OnnxRuntimeRun | Interpretation":
        """Begin a run; see `Reference.start`."""
        if double or shaken:
            return InterpreterReference(self._graph).start(inputs, wanted, double, shaken)
        names = [name for name in self.paths if name in set(wanted)]
        session = self._open(names) if names else self._plain
        arrays = zip(self._graph.inputs.items(), inputs, strict=True)
        feeds = {name: np.asarray(x, type_.dtype) for (name, type_), x in arrays}
        return OnnxRuntimeRun(session, feeds, names)

    def check_repeats(self) -> None:
        """Return: a file of ONNX has no state, and what draws numbers is not read."""

    def _open(self, names: Iterable[str]) -> onnxruntime.InferenceSession:
        """Return a session that gives the network's outputs, then the values of these names."""
        model = ModelProto()
        model.CopyFrom(self._model)
        model.graph.output.extend(ValueInfoProto(name=name) for name in names)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = ERRORS
        providers = ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers)


class OnnxRuntimeRun:
    """A run of ONNX Runtime, which computes all that is wanted at once, when first asked."""

    def __init__(
        self, session: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray], names: list[str]
    ):
        self._session, self._feeds, self._names = session, feeds, names
        self._dropped: set[str] = set()

    @cached_property
    def _results(self) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """The network's outputs, and the wanted values by name."""
        try:
            results = self._session.run(None, self._feeds)
        except Exception as error:
            raise CannotRun(f"ONNX Runtime: {error}") from error
        count = len(results) - len(self._names)
        arrays = [np.asarray(result) for result in results]
        return arrays[:count], dict(zip(self._names, arrays[count:], strict=True))

    def value(self, name: str) -> np.ndarray | None:
        """Return a wanted value; None for others."""
        return self._results[1].get(name) if name in self._names else None

    def drop(self, name: str) -> None:
        """Free a value."""
        self._results[1].pop(name, None)

    def outputs(self) -> list[np.ndarray]:
        """Return what the network returns."""
        return self._results[0]


def _with_exact_sigmoids(model: ModelProto) -> ModelProto:
    """Return a model with 1 / (1 + exp(-x)) in place of each sigmoid.

    ONNX Runtime's own is right to 1e-7 of 1, and so to nothing where it is near 0: a detector that
    sees nothing would be compared with rounding errors.
    """
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes += _sigmoid(node) if node.op_type == "Sigmoid" and not node.domain else [node]
    exact = ModelProto()
    exact.CopyFrom(model)
    del exact.graph.node[:]
    exact.graph.node.extend(nodes)
    return exact


def _sigmoid(node: NodeProto) -> list[NodeProto]:
    y = node.output[0]
    negative, power, total = (f"{y}/{part}" for part in ("negative", "power", "total"))
    return [
        make_node("Neg", [node.input[0]], [negative]),
        make_node("Exp", [negative], [power]),
        make_node("Constant", [], [f"{y}/one"], value_float=1.0),
        make_node("Add", [power, f"{y}/one"], [total]),
        make_node("Reciprocal", [total], [y]),
    ]
