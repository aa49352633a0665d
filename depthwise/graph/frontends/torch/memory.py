"""Where results lie in memory: which of a program's tensors may share elements."""

from typing import NamedTuple

from torch import fx

from depthwise.errors import Unsupported


class WrittenView(Unsupported):
    """The program writes into a part of a tensor that is read afterwards: see `functional`."""


class MemoryRegion(NamedTuple):
    """Where a result lies: in memory that `owner` got, in which pieces of which splits of it."""

    owner: fx.Node
    pieces: tuple[tuple[fx.Node, int], ...] = ()

    def piece(self, split: fx.Node, index: int) -> "MemoryRegion":
        """Return where one of the results of `split` lies."""
        return MemoryRegion(self.owner, (*self.pieces, (split, index)))

    def overlaps(self, other: "MemoryRegion") -> bool:
        """Tell whether two results may share elements; pieces of one split do not."""
        if self.owner is not other.owner:
            return False
        pairs = zip(self.pieces, other.pieces, strict=False)
        first = next(((mine, its) for mine, its in pairs if mine != its), None)
        return first is None or first[0][0] is not first[1][0]
