"""The network on its way through the stages: each gets what the one before it handed on."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from depthwise.graph import show
from depthwise.sources.source import Source
from depthwise.weights import Preprocessing, imagenet_preprocessing


@dataclass(frozen=True, eq=False)
class CurrentNetwork:
    """A network as a stage gets it, and what is known of its weights and classes.

    What follows from it is computed once. So a stage that changes the network leaves this one and
    its module as they are, and hands on another, with another source.

    Attributes:
        source: The network itself, with its weights and the shapes of its inputs.
        untrained: Whether its weights are random.
        labels: Names of its classes in the order of its outputs, as the user gave them; else empty.
    """

    source: Source
    untrained: bool = False
    labels: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """A hash of the network's operators, shapes and weights."""
        graph = self.source.graph
        found = hashlib.sha256(show(graph).encode())
        for name, constant in graph.constants.items():
            found.update(f"{name} {constant.type}".encode(errors="surrogatepass"))
            if constant.data is not None:
                found.update(constant.data.tobytes())
        return found.hexdigest()

    @property
    def side(self) -> int | None:
        """The pixels along the square colour image that it takes; None where it takes none."""
        match self.source.shapes:
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
        if self.source.pretrained is None:
            return imagenet_preprocessing(self.side)
        return self.source.pretrained.preprocessing.for_side(self.side)
