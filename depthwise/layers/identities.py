"""How the layers are each other's special cases: each function builds one side of an identity.

Weights are laid out as in torch: (K, C / groups, R, S) for a convolution and (C, K / groups, R, S)
for a transposed one. docs/identities.md explains them one by one.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.layers.conv import KernelSize, same_padding
from depthwise.layers.norm import normalize

# ---------------------------------------------------------------- grouped, depthwise, separable


def grouped_as_standard(weight: Tensor, groups: int) -> Tensor:
    """Return the standard convolution that equals a grouped one: zero between the groups.

    (K, C / groups, R, S) -> (K, C, R, S), block-diagonal in (K, C). Krizhevsky et al., 2012,
    section 3.2. With groups = C it is the depthwise convolution's.
    """
    out_channels, per_group, *taps = weight.shape
    if out_channels % groups:
        raise ValueError(f"{out_channels} output channels do not divide into groups={groups}")
    blocks = weight.reshape(groups, -1, per_group, *taps)
    dense = weight.new_zeros(groups, blocks.shape[1], groups, per_group, *taps)
    each = torch.arange(groups)
    dense[each, :, each] = blocks
    return dense.reshape(out_channels, groups * per_group, *taps)


def separable_as_standard(depthwise: Tensor, pointwise: Tensor, multiplier: int = 1) -> Tensor:
    """Return the one convolution that depthwise, then pointwise, amount to with nothing between.

    (C·m, 1, R, S) and (K, C·m, 1, 1) -> (K, C, R, S): w[k, c] is the sum of p[k, i] · d[i] over
    the m maps i of channel c. With m = 1 all kernels of an input channel are multiples of one:
    rank 1. arXiv:1704.04861, section 3.1.
    """
    maps = pointwise.shape[1]
    if depthwise.shape[:2] != (maps, 1) or maps % multiplier:
        raise ValueError(
            f"depthwise weights are {tuple(depthwise.shape)} and pointwise weights "
            f"{tuple(pointwise.shape)}: with multiplier={multiplier} they must be "
            "(C * multiplier, 1, R, S) and (K, C * multiplier, 1, 1)"
        )
    return (pointwise * depthwise.transpose(0, 1)).unflatten(1, (-1, multiplier)).sum(2)


def standard_as_separable(weight: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Return the nearest depthwise and pointwise weights, `multiplier` kernels an input channel.

    (K, C, R, S) -> (C·m, 1, R, S), (K, C·m, 1, 1), by singular values: the least squared error
    that any pair has, and none at all once m >= min(K, R·S).
    """
    out_channels, in_channels, *taps = weight.shape
    left, values, right = torch.linalg.svd(
        weight.permute(1, 0, 2, 3).flatten(2), full_matrices=False
    )
    if not 1 <= multiplier <= values.shape[1]:
        raise ValueError(f"multiplier={multiplier}: 1 to {values.shape[1]} are accepted here")
    pointwise = left[:, :, :multiplier] * values[:, None, :multiplier]  # (C, K, m)
    depthwise = right[:, :multiplier]  # (C, m, R·S)
    return (
        depthwise.reshape(in_channels * multiplier, 1, *taps),
        pointwise.permute(1, 0, 2).reshape(out_channels, in_channels * multiplier, 1, 1),
    )


# ---------------------------------------------------------------- Inception to Xception


class Tower(NamedTuple):
    """A tower of the simplified Inception module: 1x1, then one spatial convolution."""

    pointwise: Tensor  # (M, C, 1, 1)
    spatial: Tensor  # (K, M, R, S), R and S odd


def simplified_inception(x: Tensor, towers: Sequence[Tower]) -> Tensor:
    """Return the towers' outputs, concatenated: arXiv:1610.02357, figure 2. 'Same' padding."""
    return torch.cat([_same(F.conv2d(x, t.pointwise), t.spatial) for t in towers], 1)


