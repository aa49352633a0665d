"""Ways to make a trained network small: ours, and those of the tools and habits it is held against.

Each is a function of a `Start`, a share of the multiply-adds and a seed, and returns a module, or
a graph, that is ready to be trained further, by the same loop and on equally many images for all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import depthwise as dw
from depthwise.families.resnet import PadChannels
from depthwise.graph import Graph
from depthwise.graph.exporters.torch import to_module
from depthwise.slimming.channels.widths import narrow
from depthwise.slimming.draft import Draft
from depthwise.slimming.request import SlimmingOptions
from depthwise.slimming.slim import slim
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.squares import prepare

STEPS, HALVINGS = 16, 4  # by which a width is found
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
    def graph(self) -> Graph:
        """The network as it is."""
        return dw.open(self.run.network(), self.shape).graph

    @cached_property
    def macs(self) -> int:
        """What it costs as it is."""
        return macs_of(self.run.network(), self)

    def batches(self, seed: int) -> list[tuple[Tensor, Tensor]]:
        """Return some images of the training split as the network takes them, and their classes."""
        how, ready = self.run.record.preprocessing, prepare(self.data.train, self.shape[-1])
        drawn = np.random.default_rng(seed).permutation(len(ready.labels))[: BATCH * BATCHES]
        return [
            (how.normalised(ready.squares.take(each)), torch.from_numpy(ready.labels[each]))
            for each in drawn.reshape(BATCHES, BATCH)
        ]

    def traceable(self) -> nn.Module:
        """Return the network with each shortcut that pads channels as a convolution that does.

        Torch-Pruning, and fasterai with it, cuts channels before such a padding otherwise than
        those after it, and what is left does not run.
        """
        net = self.run.network().eval()
        padding = [name for name, each in net.named_modules() if isinstance(each, PadChannels)]
        for name in padding:
            parent, _, own = name.rpartition(".")
            owner = net.get_submodule(parent)
            setattr(owner, own, as_convolution(owner.get_submodule(own)))
        return net


def as_convolution(shortcut: PadChannels) -> nn.Conv2d:
    """Return the 1 x 1 convolution that takes every stride-th pixel, and gives zeros after it."""
    stride, channels = shortcut.subsample.stride, shortcut.added  # which doubles them
    made = nn.Conv2d(channels, channels + shortcut.added, 1, stride, bias=False)
    nn.init.zeros_(made.weight)
    nn.init.eye_(made.weight.view(made.weight.shape[:2]))
    return made


def macs_of(net: nn.Module, start: Start) -> int:
    """Return the multiply-adds of an image, convolutions and linear layers as `dw.cost` has them.

    Counted while it runs: dozens of widths are tried, and capturing each would take minutes.
    """
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net.eval()(torch.zeros(start.shape))
    return counter.get_total_flops() // 2


def ours(start: Start, share: float, seed: int) -> Graph:
    """Slim with all moves."""
    return _slimmed(start, share, SlimmingOptions(seed=seed))


def channels(start: Start, share: float, seed: int) -> Graph:
    """Slim by cutting channels alone."""
    return _slimmed(start, share, SlimmingOptions(moves=("channels",), seed=seed))


def _slimmed(start: Start, share: float, options: SlimmingOptions) -> Graph:
    source = f"run:{start.run.directory}"
    return slim(source, budget=f"{share:.4%}", data=start.data, options=options, tell=print).graph


def width(start: Start, share: float, _seed: int) -> nn.Module:
    """Narrow all layers alike, by magnitude: nothing is drawn."""

    def narrowed(alpha: float) -> nn.Module:
        return to_module(narrow(Draft(start.graph), alpha).graph)

    return largest(narrowed, start, share)


def scratch(start: Start, share: float, seed: int) -> nn.Module:
    """Begin anew with the same network, narrower."""
    record = start.run.record
    return _begun(start, share, seed, record.network, dict(record.settings))


def shelf(start: Start, share: float, seed: int) -> nn.Module:
    """Begin anew with another network of as many multiply-adds."""
    return _begun(start, share, seed, start.shelf, start.shelf_settings)


def _begun(start: Start, share: float, seed: int, name: str, settings: dict[str, Any]) -> nn.Module:
    options = settings | {"num_classes": len(start.run.record.classes)}

    def begun(alpha: float) -> nn.Module:
        torch.manual_seed(seed)
        return dw.create_model(name, weights=None, **options, width=alpha)

    return largest(begun, start, share)


def torch_pruning_magnitude(start: Start, share: float, seed: int) -> nn.Module:
    """Torch-Pruning, by the magnitude of groups of weights, over all layers at once."""
    return _torch_pruning(start, share, seed, "GroupMagnitudeImportance")


def torch_pruning_taylor(start: Start, share: float, seed: int) -> nn.Module:
    """Torch-Pruning, by gradient times weight in groups, over all layers at once."""
    return _torch_pruning(start, share, seed, "GroupTaylorImportance")


def _torch_pruning(start: Start, share: float, seed: int, importance: str) -> nn.Module:
    import torch_pruning  # type: ignore[import-not-found]  # noqa: PLC0415

    batches = start.batches(seed)

    def pruned(kept: float) -> nn.Module:
        net = start.traceable()
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


def fasterai(start: Start, share: float, _seed: int) -> nn.Module:
    """fasterai's pruner, by magnitude, the layers compared with each other: nothing is drawn."""
    from fasterai.core.criteria import large_final  # type: ignore[import-not-found]  # noqa: PLC0415
    from fasterai.prune.pruner import Pruner  # type: ignore[import-not-found]  # noqa: PLC0415

    def pruned(kept: float) -> nn.Module:
        net = start.traceable()
        pruner = Pruner(
            net, 1 - kept, "global", large_final, example_inputs=torch.zeros(start.shape),
            max_pruning_ratio=0.9, round_to=4,
        )  # fmt: skip
        pruner.prune_model()
        return net

    return largest(pruned, start, share)


def largest(make: Callable[[float], nn.Module], start: Start, share: float) -> nn.Module:
    """Return what `make` makes of the largest width, of 0 to 1, that costs no more than a share.

    Widths are tried from 1 down in steps, for what a tool prunes may cost more again where it is
    asked for very little; the last step is then halved. Raises ValueError where none is so small.
    """

    def fits(net: nn.Module) -> bool:
        return macs_of(net, start) <= share * start.macs

    widths = [part / STEPS for part in range(STEPS - 1, 0, -1)]
    low = next((width for width in widths if fits(make(width))), None)
    if low is None:
        raise ValueError(f"no width brings {start.run.record.network} to {share:.1%} of the MACs")
    high = low + 1 / STEPS
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if fits(make(middle)):
            low = middle
        else:
            high = middle
    return make(low)


WAYS: dict[str, Callable[[Start, float, int], nn.Module | Graph]] = {
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
