"""Inception-ResNet v2's checkpoints, as timm names them."""

from depthwise.weights.layouts.inception_v4 import (
    CONV1X1,
    CONV3X3,
    CONV7X7,
    DOUBLE3X3,
    POOL,
    rename_branches,
)
from depthwise.weights.layouts.layout import CheckpointLayout

_BLOCKS = {  # patterns of theirs, and our names
    "mixed_5b": "inception_a",
    **{rf"repeat\.{i}": f"residual_a{i + 1}" for i in range(10)},
    "mixed_6a": "reduction_a",
    **{rf"repeat_1\.{i}": f"residual_b{i + 1}" for i in range(20)},
    "mixed_7a": "reduction_b",
    **{rf"repeat_2\.{i}": f"residual_c{i + 1}" for i in range(9)},
    "block8": "residual_c10",
}
_CONV5X5 = ("conv5x5", "reduce", "conv")
_WIDE3X3 = ("wide3x3", "reduce", "conv")
_ROW_COLUMN = ("conv3x3", "reduce", "row", "column")

TIMM = CheckpointLayout(
    "timm",
    rename=(
        (r"^conv2d_1a\.", "stem.conv1."),
        (r"^conv2d_2a\.", "stem.conv2."),
        (r"^conv2d_2b\.", "stem.conv3."),
        (r"^conv2d_3b\.", "stem.conv4."),
        (r"^conv2d_4a\.", "stem.conv5."),
        (r"^conv2d_7b\.", "neck."),
        *((rf"^{theirs}\.", f"blocks.{ours}.") for theirs, ours in _BLOCKS.items()),
        (r"\.conv2d\.", ".mix."),
        (r"^(blocks\.residual_\w+)\.branch", r"\1.branches.branch"),
        *rename_branches(r"blocks\.inception_a", CONV1X1, _CONV5X5, DOUBLE3X3, POOL),
        *rename_branches(r"blocks\.residual_a\d+\.branches", CONV1X1, CONV3X3, DOUBLE3X3),
        *rename_branches(r"blocks\.reduction_a", ("conv3x3",), DOUBLE3X3),
        *rename_branches(r"blocks\.residual_b\d+\.branches", CONV1X1, CONV7X7),
        *rename_branches(r"blocks\.reduction_b", _WIDE3X3, CONV3X3, DOUBLE3X3),
        *rename_branches(r"blocks\.residual_c\d+\.branches", CONV1X1, _ROW_COLUMN),
        (r"\.bn\.", ".norm."),
        (r"^classif\.", "head.1."),
    ),
)

LAYOUTS = {"inception_resnet_v2": (TIMM,)}
