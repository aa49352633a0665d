"""What output pixels of a layer read, and what they hold, at places that are drawn."""

from math import ceil, prod

import torch
import torch.nn.functional as F
from torch import Tensor

from depthwise.graph import Node, ops


def pixels_of(node: Node) -> int:
    """Return how many output pixels a layer has, of one image."""
    shape = node.type.shape
    return prod(shape[2:] if isinstance(node.op, ops.Conv2d) else shape[1:-1])


def draw_pixels(node: Node, images: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Return which output pixels of each image are looked at: all of them where there are few.

    Args:
        node: The layer.
        images: The number of images.
        wanted: How many pixels of all images together.
        generator: What draws them.

    Returns:
        Their numbers, row by row, (images, pixels).
    """
    pixels, each = pixels_of(node), ceil(wanted / images)
    if each >= pixels:
        return torch.arange(pixels).expand(images, -1)
    return torch.randint(pixels, (images, each), generator=generator)


def patches_at(node: Node, kernel: tuple[int, ...], x: Tensor, pixels: Tensor) -> Tensor:
    """Return what these output pixels of a layer read: (N · pixels, groups, D).

    Args:
        node: The convolution or linear layer.
        kernel: The shape of its weight, (K, C / groups, R, S) or (K, C).
        x: What it reads, (N, C, H, W) or (N, ..., C).
        pixels: Which of its output pixels, (N, pixels).
    """
    op = node.op
    if isinstance(op, ops.Linear):
        return _rows_at(x, pixels).unsqueeze(1)
    assert isinstance(op, ops.Conv2d)
    sides = op.padding
    padded = F.pad(x, (sides.left, sides.right, sides.top, sides.bottom))
    down, right = pixels // node.type.shape[3], pixels % node.type.shape[3]
    down = down[..., None] * op.stride[0] + torch.arange(kernel[2]) * op.dilation[0]
    right = right[..., None] * op.stride[1] + torch.arange(kernel[3]) * op.dilation[1]
    images = torch.arange(len(x))[:, None, None, None]
    taken = padded.permute(0, 2, 3, 1)[images, down[..., None], right[..., None, :]]
    return taken.permute(0, 1, 4, 2, 3).reshape(pixels.numel(), op.groups, -1)


def values_at(node: Node, y: Tensor, pixels: Tensor) -> Tensor:
    """Return what a value shaped as a layer's output holds at its pixels: (N · pixels, K).

    Args:
        node: The layer.
        y: The value, (N, K, H, W) or (N, ..., K).
        pixels: Which pixels, (N, pixels).
    """
    return _rows_at(y.permute(0, 2, 3, 1) if isinstance(node.op, ops.Conv2d) else y, pixels)


def _rows_at(rows: Tensor, pixels: Tensor) -> Tensor:
    """Return rows (N, ..., C) at these places in each image, (N · pixels, C)."""
    by_pixel = rows.reshape(len(rows), -1, rows.shape[-1])
    images = torch.arange(len(rows))[:, None]
    return by_pixel[images, pixels].reshape(pixels.numel(), rows.shape[-1])
