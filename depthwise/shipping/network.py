"""The network on its way through the stages: each gets what the one before it handed on."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import nn
from torch.export import ExportedProgram

from depthwise.compiler.pipeline import open_program
from depthwise.graph import Graph, Shape, capture, show
from depthwise.weights import Preprocessing, Pretrained, find_pretrained, imagenet_preprocessing


@dataclass(frozen=True, eq=False)
class Network:
    """A network, fixed to the shapes of its inputs, and what is known of its weights and classes.

    What follows from it is computed once. So a stage that changes the network leaves this one and
    its module as they are, and hands on another, made of another module.

    Attributes:
        net: The module or exported program.
        shapes: The shapes of its inputs, (N, C, H, W) for images.
        untrained: Whether its weights are random.
        labels: Names of its classes in the order of its outputs, as the user gave them; else empty.
    """

    net: nn.Module | ExportedProgram
    shapes: tuple[Shape, ...]
    untrained: bool = False
    labels: tuple[str, ...] = ()

    @cached_property
    def program(self) -> ExportedProgram:
        """The network as torch.export sees it."""
        return open_program(self.net, self.shapes)

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
        """What the weights record of themselves; None where they record nothing."""
        return find_pretrained(self.net)

    @property
    def side(self) -> int | None:
        """The pixels along the square colour image that it takes; None where it takes none."""
        match self.shapes:
            case ((1, 3, height, width),) if height == width:
                return height
        return None

    @cached_property
    def preprocessing(self) -> Preprocessing | None:
        """How a photograph becomes its input: as its weights record, else ImageNet's usual way.

        For another size than the weights' the resizing and the crop are scaled alike. None where
        the network takes no image.
        """
        if self.side is None:
            return None
        if self.pretrained is None:
            return imagenet_preprocessing(self.side)
        return self.pretrained.preprocessing.for_side(self.side)
