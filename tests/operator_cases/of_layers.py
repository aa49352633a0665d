"""Each layer of ours."""

from depthwise import layers
from operator_cases.building import X

LAYERS = {
    "Conv2dSame": (layers.Conv2dSame(6, 4, 3, 2), [X]),
    "standard": (layers.conv2d(6, 4, 5, 2), [X]),
    "dilated": (layers.conv2d(6, 4, 3, dilation=2), [X]),
    "depthwise": (layers.depthwise_conv2d(6, 3, 2, multiplier=2), [X]),
    "pointwise": (layers.pointwise_conv2d(6, 4), [X]),
    "conv_norm_act": (layers.conv_norm_act(6, 4, 3), [X]),
    "SeparableConv": (layers.SeparableConv(6, 4), [X]),
    "PlainSeparableConv": (layers.PlainSeparableConv(6, 4), [X]),
    "ResizeConv": (layers.ResizeConv(6, 4), [X]),
    "transposed": (layers.conv_transpose2d(6, 4), [X]),
    "SqueezeExcite": (layers.SqueezeExcite(6, 3), [X]),
    "SqueezeExcite hard": (layers.SqueezeExcite(6, 3, gate=layers.hardsigmoid), [X]),
    "SqueezeExcite clamped": (layers.SqueezeExcite(6, 3, gate=layers.Clamp), [X]),
    "GhostModule": (layers.GhostModule(6, 7), [X]),
    "GhostBottleneck": (layers.GhostBottleneck(6, 12, 8, stride=2), [X]),
    "InvertedResidual": (layers.InvertedResidual(6, 12, 6), [X]),
    "DeformConv": (layers.DeformConv(6, 4), [X]),
    "DeformConv modulated": (layers.DeformConv(6, 4, modulated=True), [X]),
    **{f"norm {kind}": (layers.norm(kind, groups=3)(6), [X])
       for kind in ("batch", "layer", "instance", "group")},
}  # fmt: skip
