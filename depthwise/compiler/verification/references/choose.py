"""Which reference a network has, by what it was opened from."""

from depthwise.compiler.verification.references import Reference
from depthwise.compiler.verification.references.interpreter import InterpreterReference
from depthwise.sources.source import Source, TorchSource


def reference_of(source: Source) -> Reference:
    """Return PyTorch where a network came from it, else our interpreter of its graph."""
    if isinstance(source, TorchSource):
        from depthwise.compiler.verification.references.pytorch import (  # noqa: PLC0415
            PyTorchReference,
        )

        return PyTorchReference(source.program, source.graph, source.exported)
    return InterpreterReference(source.graph)
