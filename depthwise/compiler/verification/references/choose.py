"""Which reference a network has, by what it was opened from."""

from contextlib import suppress
from importlib.util import find_spec

from depthwise.compiler.verification.references import Reference
from depthwise.compiler.verification.references.interpreter import InterpreterReference
from depthwise.graph import Graph
from depthwise.graph.dtypes import FLOAT32
from depthwise.sources.onnx_file import OnnxSource
from depthwise.sources.source import Source, TorchSource


def is_single(graph: Graph) -> bool:
    """Tell whether all floating numbers that a network computes with are float32."""
    types = (*graph.inputs.values(), *(node.type for node in graph))
    return all(t.dtype == FLOAT32.name for t in types if t.element.is_floating)


def reference_of(source: Source) -> Reference:
    """Return PyTorch where a network came from it, ONNX Runtime for a file of ONNX where installed.

    Of all else, and of a file that the installed ONNX Runtime does not take or computes in another
    precision than a library does, the graph itself is interpreted.
    """
    if isinstance(source, TorchSource):
        from depthwise.compiler.verification.references.pytorch import (  # noqa: PLC0415
            PyTorchReference,
        )

        return PyTorchReference(source.program, source.graph, source.exported)
    if isinstance(source, OnnxSource) and find_spec("onnxruntime") and is_single(source.graph):
        from depthwise.compiler.verification.references.onnxruntime import (  # noqa: PLC0415
            OnnxRuntimeReference,
        )

        with suppress(Exception):  # an operator, or a version of the format, that it does not know
            return OnnxRuntimeReference(source.path, source.graph)
    return InterpreterReference(source.graph)
