"""Inception v3's checkpoints: torchvision and timm name their tensors alike."""

from depthwise.weights.layouts.layout import CheckpointLayout

_STEM = {
    "Conv2d_1a_3x3": "conv1",
    "Conv2d_2a_3x3": "conv2",
    "Conv2d_2b_3x3": "conv3",
    "Conv2d_3b_1x1": "conv4",
    "Conv2d_4a_3x3": "conv5",
}
_BRANCHES = {
    "branch1x1": "conv1x1",
    "branch_pool": "pool.project",
    "branch5x5_1": "conv5x5.reduce",
    "branch5x5_2": "conv5x5.conv",
    "branch3x3dbl_1": "double3x3.reduce",
    "branch7x7_1": "conv7x7.reduce",
    "branch7x7_2": "conv7x7.row",
    "branch7x7_3": "conv7x7.column",
    "branch7x7dbl_1": "double7x7.reduce",
    "branch7x7dbl_2": "double7x7.column1",
    "branch7x7dbl_3": "double7x7.row1",
    "branch7x7dbl_4": "double7x7.column2",
    "branch7x7dbl_5": "double7x7.row2",
    "branch7x7x3_1": "conv7x7.reduce",
    "branch7x7x3_2": "conv7x7.row",
    "branch7x7x3_3": "conv7x7.column",
    "branch7x7x3_4": "conv7x7.conv",
    "branch3x3": "conv3x3",
    "branch3x3_1": "conv3x3.reduce",
    "branch3x3_2": "conv3x3.conv",
    "branch3x3_2a": "conv3x3.split.row",
    "branch3x3_2b": "conv3x3.split.column",
    "branch3x3dbl_3a": "double3x3.split.row",
    "branch3x3dbl_3b": "double3x3.split.column",
}

# torchvision's weights, and those of timm that were ported from them or from TensorFlow, expect
# (pixel / 255 - 0.5) / 0.5; torchvision converts from ImageNet's own normalisation when it loads
# them (transform_input).
TORCHVISION = CheckpointLayout(
    "torchvision",
    rename=(
        (r"\.bn\.", ".norm."),
        *((rf"^{theirs}\.", f"stem.{ours}.") for theirs, ours in _STEM.items()),
        (r"^Mixed_(\d\w)\.", r"blocks.mixed_\1."),
        *((rf"\.{theirs}\.", f".{ours}.") for theirs, ours in _BRANCHES.items()),
        # the 8x8 modules have one 3x3 in front of their split, all others two in a row
        (r"(mixed_7[bc])\.branch3x3dbl_2\.", r"\1.double3x3.conv."),
        (r"\.branch3x3dbl_2\.", ".double3x3.first."),
        (r"\.branch3x3dbl_3\.", ".double3x3.second."),
        (r"^fc\.", "head.1."),
    ),
    ignore=(r"^AuxLogits\.",),
)
TIMM = TORCHVISION._replace(name="timm")

LAYOUTS = {"inception_v3": (TORCHVISION, TIMM)}
