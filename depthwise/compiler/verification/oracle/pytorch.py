"""What the oracle lets PyTorch compute where it is installed, for which NumPy takes minutes.

Every function returns None where it is not: a plan can be checked without PyTorch, slowly.
"""

from functools import cache
from types import ModuleType

import numpy as np

from depthwise.graph.ops import Conv2d

Array = np.ndarray


def convolve(op: Conv2d, x: Array, weight: Array, bias: Array | None = None) -> Array | None:
    """Return a convolution, for which the interpreter would gather every window."""
    torch = _torch()
    if torch is None:
        return None
    pad = op.padding
    around = (pad.top, pad.left)
    x, weight, *biases = (_tensor(torch, data) for data in (x, weight, bias) if data is not None)
    functional = torch.nn.functional
    if (pad.bottom, pad.right) != around or min(around) < 0:
        x, around = functional.pad(x, (pad.left, pad.right, pad.top, pad.bottom)), (0, 0)
    found = functional.conv2d(
        x, weight, biases[0] if biases else None, op.stride, around, op.dilation, op.groups
    )
    return found.numpy()


def gelu(x: Array) -> Array | None:
    """Return GELU of each element."""
    torch = _torch()
    return None if torch is None else torch.nn.functional.gelu(_tensor(torch, x)).numpy()


def erf(x: Array) -> Array | None:
    """Return the error function of each element."""
    torch = _torch()
    return None if torch is None else torch.special.erf(_tensor(torch, x)).numpy()


@cache
def _torch() -> ModuleType | None:
    try:
        import torch  # noqa: PLC0415
    except ModuleNotFoundError:
        return None
    return torch


def _tensor(torch: ModuleType, x: Array):
    return torch.from_numpy(np.ascontiguousarray(x))
