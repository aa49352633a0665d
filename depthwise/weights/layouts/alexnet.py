"""AlexNet's checkpoints: torchvision's. The paper's own network has none in common use."""

from depthwise.weights.layouts.layout import CheckpointLayout

TORCHVISION = CheckpointLayout(
    "torchvision",
    rename=(
        (r"^features\.0\.", "stem.conv."),
        (r"^features\.3\.", "blocks.0.conv."),
        (r"^features\.6\.", "blocks.1.conv."),
        (r"^features\.8\.", "blocks.2.conv."),
        (r"^features\.10\.", "blocks.3.conv."),
        (r"^classifier\.1\.", "head.fc6."),
        (r"^classifier\.4\.", "head.fc7."),
        (r"^classifier\.6\.", "head.fc8."),
    ),
)

LAYOUTS = {"alexnet_torchvision": (TORCHVISION,)}
