"""How the values of a graph are stored: in whose buffer, with what border, over which other."""

from collections.abc import Mapping
from dataclasses import dataclass

from depthwise.compiler.lowering.views import PaddedLayout
from depthwise.compiler.schedule.aliases import Alias, find_aliases
from depthwise.compiler.schedule.borders import NO_BORDER, find_borders
from depthwise.compiler.schedule.in_place import find_overwriting
from depthwise.graph import Graph, TensorType
from depthwise.graph.dtypes import FLOAT32, DType
from depthwise.graph.ops import Padding

# Pixels that lie a multiple of 512 bytes apart meet in few sets of the first cache: a 3x3 depthwise
# convolution of 14x14x512 ran at 26 % of the multiply-add peak, with 16 floats between at 83 %.
CROWDED, APART = 512, 64  # bytes


@dataclass(frozen=True)
class Storage:
    """What is decided of all values before any is lowered.

    `aliases` are of values of rank 4, `borders` of their roots, and the nodes in `overwriting` may
    write over their first input.
    """

    aliases: Mapping[str, Alias]
    borders: Mapping[str, Padding]
    overwriting: frozenset[str]

    def is_free(self, name: str) -> bool:
        """Tell whether a value may lie anywhere: no concatenation holds it, no border is needed."""
        alias = self.aliases.get(name)
        return alias is None or (alias.root == name and not any(self.borders.get(name, NO_BORDER)))

    def layout(self, root: str, type: TensorType) -> PaddedLayout:
        """Return how the images of a root lie in its buffer."""
        _, channels, height, width = type.shape
        pixel = pixel_stride(channels, height * width, type.element)
        return PaddedLayout(type.shape, pixel, self.borders.get(root, NO_BORDER))


def plan_storage(graph: Graph) -> Storage:
    """Return how the values of a rewritten graph are stored."""
    aliases = find_aliases(graph)
    borders = find_borders(graph, aliases)
    return Storage(aliases, borders, find_overwriting(graph, aliases, borders))


def pixel_stride(channels: int, pixels: int, element: DType = FLOAT32) -> int:
    """Return how many elements apart the pixels of an image with `channels` lie."""
    crowded = channels * element.bytes % CROWDED == 0 and pixels > 1
    return channels + APART // element.bytes if crowded else channels
