"""`dw.open`: whatever names or holds a network, as a `Source`."""

import inspect
import sys
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeGuard

from depthwise.escaping import kind_of
from depthwise.graph import NO_KWARGS, Graph
from depthwise.memory import available_bytes
from depthwise.sources.building import build
from depthwise.sources.files import open_file
from depthwise.sources.source import (
    Given,
    Source,
    TorchSource,
    graph_source,
    torch_source,
)
from depthwise.sources.spec import DESCRIBED, FOLDERS, Settings, Spec, join, parse_spec

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    Network = nn.Module | ExportedProgram | Graph | Source | str | PathLike[str]

NONE: Settings = MappingProxyType({})


def open(
    net: "Network", *shapes: Any, kwargs: Mapping[str, Any] = NO_KWARGS, settings: Settings = NONE,
    weights: str | PathLike[str] | None = None, until: str | None = None,
) -> Source:  # fmt: skip
    """Open a network, wherever it comes from, to be compiled, counted or looked at.

    Args:
        net: A name of `dw.list_models()`, timm:NAME, torchvision:NAME, package.module:factory,
            path/file.py:factory, conv:KIND, run:DIRECTORY (what `dw.train` left there),
            slimmed:DIRECTORY (what `dw.slim` left there), quantized:DIRECTORY (`dw.quantize`), or
            the path of a .pt2, .pt (TorchScript), .onnx or .safetensors file (a saved graph); or
            what is open already: a module, an ExportedProgram, a graph.
        shapes: The shape of each input, (N, C, H, W), in the place of the tensors that forward
            takes: a list, dict or dataclass of shapes where it takes one of tensors. For an input
            whose elements are not of the type that the weights have, its type:
            `dw.TensorType((1, 3, 224, 224), "uint8")`. Left out, a network's usual ones. What was
            exported or saved has its own, and an ONNX file takes those that it leaves open.
        kwargs: Those that are given by name, as to torch.export.export: {"mask": (1, 1, 32, 32)};
            here numbers, texts, booleans and None are arguments, too, fixed for every call.
        settings: Options of a network that has a name, by theirs; text is read as on the command
            line.
        weights: "imagenet" (bundled), or the path of a checkpoint, FILE#KEY for one of several
            weights in it; else the network's own, or random ones.
        until: The path of a module, as in `named_modules()`: the network ends with what that
            returns, and nothing after it is looked at. Of what was exported or saved, a value too.

    Raises:
        ValueError: A name, a file, a shape, an option or weights that cannot be used.
    """
    kwargs = _named(kwargs, until)
    if is_file(net):
        _check_built(net, settings, weights)
        return open_file(Path(net), shapes, kwargs, until)
    if isinstance(net, str) and parse_spec(net).front_end in FOLDERS:
        _check_built(net, settings, weights)
        source = _open_folder(parse_spec(net), Given(shapes, kwargs))
    elif isinstance(net, str):
        source = _open_spec(parse_spec(net), Given(shapes, kwargs), settings, weights)
    else:
        _check_built(net, settings, weights)
        source = _open_built(net, Given(shapes, kwargs))
    return source.until(until) if until is not None else source


def describe(
    net: "Network", *shapes: Any, kwargs: Mapping[str, Any] = NO_KWARGS, settings: Settings = NONE,
    until: str | None = None,
) -> Source:  # fmt: skip
    """Open a network to be counted: our own networks and timm's take no memory for weights."""
    kwargs = _named(kwargs, until)
    if not (isinstance(net, str) and parse_spec(net).front_end in DESCRIBED):
        return open(net, *shapes, kwargs=kwargs, settings=settings, until=until)
    source = _describe_spec(parse_spec(net), Given(shapes, kwargs), settings)
    return source.until(until) if until is not None else source


