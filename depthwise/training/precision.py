"""In what convolutions compute while training: float32, bfloat16, or float16 with scaled losses.

Half the bits are half the memory, and twice the speed where the processor has such arithmetic; for
depthwise networks on a CPU without it, they are slower. So "auto" measures.

float16 holds nothing below 6e-8: gradients would vanish. So the loss is multiplied by a large
number and the gradients divided by it again (Micikevicius et al., arXiv:1710.03740).
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from statistics import median

import torch
from torch import Tensor, nn

from depthwise.training.divergence import Diverged

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STEPS = 3  # timed of each, after one that is not
HOPELESS = 4  # times float32's time, after which no step more is timed
GAIN = 0.95  # of float32's time: what less exact arithmetic has to come below


class Precision:
    """Casting on the way forward, scaling on the way back."""

    def __init__(self, name: str, device: torch.device):
        self.name, self.device = name, device
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def cast(self) -> AbstractContextManager:
        """Return a context in which convolutions and linear layers compute in this precision."""
        return torch.autocast(self.device.type, DTYPES[self.name], enabled=self.name != "fp32")

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled, to those that there are."""
        self._scaler.scale(loss).backward()

    def step(self, net: nn.Module, optimizer: torch.optim.Optimizer, clip: float | None) -> None:
        """Change the weights by the gradients, but where these overflowed; then forget them."""
        if clip is not None:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        self._scaler.step(optimizer)
        self._scaler.update()
        optimizer.zero_grad()

    @property
    def scale(self) -> float:
        """What losses are multiplied by."""
        return self._scaler.get_scale()

    @scale.setter
    def scale(self, value: float) -> None:
        self._scaler.update(value) if self._scaler.is_enabled() else None


def fastest(step_in: Callable[[str], Callable[[], object]]) -> tuple[str, dict[str, float]]:
    """Return the precision in which a step takes least time, and the milliseconds of each.

    Args:
        step_in: Gives, for the name of a precision, a step to be timed.
    """
    times: dict[str, float] = {}
    for name in DTYPES:
        most = HOPELESS * times["fp32"] / 1000 if times else math.inf
        try:
            times[name] = 1000 * median(_seconds(step_in(name), most))
        except (RuntimeError, Diverged):  # this device has no such kernel, or none that is right
            if name == "fp32":
                raise
    best = min(times, key=lambda name: times[name])
    return (best if times[best] < GAIN * times["fp32"] else "fp32"), times


def _seconds(step: Callable[[], object], most: float) -> list[float]:
    """Return the seconds of a few steps; of one that takes more than `most`, of that alone."""
    found: list[float] = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        step()
        found.append(time.perf_counter() - start)
        if found[-1] > most:
            return found[-1:]
    return found[1:]
