"""What a network may be called on the command line, and how it is found."""

import ast
import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthwise.cli.users_code import describe as describe_error
from depthwise.cli.users_code import running
from depthwise.escaping import in_file_name

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from depthwise.families.registry import Entry

    Net = nn.Module | ExportedProgram

Shape = tuple[int, ...]  # N, C, H, W

DESCRIBED = ("", "conv", "timm")  # where networks come from that can be built without memory
MOST_ELEMENTS = 2**40  # of an input: 4 TB, so that 64 bits count what layers make of it
DIGITS = 20  # of a number that is read: more say no more than that it is too large


def parse_settings(settings: list[str] | None) -> dict[str, str]:
    """Return {name: value} of repeated `--set name=value`."""
    options: dict[str, str] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--set {setting}: expected name=value, as in --set width=0.5")
        if name in options:
            raise ValueError(f"--set {setting}: {name} is already set to {options[name]}")
        options[name] = value
    return options


def parse_shapes(texts: list[str] | None) -> tuple[Shape, ...]:
    """Return the shapes of repeated `--shape 1,3,224,224`."""
    shapes = []
    for text in texts or []:
        sizes = [size.strip().lstrip("0") for size in text.split(",")]
        if not all(size.isdecimal() for size in sizes):
            raise ValueError(f"--shape {text}: expected whole numbers, as in --shape 1,3,224,224")
        shape = tuple(int(size[:DIGITS]) for size in sizes)
        check_elements(f"--shape {text}", shape)
        shapes.append(shape)
    return tuple(shapes)


def check_elements(option: str, shape: Shape) -> None:
    """Raise ValueError for a shape of more elements than can be counted with."""
    if prod(shape) > MOST_ELEMENTS:
        raise ValueError(
            f"{option}: more elements than any machine holds, of which at most {MOST_ELEMENTS:,} "
            "are counted with"
        )


def default_directory(network: str, target: str) -> Path:
    """Return where a network's library is saved unless another place is named."""
    return Path(f"{in_file_name(network)}-{target}")


def is_untrained(network: str, options: dict[str, str], weights: str | None) -> bool:
    """Tell whether a network has random weights: one of ours or a library's that was given none."""
    kind = network.rpartition(":")[0]
    brought = {"timm": "pretrained", "torchvision": "weights"}.get(kind, "")
    known = not network.endswith(".pt2") and kind in ("", "conv", "timm", "torchvision")
    return known and not weights and options.get(brought, "false") in ("false", "None")


def open_network(
    network: str, options: dict[str, str], weights: str | None, shapes: tuple[Shape, ...]
) -> "tuple[Net, tuple[Shape, ...]]":
    """Return the network with its weights, and the shapes that are asked for, else its usual one.

    Raises ValueError for what cannot be used, or a combination that makes no sense.
    """
    if shapes and network.endswith(".pt2"):
        raise ValueError(f"{network} was exported for its own shapes: leave out --shape")
    if not weights:
        net, usual = resolve(network, options)
        return net, shapes or (usual,)
    if network.endswith(".pt2"):
        raise ValueError(f"{network} was exported with its weights: leave out --weights")
    if ":" in network:
        if weights == "imagenet":
            raise ValueError(f"{network}: no ImageNet weights of it are bundled: name a checkpoint")
        return _with_checkpoint(network, options, weights, shapes)
    from depthwise.weights import create_model  # noqa: PLC0415

    _, usual = check_memory(network, options)
    return create_model(network, weights=weights, **options).eval(), shapes or (usual,)


def _with_checkpoint(
    network: str, options: dict[str, str], weights: str, shapes: tuple[Shape, ...]
) -> "tuple[Net, tuple[Shape, ...]]":
    from torch import nn  # noqa: PLC0415

    from depthwise.weights import load_weights  # noqa: PLC0415

    net, usual = resolve(network, options)
    assert isinstance(net, nn.Module)
    load_weights(net, weights)
    return net, shapes or (usual,)


