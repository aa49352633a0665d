"""The hub: one small graph that cost, lint, slimming and the compiler all read.

dtypes (element types) - ops and its kin (what there is) - graph (how it hangs together) - infer and
its kin, attributes, check - builder - interpret and its kin (what it means, in NumPy) - show (as
text) - serialize, typed_json, calls (as a file) - resampling (resizing as windows) - rewrite,
passes/ (from graph to graph) - frontends/ (what brings a network in) - exporters/ (what takes it
out).

Nothing here imports PyTorch but frontends/torch, whose functions are imported at first use: a saved
graph is opened, checked, computed and compiled without it.
"""

from typing import TYPE_CHECKING, Any

from depthwise.graph import (  # noqa: F401  (they register operators' types and meanings)
    infer_sampling,
    infer_selection,
    interpret_recurrent,
    interpret_sampling,
    interpret_selection,
    interpret_types,
)
from depthwise.graph.check import check
from depthwise.graph.graph import (
    NO_KWARGS,
    Constant,
    Graph,
    Node,
    Output,
    Shape,
    TensorType,
)
from depthwise.graph.interpret import interpret
from depthwise.graph.show import show
from depthwise.graph.supported import supported

if TYPE_CHECKING:
    from depthwise.graph.frontends.torch.capture import capture, trace
    from depthwise.graph.frontends.torch.export import export
    from depthwise.graph.serialize import open_graph, save_graph

__all__ = [
    "NO_KWARGS",
    "Constant",
    "Graph",
    "Node",
    "Output",
    "Shape",
    "TensorType",
    "capture",
    "check",
    "export",
    "interpret",
    "open_graph",
    "save_graph",
    "show",
    "supported",
    "trace",
]

# what needs PyTorch or safetensors: a library is run without them
_LATER = {
    "capture": "frontends.torch.capture",
    "export": "frontends.torch.export",
    "open_graph": "serialize",
    "save_graph": "serialize",
    "trace": "frontends.torch.capture",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"depthwise.graph.{_LATER[name]}"), name)
