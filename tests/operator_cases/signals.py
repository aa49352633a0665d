"""Signals (N, C, T), volumes with kernels (1, k, k), recurrent layers, attention."""

import torch
import torch.nn.functional as F
from torch import nn

from operator_cases.building import Function, scrambled

SIGNAL, VOLUME = (2, 6, 17), (2, 4, 3, 7, 6)

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "raw audio": (
        nn.Sequential(nn.Conv1d(1, 8, 9, 4), scrambled(nn.BatchNorm1d(8)), nn.ReLU(),
                      nn.MaxPool1d(4), nn.Conv1d(8, 6, 3, padding="same", dilation=2),
                      scrambled(nn.InstanceNorm1d(6, affine=True)), nn.AvgPool1d(2),
                      scrambled(nn.GroupNorm(2, 6)), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
                      nn.Linear(6, 5)),
        [(1, 1, 120)],
    ),
    "pooled signals": (
        Function(lambda x: (F.max_pool1d(x, 3, 2, 1), F.max_pool1d(x, 3, 2, 1, 2, ceil_mode=True),
                            F.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
                            F.avg_pool1d(x, 4, ceil_mode=True), F.adaptive_avg_pool1d(x, 4),
                            F.adaptive_max_pool1d(x, 5), F.lp_pool1d(x, 2, 3, 2),
                            F.max_pool1d(x[0], 2), F.avg_pool1d(x[1], 3),
                            F.adaptive_avg_pool1d(x[0], 3), F.adaptive_max_pool1d(x[0], 3))),
        [SIGNAL],
    ),
    "transposed signals": (nn.ConvTranspose1d(6, 4, 4, 2, 1, 1, 2, dilation=2), [SIGNAL]),
    "signals without a batch": (
        nn.Sequential(nn.Conv1d(6, 4, 3, 2, 1), nn.ConvTranspose1d(4, 3, 3, 2)), [(6, 17)],
    ),
    "resized signals": (
        Function(lambda x: (F.interpolate(x, scale_factor=2.0), F.interpolate(x, 11),
                            F.interpolate(x, scale_factor=1.7),
                            F.interpolate(x, scale_factor=2.0, mode="linear"),
                            F.interpolate(x, 29, mode="linear", align_corners=True),
                            F.interpolate(x, scale_factor=0.7, mode="linear"))),
        [SIGNAL],
    ),
    "padded signals": (
        Function(lambda x: (F.pad(x, (3, 2), mode="reflect"), F.pad(x, (3, 0), mode="circular"),
                            F.pad(x, (1, 4), mode="replicate"), F.pad(x[0], (2, 1), mode="reflect"),
                            F.pad(x, (-1, 2), value=1.0))),
        [SIGNAL],
    ),
    "images without a batch": (
        Function(lambda x: (F.max_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.lp_pool2d(x, 2, 2),
                            F.adaptive_avg_pool2d(x, (2, 3)), F.adaptive_max_pool2d(x, 2),
                            F.pad(x, (1, 1, 1, 1), mode="reflect"), F.channel_shuffle(x, 3),
                            F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 3),
                            F.instance_norm(x[None])[0])),
        [(4, 9, 12)],
    ),
    "convolved planes of volumes": (
        nn.Sequential(nn.Conv3d(4, 6, (1, 3, 3), (2, 1, 2), (0, 1, 1)),
                      scrambled(nn.BatchNorm3d(6)), nn.ReLU(),
                      nn.ConvTranspose3d(6, 4, (1, 2, 2), (1, 2, 2)),
                      nn.Conv3d(4, 6, (2, 3, 1), padding=(0, 1, 0), groups=2),
                      nn.Conv3d(6, 5, 3, padding=1), scrambled(nn.GroupNorm(5, 5))),
        [VOLUME],
    ),
    "volumes without a batch": (
        nn.Conv3d(4, 6, (5, 3, 3), 1, (4, 1, 1), (2, 1, 1)), [(4, 1, 7, 6)],
    ),
    "pooled volumes": (
        Function(lambda x: (F.max_pool3d(x, (1, 3, 3), (2, 1, 2)),
                            F.max_pool3d(x, 2, ceil_mode=True),
                            F.max_pool3d(x[0], (2, 3, 3), (1, 2, 1), (1, 1, 1), (2, 1, 1)),
                            F.avg_pool3d(x, (1, 3, 3), (2, 1, 1)), F.avg_pool3d(x, 3, 2, 1),
                            F.avg_pool3d(x, 3, 2, 1, True, False),
                            F.avg_pool3d(x, (2, 3, 3), divisor_override=5),
                            F.adaptive_avg_pool3d(x, (2, 3, 3)), F.adaptive_avg_pool3d(x, 1),
                            F.adaptive_max_pool3d(x, (3, 2, 4)))),
        [VOLUME],
    ),
    "maxima of channels": (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool3d((1, 3, 3), (2, 1, 2)), nn.Conv2d(4, 4, 1)),
        [(1, 3, 12, 13)],
    ),
    "resized volumes": (
        Function(lambda x: (F.interpolate(x, scale_factor=2.0), F.interpolate(x, (3, 5, 11)),
                            F.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear"),
                            F.interpolate(x, (5, 9, 4), mode="trilinear", align_corners=True),
                            F.pad(x, (1, 2, 1, 0, 1, 1), mode="replicate"),
                            torch.roll(x, 1, 2))),
        [VOLUME],
    ),
}  # fmt: skip
