"""The accuracy that papers and public checkpoints state, beside what we count.

What is stated stands in depthwise/data/published.csv, each figure with its source; what a network
costs does not: it is counted.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from depthwise.analysis.count import CONVENTION
from depthwise.analysis.fitted import Column, FittedTable
from depthwise.analysis.units import in_units

if TYPE_CHECKING:
    from torch import Tensor, nn

COLUMNS = (
    Column("network", kind="name", least=20, most=31),
    Column("params", 2),
    Column("MACs"),
    Column("pixels"),
    Column("top-1 %, and who states it", kind="text", least=30),
)


@dataclass(frozen=True)
class Accuracy:
    """The top-1 accuracy in percent that a source states, to the digits that it gives.

    `source` is a paper, or the library of a public checkpoint and its name there.
    """

    top1: Decimal
    source: str

    def __str__(self) -> str:
        return f"{self.top1!s:<7}{self.source}"


class Counts(NamedTuple):
    """What a network has and does at one resolution."""

    params: int
    macs: int


@dataclass(frozen=True)
class Published:
    """A network at one resolution, with the accuracies that are stated of it.

    Attributes:
        network: One of `list_models()`.
        options: Its options, by name.
        resolution: The height and width of the images, in pixels.
        dataset: What was classified: its validation set, or of CIFAR-10 its test set.
        accuracies: As stated, papers first.
    """

    network: str
    options: Mapping[str, Any]
    resolution: int
    dataset: str
    accuracies: tuple[Accuracy, ...]

    @cached_property
    def counts(self) -> Counts:
        """The parameters and the MACs as we count them."""
        net = _describe(self.network, json.dumps(self.options))
        return Counts(sum(p.numel() for p in net.parameters()), count_on_meta(net, self.resolution))

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.network} {options}".rstrip()

    def to_dict(self) -> dict:
        """Return the fields and the counts in types that JSON has."""
        return {
            "network": self.network,
            "options": dict(self.options),
            "resolution": self.resolution,
            "dataset": self.dataset,
            **self.counts._asdict(),
            "accuracies": [{"top1": float(a.top1), "source": a.source} for a in self.accuracies],
        }


def read_published() -> list[Published]:
    """Return what is published, network by network."""
    text = (files("depthwise") / "data" / "published.csv").read_text(encoding="utf-8")
    keys = ("network", "options", "input", "dataset")
    groups = groupby(
        csv.DictReader(text.splitlines()), key=lambda row: tuple(row[key] for key in keys)
    )
    return [
        Published(
            network, json.loads(options or "{}"), int(side), dataset,
            tuple(Accuracy(Decimal(row["top1"]), row["source"]) for row in rows),
        )
        for (network, options, side, dataset), rows in groups
    ]  # fmt: skip


@lru_cache(maxsize=1)  # the next row is often of the same network
def _describe(network: str, options: str) -> "nn.Module":
    """Return a network without numbers."""
    import torch  # noqa: PLC0415

    from depthwise.families import construct  # noqa: PLC0415

    with torch.device("meta"):
        return construct(network, **json.loads(options)).eval()


def count_on_meta(net: "nn.Module", resolution: int) -> int:
    """Return the MACs of one of our networks on a square image, without exporting it.

    It is run without numbers, which takes milliseconds where an export takes seconds. Each weight
    of a convolution or a linear layer is used once an output position.
    """
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    macs = 0

    def add(layer: nn.Module, _: object, output: "Tensor") -> None:
        nonlocal macs
        assert isinstance(layer.weight, torch.Tensor)
        macs += output.numel() // output.shape[1] * layer.weight.numel()

    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with torch.inference_mode():
        net(torch.empty(1, 3, resolution, resolution, device="meta"))
    for hook in hooks:
        hook.remove()
    return macs


def published_table(rows: list[Published]) -> RenderableType:
    """Return a row a network and resolution, and below each other who states which accuracy."""
    cells = [
        (
            str(row), in_units(row.counts.params), in_units(row.counts.macs), str(row.resolution),
            "\n".join(map(str, row.accuracies)),
        )
        for row in rows
    ]  # fmt: skip
    others = sorted({f"{row.network}: {row.dataset}" for row in rows if row.dataset != "ImageNet"})
    notes = [
        f"params, MACs: counted here; {CONVENTION} MACs",
        f"top-1: of ImageNet's validation images, one crop; {', '.join(others)}",
        "arXiv: the paper; others: public checkpoints, as their libraries state",
    ]
    return Group(FittedTable(COLUMNS, cells), "", *map(Text, notes))
