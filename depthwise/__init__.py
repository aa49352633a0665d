"""Small convolutional networks, from idea to device."""

TYPE_CHECKING = False  # as typing's, which takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from depthwise.analysis import lint
    from depthwise.compiler.pipeline import compile
    from depthwise.compiler.preparation import Preparation
    from depthwise.families.registry import list_models
    from depthwise.graph import Unsupported
    from depthwise.latency.predict import cost
    from depthwise.runtime.library import load
    from depthwise.weights import create_model, load_weights

__version__ = "0.1.0"

__all__ = [
    "Preparation",
    "Unsupported",
    "compile",
    "cost",
    "create_model",
    "lint",
    "list_models",
    "load",
    "load_weights",
]

# Public name -> the module that holds it, imported at first use: the command line must not wait
# for torch to print its help.
_HOMES = {
    "Preparation": "depthwise.compiler.preparation",
    "Unsupported": "depthwise.graph",
    "create_model": "depthwise.weights",
    "compile": "depthwise.compiler.pipeline",
    "cost": "depthwise.latency.predict",
    "lint": "depthwise.analysis",
    "load": "depthwise.runtime.library",
    "load_weights": "depthwise.weights",
    "list_models": "depthwise.families",
}


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'depthwise' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
