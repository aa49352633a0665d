"""Batch, layer, instance and group normalisation from one factory, and the formula they share."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
NormKind = Literal["batch", "layer", "instance", "group"]


def norm(kind: NormKind, groups: int = 32, eps: float = 1e-5) -> Norm:
    """Return the constructor, channels -> module over (N, C, H, W), of one kind of normalisation.

    Layer and instance normalisation are group normalisation with 1 group and with C groups
    (Wu & He, arXiv:1803.08494, section 3.1). `groups` counts for "group" only.
    """
    match kind:
        case "batch":
            return partial(nn.BatchNorm2d, eps=eps)
        case "layer":
            return partial(nn.GroupNorm, 1, eps=eps)
        case "instance":
            return partial(nn.InstanceNorm2d, affine=True, eps=eps)
        case "group":
            return partial(nn.GroupNorm, groups, eps=eps)
        case _:
            raise ValueError(f"norm kind {kind!r}: accepted are batch, layer, instance and group")


def normalize(x: Tensor, over: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    """Return x with zero mean and unit variance over the axes `over`, same shape.

    All four normalisations are this line, before their affine step:
    batch over (N, H, W), layer over (C, H, W), instance over (H, W) of (N, C, H, W), and group
    over (C / G, H, W) of (N, G, C / G, H, W).
    """
    mean = x.mean(over, keepdim=True)
    variance = (x - mean).square().mean(over, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + eps)
