"""Networks of a user's own code: a function or a class, in a module or in a file."""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthwise.errors import nearest
from depthwise.sources.spec import Settings, Spec, join
from depthwise.users_code import running

if TYPE_CHECKING:
    from torch import nn

    from depthwise.graph import Shape

USUAL = (1, 3, 224, 224)  # the input of a network that does not say what it is for


def build_from_factory(spec: Spec, settings: Settings) -> "tuple[nn.Module, Shape]":
    """Return what a factory builds, and ImageNet's usual shape."""
    return call(spec, _find(spec), settings).eval(), USUAL


def call(
    spec: Spec, factory: Callable[..., Any], settings: Settings, *arguments: str
) -> "nn.Module":
    """Return the module that `factory` builds; settings in text are read as Python's literals."""
    from torch import nn  # noqa: PLC0415

    if isinstance(factory, nn.Module) and not settings:
        return factory
    if not callable(factory) or isinstance(factory, nn.Module):
        raise ValueError(
            f"{spec.text} is of type {type(factory).__name__}: expected a function or class"
            " that returns a torch.nn.Module, or one without options"
        )
    values = {name: literal(value) for name, value in settings.items()}
    try:
        inspect.signature(factory).bind(*arguments, **values)
    except TypeError as error:
        raise ValueError(f"{spec.text}: {error}") from None
    with running(f"{spec.text} cannot be built{' with ' if settings else ''}{join(settings)}"):
        net = factory(*arguments, **values)
    if not isinstance(net, nn.Module):
        raise ValueError(f"{spec.text} returned {type(net).__name__}: expected a torch.nn.Module")
    return net


def literal(value: Any) -> Any:
    """Return what a text means as a literal of Python, else the text; other values as they are."""
    if not isinstance(value, str):
        return value
    if value in ("true", "false"):
        return value == "true"
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: very deep
        return value


def _find(spec: Spec) -> Any:
    """Return what a module, or a file that ends in .py, has under a name."""
    path = Path(spec.place)
    folder = path.parent if path.suffix == ".py" else Path()
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))  # as `python file.py` and `python -m` do
    module = _import_file(path, spec) if path.suffix == ".py" else _import_module(spec)
    if not hasattr(module, spec.name):
        found = [key for key, value in vars(module).items() if callable(value)]
        raise ValueError(f"{spec.place} has no {spec.name!r}: {nearest(spec.name, found)}")
    return getattr(module, spec.name)


def _import_file(path: Path, spec: Spec) -> Any:
    if not path.is_file():
        raise ValueError(f"no file at {path}")
    # not under its own stem, which may be the name of a library
    module_spec = importlib.util.spec_from_file_location(f"_depthwise_{path.stem}", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = sys.modules[module_spec.name] = importlib.util.module_from_spec(module_spec)
    with running(spec.text):
        module_spec.loader.exec_module(module)
    return module


def _import_module(spec: Spec) -> Any:
    try:
        with running(spec.text):
            return importlib.import_module(spec.place)
    except ValueError as error:
        missing = getattr(error.__cause__, "name", None)
        if not (missing and isinstance(error.__cause__, ModuleNotFoundError)):
            raise
        if not f"{spec.place}.".startswith(f"{missing}."):
            raise  # the module is there, and imports one that is not
        raise ValueError(
            f"{spec.text}: no module named {missing!r}; a factory is "
            "package.module:factory or path/file.py:factory"
        ) from None
