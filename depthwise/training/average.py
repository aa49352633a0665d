"""The average of a network's weights over the steps of its training."""

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

HORIZON = 0.05  # of all steps: those that the average is mostly of, where a recipe names no decay
LONGEST = 0.9999  # the decay where the number of steps is not known yet


def fitted_decay(total: int | None) -> float:
    """Return the decay whose average is of the last HORIZON of `total` steps: 1 / (1 - decay)."""
    return LONGEST if total is None else 1 - 1 / max(1.0, HORIZON * total)


class Average:
    """Exponential moving average of a network's parameters and buffers: `net` is the average.

    Polyak & Juditsky, 1992; each update is average <- d · average + (1 - d) · now. After t updates
    d is min(decay, (1 + t) / (10 + t)), so that the random start is soon forgotten. Buffers of
    whole numbers are copied.

    Attributes:
        net: A copy of the network with the averages as its weights, in evaluation mode.
    """

    def __init__(self, net: nn.Module, decay: float = LONGEST):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: 0 to below 1 is accepted")
        for name, tensor in _tensors(net).items():
            if tensor.dtype in (torch.float16, torch.bfloat16):
                raise ValueError(
                    f"{name} is {tensor.dtype}, in which an average stands still: keep the weights "
                    "in float32 and compute in another type under torch.autocast"
                )
        self.decay, self._updates = decay, 0
        self.net = copy.deepcopy(net).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take the network's weights, after a step, into the average."""
        averages, now = _tensors(self.net), _tensors(net)
        assert averages.keys() == now.keys(), "the network is another than that which is averaged"
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        real = [name for name, tensor in averages.items() if tensor.is_floating_point()]
        get_ema_multi_avg_fn(decay)(
            [averages[name] for name in real], [now[name] for name in real], self._updates
        )
        for name in averages.keys() - set(real):
            averages[name].copy_(now[name])
        self._updates += 1

    def state(self) -> dict[str, Tensor]:
        """Return all that the average is, for `restore`: copies of tensors by name."""
        tensors = {name: tensor.detach().clone() for name, tensor in _tensors(self.net).items()}
        return {**tensors, UPDATES: torch.tensor(self._updates)}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state`. Raises ValueError if it is of another network."""
        own = _tensors(self.net)
        different = sorted(own.keys() ^ (state.keys() - {UPDATES})) or [
            name for name, tensor in own.items() if tensor.shape != state[name].shape
        ]
        if different or UPDATES not in state:
            names = ", ".join(different[:3]) or UPDATES
            raise ValueError(f"the average that was saved is of another network: see {names}")
        for name, tensor in own.items():
            tensor.copy_(state[name])
        self._updates = int(state[UPDATES])


UPDATES = "average.updates"  # no tensor's name in a state: how many updates there were


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}
