"""What networks are made of. Each layer maps (N, C, H, W) to (N, K, H', W') unless it says more."""

from depthwise.layers.act import Act, Clamp, hardsigmoid, hardswish, relu, relu6
from depthwise.layers.conv import (
    Conv2dSame,
    ConvFactory,
    ConvNormAct,
    KernelSize,
    PlainSeparableConv,
    ResizeConv,
    SeparableConv,
    conv2d,
    conv_norm_act,
    conv_transpose2d,
    depthwise_conv2d,
    pointwise_conv2d,
    same_padding,
    tensorflow_padding,
)
from depthwise.layers.deform import DeformConv
from depthwise.layers.ghost import GhostBottleneck, GhostModule
from depthwise.layers.init import initialize
from depthwise.layers.inverted import Cell, InvertedResidual, LinearBottleneck
from depthwise.layers.norm import Norm, NormKind, norm, normalize
from depthwise.layers.reparameterize import add_branches, fold_branches
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
    "KernelSize",
    "LinearBottleneck",
    "Norm",
    "NormKind",
    "PlainSeparableConv",
    "ResizeConv",
    "SeparableConv",
    "SqueezeExcite",
    "add_branches",
    "conv2d",
    "conv_norm_act",
    "conv_transpose2d",
    "deform_roi_pool",
    "depthwise_conv2d",
    "fold_branches",
    "hardsigmoid",
    "hardswish",
    "initialize",
    "norm",
    "normalize",
    "pointwise_conv2d",
    "relu",
    "relu6",
    "same_padding",
    "tensorflow_padding",
]
