"""Ways to make a trained network small: ours, and those of the tools and habits it is held against.

Each is a function of a `Start` and a share of the multiply-adds, and returns a module that is ready
to be trained further, by the same loop and on equally many images for all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import depthwise as dw
from depthwise.graph.exporters.torch import to_module
from depthwise.slimming.channels.widths import narrow
from depthwise.slimming.draft import Draft
from depthwise.slimming.request import SlimmingOptions
from depthwise.slimming.slim import slim
from depthwise.sources.source import network_name
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.squares import prepare

HALVINGS = 12  # of what lies between too small and too large
BATCH, BATCHES = 128, 8  # images by which gradients tell what is important


@dataclass(frozen=True, eq=False)
class Start:
    """A trained network, and the images that it learned from.

    Attributes:
        run: What trained it.
        data: The images.
        shelf: The name of a network off the shelf.
        shelf_settings: Its options, but for its width.
    """

    run: dw.Run
    data: Dataset
    shelf: str
    shelf_settings: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its input."""
        side = self.run.record.preprocessing.crop
        return (1, 3, side, side)

    @cached_property
    def macs(self) -> int:
        """What it costs as it is."""
        return macs_of(self.run.network(), self)

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Return some images of the training split as the network takes them, and their classes."""
        how, ready = self.run.record.preprocessing, prepare(self.data.train, self.shape[-1])
        places = np.arange(BATCH * BATCHES).reshape(BATCHES, BATCH)
        return [
            (how.normalised(ready.squares.take(each)), torch.from_numpy(ready.labels[each]))
            for each in places
        ]


def macs_of(net: nn.Module, start: Start) -> int:
    """Return the multiply-adds of an image."""
    return dw.cost(net, start.shape).macs


def ours(start: Start, share: float) -> nn.Module:
    """Slim with all moves."""
    return _slimmed(start, share, SlimmingOptions())


def channels(start: Start, share: float) -> nn.Module:
    """Slim by cutting channels alone."""
    return _slimmed(start, share, SlimmingOptions(moves=("channels",)))


def _slimmed(start: Start, share: float, options: SlimmingOptions) -> nn.Module:
    source = f"run:{start.run.directory}"
    return slim(source, budget=f"{share:.4%}", data=start.data, options=options).module


def width(start: Start, share: float) -> nn.Module:
    """Narrow all layers alike, by magnitude."""
    graph = dw.open(start.run.network(), start.shape).graph

    def narrowed(alpha: float) -> nn.Module:
        return to_module(narrow(Draft(graph), alpha).graph)

    return largest(narrowed, start, share)


def scratch(start: Start, share: float) -> nn.Module:
    """Begin anew with the same network, narrower."""
    record = start.run.record
    return _begun(start, share, record.network, dict(record.settings))


def shelf(start: Start, share: float) -> nn.Module:
    """Begin anew with another network of as many multiply-adds."""
    return _begun(start, share, start.shelf, start.shelf_settings)


def _begun(start: Start, share: float, name: str, settings: dict[str, Any]) -> nn.Module:
    options = settings | {"num_classes": len(start.run.record.classes)}
    return largest(
        lambda alpha: dw.create_model(name, weights=None, **options, width=alpha), start, share
    )


def torch_pruning_magnitude(start: Start, share: float) -> nn.Module:
    """Torch-Pruning, by the magnitude of groups of weights, over all layers at once."""
    return _torch_pruning(start, share, "GroupMagnitudeImportance")


def torch_pruning_taylor(start: Start, share: float) -> nn.Module:
    """Torch-Pruning, by gradient times weight in groups, over all layers at once."""
    return _torch_pruning(start, share, "GroupTaylorImportance")


def _torch_pruning(start: Start, share: float, importance: str) -> nn.Module:
    import torch_pruning  # type: ignore[import-not-found]  # noqa: PLC0415

    batches = start.batches()

    def pruned(kept: float) -> nn.Module:
        net = start.run.network()
        for images, labels in batches:
            F.cross_entropy(net(images), labels).backward()
        last = [each for each in net.modules() if isinstance(each, nn.Linear)][-1:]
        torch_pruning.pruner.BasePruner(
            net, torch.zeros(start.shape), getattr(torch_pruning.importance, importance)(),
            pruning_ratio=1 - kept, global_pruning=True, max_pruning_ratio=0.9, round_to=4,
            ignored_layers=last,
        ).step()  # fmt: skip
        return net

    return largest(pruned, start, share)


def fasterai(start: Start, share: float) -> nn.Module:
    """fasterai's pruner, by magnitude, the layers compared with each other."""
    from fasterai.core.criteria import large_final  # type: ignore[import-not-found]  # noqa: PLC0415
    from fasterai.prune.pruner import Pruner  # type: ignore[import-not-found]  # noqa: PLC0415

    def pruned(kept: float) -> nn.Module:
        net = start.run.network()
        pruner = Pruner(
            net, 100 * (1 - kept), "global", large_final, example_inputs=torch.zeros(start.shape)
        )
        pruner.prune_model()
        return net

    return largest(pruned, start, share)


def largest(make: Callable[[float], nn.Module], start: Start, share: float) -> nn.Module:
    """Return what `make` makes of the largest width, from 0 to 1, that costs no more than a share.

    Raises ValueError where none is so small.
    """
    low, high, best = 0.0, 1.0, None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        net = make(middle)
        if macs_of(net, start) <= share * start.macs:
            low, best = middle, net
        else:
            high = middle
    if best is None:
        raise ValueError(f"no width brings {network_name(make(1.0))} to {share:.0%} of the MACs")
    return best


WAYS: dict[str, Callable[[Start, float], nn.Module]] = {
    "ours": ours,
    "channels": channels,
    "width": width,
    "scratch": scratch,
    "shelf": shelf,
    "torch-pruning-magnitude": torch_pruning_magnitude,
    "torch-pruning-taylor": torch_pruning_taylor,
    "fasterai": fasterai,
}
ANEW = ("scratch", "shelf")  # which see the images of the first training, too