def segmented_inception(x: Tensor, towers: Sequence[Tower]) -> Tensor:
    """Return the same from one 1x1 convolution, then a spatial one on each segment of its maps.

    arXiv:1610.02357, figure 3: towers that read the same input stack their 1x1 weights. Anything
    that works element by element may stand between, as Inception's ReLU does.
    """
    maps = F.conv2d(x, torch.cat([t.pointwise for t in towers]))
    segments = maps.split([t.spatial.shape[1] for t in towers], 1)
    return torch.cat([_same(m, t.spatial) for m, t in zip(segments, towers, strict=True)], 1)


def extreme_inception(x: Tensor, towers: Sequence[Tower]) -> Tensor:
    """Return the same for towers of one map each: a 1x1 convolution, then a depthwise one.

    arXiv:1610.02357, figure 4: the separable convolution, its two halves in the other order.
    """
    for index, tower in enumerate(towers):
        if tower.spatial.shape[:2] != (1, 1):
            raise ValueError(
                f"tower {index} has spatial weights {tuple(tower.spatial.shape)}: the extreme "
                "form has one map a tower, (1, 1, R, S)"
            )
    maps = F.conv2d(x, torch.cat([t.pointwise for t in towers]))
    return _same(maps, torch.cat([t.spatial for t in towers]), groups=len(towers))


def _same(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    height, width = weight.shape[2:]
    return F.conv2d(x, weight, padding=same_padding((height, width)), groups=groups)


# ---------------------------------------------------------------- transposed, dilated, deformable


def insert_zeros(x: Tensor, step: int) -> Tensor:
    """Return x with step - 1 zeros between its neighbours: (..., H, W) -> (..., (H-1)·step+1, ·).

    Put into a kernel it makes the dilated convolution standard: arXiv:1511.07122, section 2. Put
    into the image it makes the transposed one standard: arXiv:1603.07285, section 4.
    """
    height, width = x.shape[-2:]
    spread = x.new_zeros(*x.shape[:-2], (height - 1) * step + 1, (width - 1) * step + 1)
    spread[..., ::step, ::step] = x
    return spread


def transposed_weight_as_standard(weight: Tensor, groups: int = 1) -> Tensor:
    """Swap input and output channels within each group and turn each kernel by 180 degrees.

    (C, K / groups, R, S) -> (K, C / groups, R, S).
    """
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)


def transposed_as_standard(
    x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, output_padding: int = 0,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """Compute F.conv_transpose2d as zero insertion, then a standard convolution of stride 1.

    Dumoulin & Visin, arXiv:1603.07285, sections 4.3 and 4.6: the border is kernel - 1 - padding
    wide, and output_padding wider below and to the right.
    """
    rows, columns = (size - 1 - padding for size in weight.shape[2:])
    border = (columns, columns + output_padding, rows, rows + output_padding)
    spread = F.pad(insert_zeros(x, stride), border)  # a negative border crops
    return F.conv2d(spread, transposed_weight_as_standard(weight, groups), groups=groups)


def dilation_offsets(kernel_size: KernelSize, dilation: int) -> Tensor:
    """Return the offsets, (2·R·S, 1, 1), with which a deformable convolution is the dilated one.

    Each tap, y before x, is moved away from the centre to where dilation would put it; dilation 1
    gives zeros and the standard convolution. arXiv:1703.06211, section 2.1. `kernel_size` is odd.
    """
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    if height % 2 == 0 or width % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size}: must be odd, to have a centre")
    y, x = (torch.arange(size) - size // 2 for size in (height, width))
    taps = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1)  # (R, S, 2)
    return (taps * (dilation - 1)).reshape(-1, 1, 1)


# ---------------------------------------------------------------- normalisation


def normalize_groups(x: Tensor, groups: int, eps: float = 1e-5) -> Tensor:
    """Return group normalisation before its affine step: (N, C, H, W), over C / groups, H and W.

    arXiv:1803.08494, section 3.1: 1 group is layer normalisation, C groups instance normalisation.
    """
    return normalize(x.unflatten(1, (groups, -1)), (2, 3, 4), eps).flatten(1, 2)


Convolution = TypeVar("Convolution", nn.Conv2d, nn.ConvTranspose2d)


