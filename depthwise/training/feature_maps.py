"""The last feature maps of a network: what its classifier's pooling reads."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from depthwise.sources.heads import find_head


class FeatureMaps:
    """Keeps the last feature maps of a network whenever it is run.

    Attributes:
        name: The module that returns them.
        channels: How many there are.
    """

    def __init__(self, net: nn.Module, side: int):
        """Find them in a network for images of `side` pixels.

        Raises ValueError where no module before the classifier returns any.
        """
        self.name, self.channels = _find(net, side)
        self._kept: list[Tensor] = []
        kept = self._kept  # the copies of the network, such as its average, write here, too

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            kept[:] = [output]

        net.get_submodule(self.name).register_forward_hook(keep)

    def take(self) -> Tensor:
        """Return those of the last images, (B, channels, H, W)."""
        return self._kept.pop()


def _find(net: nn.Module, side: int) -> tuple[str, int]:
    """Return the module that returns the last maps before the classifier, and their number."""
    head, calls = find_head(net)[0], []
    with _noting(net, calls):
        _run(net, side)
    times = Counter(name for name, _ in calls)
    before = calls[: next((i for i, (name, _) in enumerate(calls) if name == head), len(calls))]
    maps = [(name, shape) for name, shape in before if len(shape) == 4 and times[name] == 1]
    maps = [each for each in maps if each[1][2] * each[1][3] > 1] or maps
    if not maps:
        raise ValueError(
            f"{type(net).__name__} has no module before its classifier that returns feature maps "
            "(N, C, H, W): leave out feature_share"
        )
    name, shape = maps[-1]
    return name, shape[1]


@contextmanager
def _noting(net: nn.Module, calls: list[tuple[str, torch.Size]]) -> Iterator[None]:
    """Note which modules return tensors, in order, and their shapes."""

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                calls.append((name, output.shape))

        return hook

    hooks = [
        module.register_forward_hook(note(name)) for name, module in net.named_modules() if name
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _run(net: nn.Module, side: int) -> None:
    """Run a network once, and leave it in the mode that it has, its statistics as they are."""
    first = next(net.parameters())
    modes = {module: module.training for module in net.modules()}
    net.eval()(torch.zeros(1, 3, side, side, device=first.device, dtype=first.dtype))
    for module, mode in modes.items():
        module.training = mode