def describe(spec: str, options: dict[str, str]) -> "tuple[Net, Shape]":
    """Return what `resolve` does, our own networks and timm's without memory for their weights."""
    import torch  # noqa: PLC0415

    with torch.device("meta") if spec.rpartition(":")[0] in DESCRIBED else nullcontext():
        return resolve(spec, options)


def resolve(spec: str, options: dict[str, str]) -> "tuple[Net, Shape]":
    """Return the network that `spec` names, built with `options`, and the input shape it is for.

    Networks come in eval mode with random weights (a .pt2 file with its own). Raises ValueError
    for a name, an option or a file that cannot be used.
    """
    import torch  # noqa: PLC0415

    if spec.endswith(".pt2"):
        return _exported(Path(spec), options)
    kind, colon, name = spec.rpartition(":")
    if options and kind in DESCRIBED and torch.get_default_device().type != "meta":
        check_memory(spec, options)
    if not colon:
        return _registered(spec, options)
    if not (kind and name):
        raise ValueError(f"{spec!r}: a word is missing beside the colon, as in timm:resnet18")
    match kind:
        case "conv":
            from depthwise.families.single import CONVOLUTIONS  # noqa: PLC0415

            return _construct(CONVOLUTIONS.find(name), options)
        case "timm":
            return _timm(name, options)
        case "torchvision":
            return _torchvision(name, options)
        case _:
            net = _call(spec, _factory(kind, name), options)
            return net.eval(), (1, 3, 224, 224)


def _registered(name: str, options: dict[str, str]) -> "tuple[Net, Shape]":
    from depthwise.families import find_network  # noqa: PLC0415

    try:
        entry = find_network(name)
    except ValueError as error:
        raise ValueError(f"{error}; elsewhere: timm:{name}, torchvision:{name}") from None
    return _construct(entry, options)


def _construct(entry: "Entry", options: dict[str, str]) -> "tuple[Net, Shape]":
    with _settable(entry.name, options):
        net = entry.construct(**options).eval()
    channels = entry.options["in_channels"].default
    if "in_channels" in options:
        channels = entry.parse("in_channels", options["in_channels"])
    return net, (1, channels, entry.resolution, entry.resolution)


@contextmanager
def _settable(name: str, options: dict[str, str]) -> Iterator[None]:
    """Raise ValueError where options, with large numbers above all, make what cannot be built."""
    try:
        yield
    except (ArithmeticError, MemoryError, RuntimeError, TypeError) as error:
        if not options:
            raise
        reason = describe_error(error)
        raise ValueError(f"{name} cannot be built with {_join(options)}: {reason}") from error


def check_memory(spec: str, options: dict[str, str]) -> "tuple[Net, Shape]":
    """Return what `describe` does; raise ValueError where its weights do not fit this machine."""
    from depthwise.compiler.verification.capacity import available_bytes  # noqa: PLC0415

    net, usual = describe(spec, options)
    needed = sum(p.numel() * p.element_size() for p in net.parameters())  # type: ignore[union-attr]
    memory = available_bytes()
    if needed > memory:
        raise ValueError(
            f"{spec} with {_join(options)} has {needed / 1e9:,.1f} GB of weights, and this machine "
            f"{memory / 1e9:,.1f} GB of memory left: ask for less"
        )
    return net, usual


