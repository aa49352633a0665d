"""The hub: one small graph that cost, lint, slimming and the compiler all read.

dtypes (element types) - ops (what there is) - graph (how it hangs together) - shapes, check -
builder, aten, aten_shape, aten_compound (the rules) - tensors, outputs, purity, importer, export,
capture (from PyTorch) - preserve, failure (what is put back, and said, around it) - interpret,
interpret_sampling (what it means, in NumPy) - show (as text).
"""

from depthwise.graph import interpret_sampling  # noqa: F401  (it registers operators' meanings)
from depthwise.graph.check import check
from depthwise.graph.frontends.torch.capture import capture, trace
from depthwise.graph.frontends.torch.export import export
from depthwise.graph.frontends.torch.failure import supported
from depthwise.graph.graph import Constant, Graph, Node, Output, Shape, TensorType, Unsupported
from depthwise.graph.interpret import interpret
from depthwise.graph.show import show

__all__ = [
    "Constant",
    "Graph",
    "Node",
    "Output",
    "Shape",
    "TensorType",
    "Unsupported",
    "capture",
    "check",
    "export",
    "interpret",
    "show",
    "supported",
    "trace",
]
