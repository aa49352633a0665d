"""What a text may call a network, and which front end is meant by it: one rule, without guesses.

1. A text that begins with run: is the directory of a run, as `depthwise train` leaves it; one with
   slimmed: that of a slimmed network, as `depthwise slim` leaves it; one with quantized: that of a
   quantised one, of `depthwise quantize`.
2. A text that ends as a file of networks does (.pt2, .pt, .onnx, .safetensors; in capitals, too)
   is the path of one.
3. A text with a colon is FRONT_END:NAME, with timm, torchvision or conv before the last colon; any
   other word there is a module of Python, or a file that ends in .py, and NAME a factory in it.
4. Any other text is the name of a network of ours.

What lies on the disk does not change what a text means: a folder may be called mobilenet_v2, and a
file timm:resnet18. A pathlib.Path always is a file. Of a module that is called run, slimmed or
quantized, a factory is run.py:factory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from depthwise.sources.files import FORMATS

Settings = Mapping[str, Any]

FrontEnd = Literal[
    "file", "ours", "conv", "timm", "torchvision", "factory", "run", "slimmed", "quantized"
]

RUN = "run:"  # what the directory of a run is called a network with
RECORD = "run.json"  # by this file a directory is known as that of a run
SLIMMED = "slimmed:"  # what the directory of a slimmed network is called a network with
SLIMMED_RECORD = "slimmed.json"  # by this file such a directory is known
QUANTIZED = "quantized:"  # what the directory of a quantised network is called a network with
QUANTIZED_RECORD = "quantized.json"  # by this file such a directory is known
PREFIXES: Mapping[str, FrontEnd] = {RUN: "run", SLIMMED: "slimmed", QUANTIZED: "quantized"}

# What holds a whole network as a graph, of which a module is made.
GRAPHS: tuple[FrontEnd, ...] = ("file", "slimmed")

# What has its weights with it, in a directory of its own.
FOLDERS: tuple[FrontEnd, ...] = ("run", "slimmed", "quantized")

# Where networks come from that can be built without memory for their weights.
DESCRIBED: tuple[FrontEnd, ...] = ("ours", "conv", "timm")

# The option that brings weights, of libraries whose networks else have random ones.
BRINGING = {"ours": "", "conv": "", "timm": "pretrained", "torchvision": "weights"}


@dataclass(frozen=True)
class Spec:
    """A text that names a network, taken apart: the front end that is meant, and what it is asked.

    `place` is the module or the file of a factory, empty for the others.
    """

    text: str
    front_end: FrontEnd
    name: str
    place: str = ""


def parse_spec(text: str) -> Spec:
    """Return which front end a text means. Raises ValueError where a word is missing."""
    for prefix, front_end in PREFIXES.items():
        if text.startswith(prefix) and text != prefix:
            return Spec(text, front_end, text.removeprefix(prefix))
    if text.lower().endswith(tuple(FORMATS)):
        return Spec(text, "file", text)
    place, colon, name = text.rpartition(":")
    if not colon and text.endswith(".py"):
        raise ValueError(
            f"{text!r} is a file of Python: name what makes the network in it, as in {text}:factory"
        )
    if not colon:
        if Path(text).name != text:
            accepted = ", ".join(FORMATS)
            raise ValueError(
                f"{text!r} is a path that no front end reads: a network's file ends in {accepted}, "
                f"a factory is path/file.py:factory, a run is {RUN}directory, and a slimmed "
                f"network is {SLIMMED}directory"
            )
        return Spec(text, "ours", text)
    if not (place and name):
        raise ValueError(f"{text!r}: a word is missing beside the colon, as in timm:resnet18")
    match place:
        case "conv" | "timm" | "torchvision":
            return Spec(text, place, name)
    return Spec(text, "factory", name, place)


def run_directory(text: str | PathLike[str]) -> Path:
    """Return the directory that a text names where one is meant, with run: or its like or not."""
    if isinstance(text, str):
        for prefix in PREFIXES:
            text = text.removeprefix(prefix)
    return Path(text)


def is_run(directory: Path) -> bool:
    """Tell whether a directory is that of a run."""
    return (directory / RECORD).is_file()


def is_slimmed(directory: Path) -> bool:
    """Tell whether a directory is that of a slimmed network."""
    return (directory / SLIMMED_RECORD).is_file()


def is_quantized(directory: Path) -> bool:
    """Tell whether a directory is that of a quantised network."""
    return (directory / QUANTIZED_RECORD).is_file()


def is_untrained(text: str, settings: Settings, weights: str | None) -> bool:
    """Tell whether a network has random weights: one of ours or a library's that was given none."""
    brought = BRINGING.get(parse_spec(text).front_end)
    if brought is None or weights:
        return False
    return settings.get(brought, "false") in ("false", "None", False, None)


def join(settings: Settings) -> str:
    """Return settings as a person writes them."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())
