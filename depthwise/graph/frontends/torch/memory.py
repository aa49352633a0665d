"""Where results lie in memory: which of a program's tensors may share elements."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import fx

from depthwise.errors import Unsupported
from depthwise.graph.graph import Constant

# operators that in evaluation return their input itself, though their schema does not say so
PASSING = ("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.type_as")


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


def viewed(node: fx.Node, packet: str) -> Any:
    """Return the node whose memory an operator's result may share, None where it has its own."""
    schema = getattr(node.target, "_schema", None)
    returned = schema is not None and any(value.alias_info for value in schema.returns)
    return node.args[0] if returned or packet in PASSING else None


def keep_data(
    constants: dict[str, Constant], tensors: Mapping[str, torch.Tensor], written: torch.Tensor
) -> None:
    """Let constants in a memory that is about to change keep what operators read of them."""
    at = written.untyped_storage()._cdata
    for name, tensor in tensors.items():
        data = constants[name].data
        if data is not None and tensor.untyped_storage()._cdata == at:
            constants[name] = replace(constants[name], data=data.copy())
