"""How the values of a graph are stored: in whose buffer, with what border, over which other."""

from collections.abc import Mapping
from dataclasses import dataclass

from depthwise.compiler.lowering.views import PaddedLayout
from depthwise.compiler.schedule.aliases import Alias, find_aliases
from depthwise.compiler.schedule.borders import find_border_values, find_borders
from depthwise.compiler.schedule.in_place import find_overwriting
from depthwise.graph import Graph, TensorType
from depthwise.graph.dtypes import FLOAT32, DType
from depthwise.graph.ops import NO_PADDING, Padding

# Pixels that lie a multiple of 512 bytes apart meet in few sets of the first cache: a 3x3 depthwise
# convolution of 14x14x512 ran at 26 % of the multiply-add peak, with 16 floats between at 83 %.
CROWDED, APART = 512, 64  # bytes
FOUR = 4


@dataclass(frozen=True)
class Storage:
    """What is decided of all values before any is lowered.

    `aliases` are of values of rank 4, `borders` of their roots, with `border_values` in them where
    these are bytes, and the nodes in `overwriting` may write over their first input.
    """

    aliases: Mapping[str, Alias]
    borders: Mapping[str, Padding]
    overwriting: frozenset[str]
    border_values: Mapping[str, int]

    def is_free(self, name: str) -> bool:
        """Tell whether a value may lie anywhere: no concatenation holds it, no border is needed."""
        alias = self.aliases.get(name)
        return alias is None or (alias.root == name and not any(self.borders.get(name, NO_PADDING)))

    def layout(self, root: str, type: TensorType) -> PaddedLayout:
        """Return how the images of a root lie in its buffer."""
        _, channels, height, width = type.shape
        pixel = pixel_stride(channels, height * width, type.element)
        border, value = self.borders.get(root, NO_PADDING), self.border_values.get(root, 0)
        return PaddedLayout(type.shape, pixel, border, value)


def plan_storage(graph: Graph) -> Storage:
    """Return how the values of a rewritten graph are stored."""
    aliases = find_aliases(graph)
    borders = find_borders(graph, aliases)
    overwriting = find_overwriting(graph, aliases, borders)
    return Storage(aliases, borders, overwriting, find_border_values(graph, aliases))


def pixel_stride(channels: int, pixels: int, element: DType = FLOAT32) -> int:
    """Return how many elements apart the pixels of an image with `channels` lie.

    Few bytes have room for four, which a convolution reads at once.
    """
    if element.bytes == 1 and channels < FOUR:
        return FOUR
    crowded = channels * element.bytes % CROWDED == 0 and pixels > 1
    return channels + APART // element.bytes if crowded else channels