def _named(kwargs: Mapping[str, Any] | None, until: str | None) -> Mapping[str, Any]:
    """Return the inputs given by name, of which None gives none, as to torch.export.export.

    Raises ValueError where these or the module to end with are of another kind.
    """
    if not isinstance(kwargs, Mapping | None):
        raise ValueError(f"kwargs is {kind_of(kwargs)}: give a dict of inputs by their names")
    if not isinstance(until, str | None):
        raise ValueError(f"until is {kind_of(until)}: give the path of a module, as text")
    return kwargs or NO_KWARGS


def is_file(net: "Network") -> TypeGuard[str | PathLike[str]]:
    """Tell whether a network is the path of a file."""
    return isinstance(net, PathLike) or (
        isinstance(net, str) and parse_spec(net).front_end == "file"
    )


def _open_folder(spec: Spec, given: Given) -> Source:
    from depthwise.sources.quantized_folder import open_quantized  # noqa: PLC0415
    from depthwise.sources.run_folder import open_run  # noqa: PLC0415
    from depthwise.sources.slimmed_folder import open_slimmed  # noqa: PLC0415

    opening = {"run": open_run, "slimmed": open_slimmed, "quantized": open_quantized}
    return opening[spec.front_end](Path(spec.name), *given)


def _open_spec(
    spec: Spec, given: Given, settings: Settings, weights: str | PathLike[str] | None
) -> Source:
    if weights and spec.front_end == "ours":
        from depthwise.weights import create_model  # noqa: PLC0415

        usual = check_memory(spec, settings).shapes
        net = create_model(spec.name, weights=weights, **settings)
        return torch_source(net.eval(), *given.or_else(usual))
    if weights == "imagenet":
        raise ValueError(f"{spec.text}: no ImageNet weights of it are bundled: name a checkpoint")
    if settings and spec.front_end in DESCRIBED:
        check_memory(spec, settings)
    source = _build(spec, given, settings)
    if weights:
        from depthwise.weights import load_weights  # noqa: PLC0415

        source.module.loaded_weights = load_weights(source.module, weights)  # type: ignore
    return source


def _describe_spec(spec: Spec, given: Given, settings: Settings) -> TorchSource:
    import torch  # noqa: PLC0415

    with torch.device("meta"):
        return _build(spec, given, settings)


def _build(spec: Spec, given: Given, settings: Settings) -> TorchSource:
    net, usual = build(spec, settings)
    return torch_source(net, *given.or_else([usual]))


def check_memory(spec: Spec, settings: Settings) -> TorchSource:
    """Return a network without its weights; raise ValueError where they do not fit this machine."""
    described = _describe_spec(spec, Given(), settings)
    needed = sum(p.numel() * p.element_size() for p in described.module.parameters())
    memory = available_bytes()
    if needed > memory:
        raise ValueError(
            f"{spec.text} with {join(settings)} has {needed / 1e9:,.1f} GB of weights, and this "
            f"machine {memory / 1e9:,.1f} GB of memory left: ask for less"
        )
    return described


def _check_built(net: "Network", settings: Settings, weights: str | PathLike[str] | None) -> None:
    """Raise ValueError for settings or weights of what is built already."""
    what = net if isinstance(net, str | PathLike) else kind_of(net)
    if weights:
        raise ValueError(f"{what} has its own weights: leave out --weights")
    if settings:
        raise ValueError(f"{what} is built already: it takes no --set {next(iter(settings))}")


def _open_built(net: object, given: Given) -> Source:
    """Return the source of what is no text and no path."""
    if isinstance(net, Source):
        return net.at(*given) if any(given) else net
    if isinstance(net, Graph):
        return graph_source(net, *given)
    if "torch" in sys.modules:  # else nothing of it can have been made
        from torch import nn  # noqa: PLC0415
        from torch.export import ExportedProgram  # noqa: PLC0415

        if isinstance(net, nn.Module | ExportedProgram):
            return torch_source(net, *given)
    call = (
        f"; call it: {net.__name__}()" if inspect.isfunction(net) or isinstance(net, type) else ""
    )
    raise ValueError(
        f"{kind_of(net)} is no network: give a torch.nn.Module, an ExportedProgram, a graph, or "
        f"the name or the file of one{call}"
    )