def fold_batchnorm(conv: Convolution, norm: nn.BatchNorm2d) -> Convolution:
    """Return one convolution that equals norm(conv(x)) in evaluation.

    w * s and (b - mean) * s + beta, with s = gamma / sqrt(var + eps) for each output channel.
    Raises ValueError for a norm without running statistics or of other channels than conv's.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("the BatchNorm keeps no running statistics: there is nothing to fold")
    if norm.num_features != conv.out_channels:
        raise ValueError(
            f"a BatchNorm of {norm.num_features} channels cannot follow a convolution "
            f"of {conv.out_channels}"
        )
    folded = copy.deepcopy(conv)
    with torch.no_grad():
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
        bias = shift * scale if norm.bias is None else shift * scale + norm.bias
        folded.weight.copy_(_scale_outputs(conv, scale))
    folded.bias = nn.Parameter(bias)
    return folded


def _scale_outputs(conv: nn.Conv2d | nn.ConvTranspose2d, scale: Tensor) -> Tensor:
    if isinstance(conv, nn.Conv2d):
        return conv.weight * scale.view(-1, 1, 1, 1)
    by_group = scale.view(conv.groups, 1, -1, 1, 1)
    return (conv.weight.unflatten(0, (conv.groups, -1)) * by_group).flatten(0, 1)


def batchnorm_backward(
    x: Tensor, gamma: Tensor, dy: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients (dx, dgamma, dbeta) of batch normalisation in training.

    x and dy are (N, C, H, W). Ioffe & Szegedy, arXiv:1502.03167, section 3, contracted: dx is dy
    less its own mean and its part along the normalised x, since the mean and the variance move
    with every pixel.
    """
    over = (0, 2, 3)
    normal = normalize(x, over, eps)
    dgamma, dbeta = (dy * normal).sum(over), dy.sum(over)
    pixels = x.numel() // x.shape[1]
    scale = gamma * torch.rsqrt(x.var(over, unbiased=False) + eps)
    rest = dy - (_per_channel(dbeta) + normal * _per_channel(dgamma)) / pixels
    return _per_channel(scale) * rest, dgamma, dbeta


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


# ---------------------------------------------------------------- linear bottlenecks


class ReluLoss(NamedTuple):
    """What ReLU in `dimensions` dimensions costs a figure that lives in a plane."""

    dimensions: int
    error: float  # relative, of the way back that is linear: 0 is perfect, 1 is all lost
    lost: float  # share of points that no way back can find: fewer than 2 coordinates are left


def spiral(points: int = 300, turns: float = 2.0) -> Tensor:
    """Return (points, 2) of an Archimedean spiral, from the origin out to radius 1, float64."""
    radius = torch.arange(1, points + 1, dtype=torch.float64) / points
    angle = 2 * torch.pi * turns * radius
    return radius[:, None] * torch.stack((angle.cos(), angle.sin()), 1)


def relu_and_back(points: Tensor, embed: Tensor) -> Tensor:
    """Embed (M, 2) points by a (2, n) matrix, apply ReLU, return by its pseudo-inverse: (M, 2).

    Sandler et al., arXiv:1801.04381, figure 1.
    """
    return F.relu(points @ embed) @ torch.linalg.pinv(embed)


def relu_losses(
    dimensions: Sequence[int] = (2, 3, 5, 15, 30), draws: int = 200, seed: int = 0
) -> list[ReluLoss]:
    """Repeat the experiment of arXiv:1801.04381, figure 1, over `draws` random matrices; means.

    The error is what remains after the best linear map of the plane, which the figure leaves to
    the eye: ReLU halves the points on average, and halving loses nothing. Of n random coordinates
    a point has fewer than 2 positive ones with probability (n + 1) / 2ⁿ.
    """
    points = spiral()
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for n in dimensions:
        errors, lost = [], []
        for _ in range(draws):
            embed = torch.randn(2, n, generator=generator, dtype=points.dtype)
            back = relu_and_back(points, embed)
            fitted = back @ torch.linalg.lstsq(back, points).solution
            errors.append((fitted - points).norm() / points.norm())
            lost.append(((points @ embed > 0).sum(1) < 2).double().mean())
        losses.append(
            ReluLoss(n, torch.stack(errors).mean().item(), torch.stack(lost).mean().item())
        )
    return losses
