"""Products of numbers of unlike types, which PyTorch computes nowhere but where it only counts."""

from collections.abc import Iterable

from torch import fx

from depthwise.graph.dtypes import find_dtype
from depthwise.graph.frontends.torch.origin import where_of

MULTIPLYING = ("aten.conv", "aten.linear", "aten.matmul", "aten.mm", "aten.bmm", "aten.addmm")


def check_products(node: fx.Node, packet: str, dtypes: Iterable[str]) -> None:
    """Raise ValueError for a layer whose input is of another floating type than its weights."""
    if not packet.startswith(MULTIPLYING):
        return
    found = list(dict.fromkeys(d for d in dtypes if find_dtype(d).is_floating))
    if len(found) > 1:
        raise ValueError(
            f"{where_of(node)} multiplies {found[0]} by {found[1]}, for which PyTorch has no "
            f"product: give inputs in the type of the weights (x.to(torch.{found[1]}), or a shape "
            "alone), or convert the network"
        )
