"""Pooling of regions whose bins move: each looks where its predicted offset sends it."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from depthwise.layers.init import ZeroLinear


class DeformRoIPool(nn.Module):
    """(N, C, H, W) features, (R, 5) boxes -> (R, C, P, P): pooling with predicted bin offsets.

    A box is [batch index, x1, y1, x2, y2] in pixels of the input image, and `spatial_scale` is
    features' size / image's size. The plain pooling of the region goes through a linear layer,
    which starts at zero, to an offset (y, x) for each bin; the second pooling shifts each bin by
    offset · gamma · the box's (height, width).
    Dai et al., arXiv:1703.06211, section 2.2; average of `samples`² bilinear points a bin, where
    the paper averages over the whole pixels of the bin.
    """

    def __init__(
        self, channels: int, output_size: int = 7, spatial_scale: float = 1 / 16,
        samples: int = 2, gamma: float = 0.1,
    ):  # fmt: skip
        super().__init__()
        for name, value in (("output_size", output_size), ("samples", samples)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.output_size, self.spatial_scale = output_size, spatial_scale
        self.samples, self.gamma = samples, gamma
        bins = output_size * output_size
        self.predict = ZeroLinear(channels * bins, 2 * bins)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Pool, predict offsets, pool again with shifted bins."""
        shape = (boxes.shape[0], 2, self.output_size, self.output_size)
        plain = self._pool(features, boxes, features.new_zeros(shape))
        offsets = self.predict(plain.flatten(1)).view(shape)
        return self._pool(features, boxes, offsets)

    def _pool(self, features: Tensor, boxes: Tensor, offsets: Tensor) -> Tensor:
        return deform_roi_pool(
            features, boxes, offsets, self.output_size, self.spatial_scale, self.samples, self.gamma
        )


@torch.library.custom_op("depthwise::deform_roi_pool", mutates_args=())
def deform_roi_pool(
    features: Tensor, boxes: Tensor, offsets: Tensor, output_size: int, spatial_scale: float,
    samples: int, gamma: float,
) -> Tensor:  # fmt: skip
    """Average `samples`² bilinear points in each shifted bin of each box: (R, C, P, P).

    `offsets` is (R, 2, P, P), y then x, in units of gamma · the box's height and width; with zeros
    it is RoIAlign (arXiv:1703.06870) as torchvision's roi_align with aligned=True and
    sampling_ratio=samples. Differentiable once, in features and offsets; boxes get no gradient.
    Raises ValueError for shapes that do not fit and for batch indices outside the features.
    """
    _check_shapes(features, boxes, offsets, output_size)
    images = features.shape[0]
    if not ((boxes[:, 0] >= 0) & (boxes[:, 0] < images)).all():
        raise ValueError(
            f"boxes' batch indices go from {boxes[:, 0].min():g} to {boxes[:, 0].max():g}: "
            f"features hold {images} images, so 0 to {images - 1} are accepted"
        )
    return _pool(features, boxes, offsets, spatial_scale, samples, gamma)


@deform_roi_pool.register_fake
def _(features: Tensor, boxes: Tensor, offsets: Tensor, output_size: int, *_rest: float) -> Tensor:
    _check_shapes(features, boxes, offsets, output_size)
    return features.new_empty(boxes.shape[0], features.shape[1], output_size, output_size)


def _check_shapes(features: Tensor, boxes: Tensor, offsets: Tensor, output_size: int) -> None:
    if features.ndim != 4:
        raise ValueError(f"features are {tuple(features.shape)}: they must be (N, C, H, W)")
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise ValueError(
            f"boxes are {tuple(boxes.shape)}: they must be (R, 5), batch index, x1, y1, x2, y2"
        )
    expected = (boxes.shape[0], 2, output_size, output_size)
    if offsets.shape != expected:
        raise ValueError(f"offsets are {tuple(offsets.shape)}: they must be {expected}")


def _pool(
    features: Tensor, boxes: Tensor, offsets: Tensor, scale: float, samples: int, gamma: float
) -> Tensor:
    """Evaluate the operator in differentiable tensor operations."""
    batch = boxes[:, 0].long()
    x1, y1, x2, y2 = (boxes[:, 1:].to(features.dtype) * scale).unbind(1)
    bins = offsets.shape[-1]
    y = _positions(y1, y2, bins, samples).view(-1, bins, 1, samples, 1)
    x = _positions(x1, x2, bins, samples).view(-1, 1, bins, 1, samples)
    dy, dx = (offsets * gamma).unbind(1)
    y = y + (dy * (y2 - y1)[:, None, None])[..., None, None]  # (R, P, P, samples, 1)
    x = x + (dx * (x2 - x1)[:, None, None])[..., None, None]  # (R, P, P, 1, samples)
    return _bilinear(features, batch, y, x).mean((3, 4)).permute(0, 3, 1, 2).contiguous()


def _positions(low: Tensor, high: Tensor, bins: int, samples: int) -> Tensor:
    """Return (R, bins * samples) equally spaced positions; pixel i's centre is at i."""
    count = bins * samples
    steps = (torch.arange(count, device=low.device, dtype=low.dtype) + 0.5) / count
    return low[:, None] + (high - low)[:, None] * steps - 0.5


def _bilinear(features: Tensor, batch: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return (R, P, P, samples, samples, C) interpolated values.

    A point within a pixel of the border takes the border's value, one farther out is 0.
    """
    _, channels, height, width = features.shape
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.detach().floor().long(), x.detach().floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = y - top, x - left
    pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
    first = (batch * height)[:, None, None, None, None]

    def corner(row: Tensor, column: Tensor, weight: Tensor) -> Tensor:
        index = (first + row) * width + column
        values = pixels.index_select(0, index.flatten()).view(*index.shape, channels)
        return values * (weight * inside)[..., None]

    return (
        corner(top, left, (1 - down) * (1 - across))
        + corner(top, right, (1 - down) * across)
        + corner(bottom, left, down * (1 - across))
        + corner(bottom, right, down * across)
    )


def _save(ctx, inputs: tuple, output: Tensor) -> None:  # noqa: ARG001  (torch names it)
    ctx.save_for_backward(*inputs[:3])
    ctx.scale_samples_gamma = inputs[4:]


@once_differentiable
def _backward(ctx, gradient: Tensor) -> tuple:
    """Evaluate the formula again, and let autograd take its derivative."""
    features, boxes, offsets = ctx.saved_tensors
    with torch.enable_grad():
        features, offsets = features.detach().requires_grad_(), offsets.detach().requires_grad_()
        pooled = _pool(features, boxes, offsets, *ctx.scale_samples_gamma)
        to_features, to_offsets = torch.autograd.grad(pooled, (features, offsets), gradient)
    return to_features, None, to_offsets, None, None, None, None


deform_roi_pool.register_autograd(_backward, setup_context=_save)
