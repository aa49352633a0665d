"""What is asked for: a network with its weights, how to build it, and images to look at."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

from torch import nn
from torch.export import ExportedProgram

from depthwise.compiler.options import CompileOptions
from depthwise.graph import Graph, Shape, capture, show
from depthwise.sources.source import torch_source
from depthwise.weights import Preprocessing, Pretrained, find_pretrained, imagenet_preprocessing

MOST_IMAGES = 16  # that are looked at: each is verified layer by layer, which takes a second
SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif", ".avif", ".jp2",
    ".j2k", ".mpo",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class NetworkSource:
    """A network as it is called, its options and weights, and what they build.

    `weights` is empty for the network's own, `untrained` tells that these are random; `labels`
    are names of its classes that the user gave, where there are any.
    """

    network: str
    settings: dict[str, str]
    weights: str
    untrained: bool
    net: nn.Module | ExportedProgram
    shapes: tuple[Shape, ...]
    labels: tuple[str, ...] = ()

    @cached_property
    def program(self) -> ExportedProgram:
        """The network as torch.export sees it."""
        return torch_source(self.net, self.shapes).program

    @cached_property
    def graph(self) -> Graph:
        """The network as our graph. Raises Unsupported where it cannot be compiled."""
        return capture(self.program)

    @cached_property
    def digest(self) -> str:
        """A hash of the network's operators, shapes and weights."""
        found = hashlib.sha256(show(self.graph).encode())
        for name, constant in self.graph.constants.items():
            found.update(f"{name} {constant.type}".encode(errors="surrogatepass"))
            if constant.data is not None:
                found.update(constant.data.tobytes())
        return found.hexdigest()

    @property
    def pretrained(self) -> Pretrained | None:
        """What the weights say of themselves; None where they record nothing."""
        return find_pretrained(self.net)

    @property
    def side(self) -> int | None:
        """The pixels of the square colour image that it takes; None where it takes none."""
        match self.shapes:
            case ((1, 3, height, width),) if height == width:
                return height
        return None

    @cached_property
    def preprocessing(self) -> Preprocessing | None:
        """How a photograph becomes its input: as its weights say, else ImageNet's usual way.

        For other sizes than the weights' both sizes are scaled. None where it takes no image.
        """
        if self.side is None:
            return None
        if self.pretrained is None:
            return imagenet_preprocessing(self.side)
        return self.pretrained.preprocessing.for_side(self.side)


@dataclass(frozen=True, eq=False)
class Order:
    """One call of `depthwise ship`: everything that a stage may ask for.

    `images` are those that are looked at, of which `left_out` more were found; `broken` says why
    others cannot be read; `command` is how a person would ask for the same again.
    """

    source: NetworkSource
    build: CompileOptions
    directory: Path
    command: str
    images: tuple[Path, ...] = ()
    left_out: int = 0
    broken: tuple[str, ...] = ()
    rounds: int = 5


def list_images(folder: Path) -> list[Path]:
    """Return the images in a folder and in its folders, by name: one of each folder in turn."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    groups = (
        sorted(each for each in place.iterdir() if each.suffix.lower() in SUFFIXES)
        for place in (folder, *inside)
    )
    return [path for turn in zip_longest(*groups) for path in turn if path and not path.is_dir()]


def find_images(folder: Path) -> tuple[tuple[Path, ...], int]:
    """Return the first images of a folder, as `list_images` orders them, and how many more.

    Raises ValueError where there is no folder or no image in it.
    """
    if not folder.is_dir():
        raise ValueError(f"--images {folder}: no such folder")
    found = list_images(folder)
    if not found:
        raise ValueError(f"--images {folder}: no image in it, of {', '.join(SUFFIXES)}")
    return tuple(found[:MOST_IMAGES]), max(0, len(found) - MOST_IMAGES)
