"""torchvision's normalisation of images as arithmetic, while a network is exported.

Its function looks whether a deviation is zero in a tensor of constants, which torch.export takes
for a decision by the values of its input.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MODULES = ("torchvision.transforms._functional_tensor", "torchvision.transforms.functional_tensor")


@contextmanager
def normalizing_by_arithmetic() -> Iterator[None]:
    """Let torchvision normalise by arithmetic alone; in the end its function is back."""
    module = next((sys.modules[name] for name in MODULES if name in sys.modules), None)
    if module is None:
        yield
        return
    before, module.normalize = module.normalize, normalize  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.normalize = before  # type: ignore[attr-defined]


def normalize(tensor: torch.Tensor, mean, std, inplace: bool = False) -> torch.Tensor:
    """Return (tensor - mean) / std, a number a channel of (..., C, H, W), as torchvision does.

    Raises TypeError and ValueError as it does, but for a deviation of zero in a tensor.
    """
    if not tensor.is_floating_point():
        raise TypeError(f"images of {tensor.dtype}: only floating numbers are normalised")
    if tensor.ndim < 3:
        raise ValueError(f"an image of shape {tuple(tensor.shape)}: it needs (..., C, H, W)")
    if isinstance(std, list | tuple) and not all(std):
        raise ValueError("std evaluated to zero, by which images would be divided")
    numbers = (torch.as_tensor(n, dtype=tensor.dtype, device=tensor.device) for n in (mean, std))
    mean, std = (n.view(-1, 1, 1) if n.ndim == 1 else n for n in numbers)
    if inplace:
        return tensor.sub_(mean).div_(std)
    return tensor.sub(mean).div(std)
