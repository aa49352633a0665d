"""GoogLeNet's checkpoint, as torchvision names it."""

from depthwise.weights.layouts.layout import CheckpointLayout

# The published weights expect (pixel / 255 - 0.5) / 0.5: torchvision itself turns inputs that are
# normalised by ImageNet's mean and deviation into that when it loads them (transform_input).
TORCHVISION = CheckpointLayout(
    "torchvision",
    rename=(
        (r"\.bn\.", ".norm."),
        (r"^conv2\.", "stem.reduce2."),
        (r"^conv3\.", "stem.conv2."),
        (r"^conv1\.", "stem.conv1."),
        (r"^inception(\d\w)\.", r"blocks.inception_\1."),
        (r"\.branch1\.", ".conv1x1."),
        (r"\.branch2\.0\.", ".conv3x3.reduce."),
        (r"\.branch2\.1\.", ".conv3x3.conv."),
        (r"\.branch3\.0\.", ".conv5x5.reduce."),
        (r"\.branch3\.1\.", ".conv5x5.conv."),
        (r"\.branch4\.1\.", ".pool.project."),
        (r"^fc\.", "head.1."),
    ),
    ignore=(r"^aux[12]\.",),
)

LAYOUTS = {"googlenet_torchvision": (TORCHVISION,)}
