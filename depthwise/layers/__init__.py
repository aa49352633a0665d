"""What networks are made of. Each layer maps (N, C, H, W) to (N, K, H', W') unless it says more."""

from depthwise.layers.act import Act, Clamp, hardsigmoid, hardswish, relu, relu6
from depthwise.layers.conv import (
    Conv2dSame,
    ConvFactory,
    ConvNormAct,
    Kernel,
    PlainSeparableConv,
    ResizeConv,
    SeparableConv,
    conv_norm_act,
    depthwise,
    pointwise,
    same_padding,
    standard,
    tensorflow_padding,
    transposed,
)
from depthwise.layers.deform import DeformConv
from depthwise.layers.ghost import GhostBottleneck, GhostModule
from depthwise.layers.init import initialize
from depthwise.layers.inverted import Cell, InvertedResidual, LinearBottleneck
from depthwise.layers.norm import Norm, NormKind, norm, normalize
from depthwise.layers.roi import DeformRoIPool, deform_roi_pool
from depthwise.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "Act",
    "Cell",
    "Clamp",
    "Conv2dSame",
    "ConvFactory",
    "ConvNormAct",
    "DeformConv",
    "DeformRoIPool",
    "GhostBottleneck",
    "GhostModule",
    "InvertedResidual",
    "Kernel",
    "LinearBottleneck",
    "Norm",
    "NormKind",
    "PlainSeparableConv",
    "ResizeConv",
    "SeparableConv",
    "SqueezeExcite",
    "conv_norm_act",
    "deform_roi_pool",
    "depthwise",
    "hardsigmoid",
    "hardswish",
    "initialize",
    "norm",
    "normalize",
    "pointwise",
    "relu",
    "relu6",
    "same_padding",
    "standard",
    "tensorflow_padding",
    "transposed",
]
