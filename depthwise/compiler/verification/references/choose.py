"""Which reference a network has, by what it was opened from."""

from contextlib import suppress
from importlib.util import find_spec

from depthwise.compiler.verification.references import Reference
from depthwise.compiler.verification.references.interpreter import InterpreterReference
from depthwise.sources.onnx_file import OnnxSource
from depthwise.sources.source import Source, TorchSource


def reference_of(source: Source) -> Reference:
    """Return PyTorch where a network came from it, ONNX Runtime for a file of ONNX where installed.

    Of all else, and of a file that the installed ONNX Runtime does not take, the graph itself is
    interpreted.
    """
    if isinstance(source, TorchSource):
        from depthwise.compiler.verification.references.pytorch import (  # noqa: PLC0415
            PyTorchReference,
        )

        return PyTorchReference(source.program, source.graph, source.exported)
    if isinstance(source, OnnxSource) and find_spec("onnxruntime"):
        from depthwise.compiler.verification.references.onnxruntime import (  # noqa: PLC0415
            OnnxRuntimeReference,
        )

        with suppress(Exception):  # an operator, or a version of the format, that it does not know
            return OnnxRuntimeReference(source.path, source.graph, source.end)
    return InterpreterReference(source.graph)
