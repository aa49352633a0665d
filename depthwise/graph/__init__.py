"""The hub: one small graph that cost, lint, slimming and the compiler all read.

dtypes (element types) - ops (what there is) - graph (how it hangs together) - infer, check -
builder - interpret, interpret_sampling (what it means, in NumPy) - show (as text) - rewrite,
passes/ (from graph to graph) - frontends/ (what brings a network in).

Nothing here imports PyTorch but frontends/torch, whose functions are imported at first use.
"""

from typing import TYPE_CHECKING, Any

from depthwise.graph import interpret_sampling  # noqa: F401  (it registers operators' meanings)
from depthwise.graph.check import check
from depthwise.graph.graph import Constant, Graph, Node, Output, Shape, TensorType, Unsupported
from depthwise.graph.interpret import interpret
from depthwise.graph.show import show

if TYPE_CHECKING:
    from depthwise.graph.frontends.torch.capture import capture, trace
    from depthwise.graph.frontends.torch.export import export
    from depthwise.graph.frontends.torch.failure import supported

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

_FROM_TORCH = {"capture": "capture", "trace": "capture", "export": "export", "supported": "failure"}


def __getattr__(name: str) -> Any:
    if name not in _FROM_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"depthwise.graph.frontends.torch.{_FROM_TORCH[name]}"), name)
