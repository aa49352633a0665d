"""Images in another size, and sampled at places that are computed."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align

from operator_cases.building import Function, X

PLACES = (2, 5, 4, 2)
BOXES = torch.tensor([[0, 1, 1, 7, 7.0], [1, -3, 2, 12, 20], [0, 5, 5, 4, 4]])

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "resize bicubic": (
        Function(lambda x: (
            F.interpolate(x, (5, 17), mode="bicubic"),
            F.interpolate(x, scale_factor=1.7, mode="bicubic"),
            F.interpolate(x, scale_factor=1.7, mode="bicubic", recompute_scale_factor=True),
            F.interpolate(x, scale_factor=(0.4, 2.3), mode="bicubic", align_corners=True),
            F.interpolate(x, (1, 1), mode="bicubic", align_corners=True),
        )),
        [X],
    ),
    "resize antialiased": (
        Function(lambda x: (
            F.interpolate(x, (3, 20), mode="bicubic", antialias=True),
            F.interpolate(x, (4, 4), mode="bilinear", antialias=True),
            F.interpolate(x, scale_factor=0.37, mode="bilinear", antialias=True),
            F.interpolate(x, (4, 4), mode="bicubic", antialias=True, align_corners=True),
        )),
        [X],
    ),
    "resize by areas and to the exact nearest": (
        Function(lambda x: (
            F.interpolate(x, (5, 7), mode="area"), F.interpolate(x, scale_factor=0.3, mode="area"),
            F.interpolate(x, (5, 17), mode="nearest-exact"),
            F.interpolate(x, scale_factor=1.7, mode="nearest-exact"),
        )),
        [X],
    ),
    "resize signals": (
        Function(lambda x: (
            F.interpolate(x, 5, mode="linear"), F.interpolate(x, scale_factor=1.7, mode="linear"),
            F.interpolate(x, 17, mode="linear", align_corners=True), F.interpolate(x, 13),
            F.interpolate(x, scale_factor=2), F.interpolate(x, scale_factor=1.3,
                                                            mode="nearest-exact"),
        )),
        [(2, 6, 9)],
    ),
    "sampled by a grid": (
        Function(lambda x, grid: tuple(
            F.grid_sample(x, 1.3 * grid, mode, outside, align_corners)
            for mode in ("bilinear", "nearest", "bicubic")
            for outside in ("zeros", "border", "reflection")
            for align_corners in (False, True)
        )),
        [X, PLACES],
    ),
    "sampled where it flows": (
        Function(lambda x, theta, flow: (
            F.grid_sample(x, F.affine_grid(theta, (2, 6, 5, 7), align_corners=False),
                          align_corners=False),
            F.grid_sample(x, F.affine_grid(theta, (2, 6, 4, 3), align_corners=True),
                          align_corners=True),
            F.grid_sample(x, 0.1 * flow.permute(0, 2, 3, 1) + torch.ones(9, 1, 2).cumsum(0) / 9 - 1,
                          align_corners=False),
            F.grid_sample(x, flow.permute(0, 2, 3, 1), padding_mode="border", align_corners=True),
        )),
        [X, (2, 2, 3), (2, 2, 9, 11)],
    ),
    "pooled regions": (
        Function(lambda x: (roi_align(x, BOXES, (3, 3), 0.5, 2, True),
                            roi_align(x, BOXES, 3, 0.5, 3, False),
                            roi_align(x, [BOXES[:1, 1:], BOXES[1:, 1:]], 2, 1, 1, True))),
        [X],
    ),
}  # fmt: skip