def _join(options: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _timm(name: str, options: dict[str, str]) -> "tuple[Net, Shape]":
    try:
        import timm  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ValueError(f"timm:{name} needs timm: pip install timm") from None
    _check_listed("timm", name, timm.list_models())
    net = _call(f"timm:{name}", timm.create_model, options, name)
    channels, height, width = net.pretrained_cfg["input_size"]  # type: ignore[index]
    return net.eval(), (1, _literal(options.get("in_chans", str(channels))), height, width)


def _torchvision(name: str, options: dict[str, str]) -> "tuple[Net, Shape]":
    from torchvision import models  # noqa: PLC0415

    _check_listed("torchvision", name, models.list_models())
    with warnings.catch_warnings(action="ignore"):  # of the initial weights' coming change
        net = _call(f"torchvision:{name}", models.get_model, options, name)
    weights = list(models.get_model_weights(name))
    crop = getattr(weights[0].transforms(), "crop_size", [224]) if weights else [224]
    return net.eval(), (1, 3, crop[0], crop[0])


def _check_listed(library: str, name: str, known: list[str]) -> None:
    from depthwise.families.registry import nearest  # noqa: PLC0415

    if name not in known:
        raise ValueError(f"{library} has no network {name!r}: {nearest(name, known)}")


def _factory(place: str, name: str) -> Any:
    """Import `name` from a module, or from a file that ends in .py."""
    from depthwise.families.registry import nearest  # noqa: PLC0415

    path = Path(place)
    folder = path.parent if path.suffix == ".py" else Path()
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))  # as `python file.py` and `python -m` do
    if path.suffix == ".py":
        if not path.is_file():
            raise ValueError(f"no file at {path}")
        # not under its own stem, which may be the name of a library
        module_spec = importlib.util.spec_from_file_location(f"_depthwise_{path.stem}", path)
        assert module_spec is not None
        assert module_spec.loader is not None
        module = sys.modules[module_spec.name] = importlib.util.module_from_spec(module_spec)
        with running(f"{place}:{name}"):
            module_spec.loader.exec_module(module)
    else:
        module = _import_module(place, name)
    if not hasattr(module, name):
        found = [key for key, value in vars(module).items() if callable(value)]
        raise ValueError(f"{place} has no {name!r}: {nearest(name, found)}")
    return getattr(module, name)


def _import_module(place: str, name: str) -> Any:
    try:
        with running(f"{place}:{name}"):
            return importlib.import_module(place)
    except ValueError as error:
        missing = getattr(error.__cause__, "name", None)
        if not (missing and isinstance(error.__cause__, ModuleNotFoundError)):
            raise
        if not f"{place}.".startswith(f"{missing}."):
            raise  # the module is there, and imports one that is not
        raise ValueError(
            f"{place}:{name}: no module named {missing!r}; a factory is "
            "package.module:factory or path/file.py:factory"
        ) from None


def _call(spec: str, factory: Callable[..., Any], options: dict[str, str], *arguments: str) -> Any:
    """Return the module that `factory` builds; its options are read as Python's literals."""
    from torch import nn  # noqa: PLC0415

    if isinstance(factory, nn.Module) and not options:
        return factory
    if not callable(factory) or isinstance(factory, nn.Module):
        raise ValueError(
            f"{spec} is of type {type(factory).__name__}: expected a function or class"
            " that returns a torch.nn.Module, or one without options"
        )
    values = {name: _literal(value) for name, value in options.items()}
    try:
        inspect.signature(factory).bind(*arguments, **values)
    except TypeError as error:
        raise ValueError(f"{spec}: {error}") from None
    with running(f"{spec} cannot be built{' with ' if options else ''}{_join(options)}"):
        net = factory(*arguments, **values)
    if not isinstance(net, nn.Module):
        raise ValueError(f"{spec} returned {type(net).__name__}: expected a torch.nn.Module")
    return net


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: very deep
        return text


def _exported(path: Path, options: dict[str, str]) -> "tuple[Net, Shape]":
    from depthwise.graph.frontends.torch.pt2 import load_program  # noqa: PLC0415

    if options:
        raise ValueError(f"{path} is built already: it takes no --set {next(iter(options))}")
    program = load_program(path)
    arguments = program.example_inputs[0] if program.example_inputs else ()
    if not arguments:
        raise ValueError(f"{path} holds no example input, so its shape is not known")
    return program, tuple(arguments[0].shape)
