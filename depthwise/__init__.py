"""Small convolutional networks, from idea to device."""

TYPE_CHECKING = False  # as typing's, which takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from depthwise.analysis import Cost, Finding
    from depthwise.analysis.lint import lint
    from depthwise.compiler.options import CompileOptions
    from depthwise.compiler.pipeline import compile_graph
    from depthwise.compiler.preparation import Preparation
    from depthwise.errors import (
        BuildError,
        CannotRun,
        DepthwiseError,
        Mismatch,
        PlanFault,
        RunError,
        Unsupported,
    )
    from depthwise.families.registry import list_models
    from depthwise.graph import TensorType, open_graph, save_graph
    from depthwise.hardware import Machine
    from depthwise.latency.predict import cost
    from depthwise.precision.compiling import compile
    from depthwise.precision.options import QuantizationOptions
    from depthwise.precision.quantize import quantize
    from depthwise.precision.quantized import Quantized
    from depthwise.quantization.simulation import simulate
    from depthwise.runtime.library import Library, load
    from depthwise.slimming.budget import Budget
    from depthwise.slimming.request import SlimmingOptions
    from depthwise.slimming.slim import slim
    from depthwise.slimming.slimmed import Slimmed
    from depthwise.sources.exporting import export_onnx
    from depthwise.sources.opening import open
    from depthwise.sources.source import Source
    from depthwise.training import Recipe, Run, resume, train
    from depthwise.training.judging import evaluate
    from depthwise.weights import create_model, load_weights

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "BuildError",
    "CannotRun",
    "CompileOptions",
    "Cost",
    "DepthwiseError",
    "Finding",
    "Library",
    "Machine",
    "Mismatch",
    "PlanFault",
    "Preparation",
    "QuantizationOptions",
    "Quantized",
    "Recipe",
    "Run",
    "RunError",
    "Slimmed",
    "SlimmingOptions",
    "Source",
    "TensorType",
    "Unsupported",
    "compile",
    "compile_graph",
    "cost",
    "create_model",
    "evaluate",
    "export_onnx",
    "lint",
    "list_models",
    "load",
    "load_weights",
    "open",
    "open_graph",
    "quantize",
    "resume",
    "save_graph",
    "simulate",
    "slim",
    "train",
]

# Public name -> the module that holds it, imported at first use: the command line must not wait
# for torch to print its help.
_HOMES = {
    "Budget": "depthwise.slimming.budget",
    "BuildError": "depthwise.errors",
    "CannotRun": "depthwise.errors",
    "CompileOptions": "depthwise.compiler.options",
    "Cost": "depthwise.analysis",
    "DepthwiseError": "depthwise.errors",
    "Finding": "depthwise.analysis",
    "Library": "depthwise.runtime.library",
    "Machine": "depthwise.hardware",
    "Mismatch": "depthwise.errors",
    "PlanFault": "depthwise.errors",
    "Preparation": "depthwise.compiler.preparation",
    "QuantizationOptions": "depthwise.precision.options",
    "Quantized": "depthwise.precision.quantized",
    "Recipe": "depthwise.training",
    "Run": "depthwise.training",
    "RunError": "depthwise.errors",
    "Slimmed": "depthwise.slimming.slimmed",
    "SlimmingOptions": "depthwise.slimming.request",
    "Source": "depthwise.sources.source",
    "TensorType": "depthwise.graph",
    "Unsupported": "depthwise.errors",
    "create_model": "depthwise.weights",
    "compile": "depthwise.precision.compiling",
    "compile_graph": "depthwise.compiler.pipeline",
    "cost": "depthwise.latency.predict",
    "evaluate": "depthwise.training.judging",
    "export_onnx": "depthwise.sources.exporting",
    "lint": "depthwise.analysis",
    "list_models": "depthwise.families",
    "load": "depthwise.runtime.library",
    "load_weights": "depthwise.weights",
    "open": "depthwise.sources.opening",
    "open_graph": "depthwise.graph",
    "quantize": "depthwise.precision.quantize",
    "resume": "depthwise.training",
    "save_graph": "depthwise.graph",
    "simulate": "depthwise.quantization.simulation",
    "slim": "depthwise.slimming.slim",
    "train": "depthwise.training",
}


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'depthwise' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
