"""What is given on the command line, read: options of networks, shapes, places."""

from math import prod
from pathlib import Path
from typing import Any

from depthwise.escaping import in_file_name

Shape = tuple[int, ...]  # N, C, H, W
GivenShapes = tuple[tuple[Any, ...], dict[str, Any]]  # by position, and by name

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


def parse_shapes(texts: list[str] | None) -> GivenShapes:
    """Return the shapes of repeated `--shape 1,3,224,224`, and of `--shape NAME=1,16:int64`."""
    shapes: list[Any] = []
    named: dict[str, Any] = {}
    for text in texts or []:
        name, equals, sizes = text.rpartition("=")
        shape = _parse_shape(text, sizes)
        if not equals:
            shapes.append(shape)
        elif not name or name in named:
            found = f"{name} has a shape already" if name else "no name before the ="
            raise ValueError(f"--shape {text}: {found}; one for each input, NAME=1,3,224,224")
        else:
            named[name] = shape
    return tuple(shapes), named


def _parse_shape(text: str, written: str) -> Any:
    """Return a shape, with its element type where one is written: 1,16:int64."""
    written, colon, dtype = written.partition(":")
    sizes = [size.strip().lstrip("0") for size in written.split(",")]
    if not all(size.isdecimal() for size in sizes):
        raise ValueError(
            f"--shape {text}: expected whole numbers of 1 or more, as in --shape 1,3,224,224"
        )
    shape = tuple(int(size[:DIGITS]) for size in sizes)
    check_elements(f"--shape {text}", shape)
    if not colon:
        return shape
    from depthwise.graph import TensorType  # noqa: PLC0415  (which needs NumPy)

    try:
        return TensorType(shape, dtype)
    except ValueError as error:
        raise ValueError(f"--shape {text}: {error}") from None


def check_elements(option: str, shape: Shape) -> None:
    """Raise ValueError for a shape of more elements than can be counted with."""
    if prod(shape) > MOST_ELEMENTS:
        raise ValueError(
            f"{option}: more elements than any machine holds, of which at most {MOST_ELEMENTS:,} "
            "are counted with"
        )


def default_directory(network: str, target: str) -> Path:
    """Return where a network's library is saved unless --out names another place."""
    return Path(f"{in_file_name(network)}-{target}")
