"""In what convolutions compute while training: float32, bfloat16, or float16 with scaled losses.

Half the bits are half the memory, and twice the speed where the processor has such arithmetic; for
depthwise networks on a CPU without it, they are slower. So "auto" measures.

float16 holds nothing below 6e-8: gradients would vanish. So the loss is multiplied by a large
number and the gradients divided by it again (Micikevicius et al., arXiv:1710.03740). A step whose
gradients overflow is left out, and the number halved.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from statistics import median

import torch
from torch import Tensor, nn

from depthwise.training.divergence import Diverged

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STEPS = 3  # timed of each, after one that is not
HOPELESS = 4  # times float32's time, after which no step more is timed
READY = 1.0  # seconds that a first step may take to choose and build its kernels
SLOW = 2  # times float32's time: from there on it is said
GAIN = 0.95  # of float32's time: what less exact arithmetic has to come below
LEAST = 1.0  # what losses are multiplied by where gradients overflow for good


class MixedPrecision:
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

    def step(self, net: nn.Module, optimizer: torch.optim.Optimizer, clip: float | None) -> bool:
        """Change the weights by the gradients, but where these overflowed; then forget them.

        Returns:
            Whether they were changed.

        Raises:
            Diverged: Gradients overflow that are not even multiplied.
        """
        before = self.scale
        if clip is not None:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        self._scaler.step(optimizer)
        self._scaler.update()
        optimizer.zero_grad()
        is_done = self.scale >= before
        if not is_done and before <= LEAST:  # halved on and on it would be 0, and gradients 0 / 0
            raise Diverged(
                "gradients overflow float16, however small the loss is made. The run keeps the "
                "weights of its best epoch; train again with precision fp32 or bf16, or with a "
                "lower learning rate"
            )
        return is_done

    @property
    def may_overflow(self) -> bool:
        """Whether there may be steps that change nothing."""
        return self._scaler.is_enabled()

    @property
    def scale(self) -> float:
        """What losses are multiplied by."""
        return self._scaler.get_scale()

    @property
    def since_overflow(self) -> int:
        """How many steps there were since the scale changed: after many it is doubled."""
        return self._scaler.state_dict().get("_growth_tracker", 0)

    def restore(self, scale: float, since_overflow: int) -> None:
        """Go on with the scale of a run that was stopped."""
        if self.may_overflow:
            kept = {"scale": scale, "_growth_tracker": since_overflow}
            self._scaler.load_state_dict(self._scaler.state_dict() | kept)


def step_times(
    step_in: Callable[[str, bool], Callable[[], object]], names: Iterable[str] = DTYPES
) -> dict[str, float]:
    """Return the milliseconds that a step takes, float32's first.

    A precision of which this device has no kernel, or none that is right, is left out. One that is
    far slower on a few images is timed on these alone: a whole batch may take it minutes.

    Args:
        step_in: Gives, for the name of a precision, a step to be timed; of a few images, or of all.
        names: Of the precisions.
    """
    few = median(_seconds(step_in("fp32", True), math.inf))
    times = {"fp32": 1000 * median(_seconds(step_in("fp32", False), math.inf))}
    for name in names:
        if name in times:
            continue
        with suppress(RuntimeError, Diverged):
            times_longer = median(_seconds(step_in(name, True), HOPELESS * few)) / few
            if times_longer < HOPELESS:
                found = median(_seconds(step_in(name, False), HOPELESS * times["fp32"] / 1000))
                times[name] = 1000 * found
            else:
                times[name] = times_longer * times["fp32"]
    return times


def fastest(times: Mapping[str, float]) -> str:
    """Return the precision in which a step takes least time, by what `step_times` found."""
    best = min(times, key=lambda name: times[name])
    return best if times[best] < GAIN * times["fp32"] else "fp32"


def say_slow(name: str, times: Mapping[str, float]) -> str:
    """Return in words that a precision is slow here; nothing where it is not."""
    ratio = times.get(name, 0.0) / times["fp32"]
    if ratio < SLOW:
        return ""
    return (
        f"{name} takes {ratio:.1f} times as long as fp32 here, {times[name]:,.0f} ms a step beside "
        f"{times['fp32']:,.0f}: precision auto takes the fastest"
    )


def _seconds(step: Callable[[], object], most: float) -> list[float]:
    """Return the seconds of a few steps after the first; of one above `most`, of that alone.

    The first counts only where it takes more than a device needs to make itself ready.
    """
    found: list[float] = []
    for number in range(STEPS + 1):
        start = time.perf_counter()
        step()
        found.append(time.perf_counter() - start)
        if found[-1] > most and (number or found[-1] > READY):
            return found[-1:]
    return found[1:]
