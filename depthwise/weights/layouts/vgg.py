"""VGG's checkpoints, as torchvision and timm name them."""

from depthwise.families.vgg import VGG16
from depthwise.weights.layouts.layout import CheckpointLayout


def _features(members: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Name the layers that both count through: each cell's `members`, its ReLU, and the pools."""
    pairs = []
    position = 0
    for stage, row in enumerate(VGG16):
        for index in range(row.repeat):
            for offset, member in enumerate(members):
                theirs = rf"^features\.{position + offset}\."
                pairs.append((theirs, f"blocks.{stage}.{index}.{member}."))
            position += len(members) + 1
        position += 1
    return tuple(pairs)


_TORCHVISION_HEAD = (
    (r"^classifier\.0\.", "head.fc6."),
    (r"^classifier\.3\.", "head.fc7."),
    (r"^classifier\.6\.", "head.fc8."),
)
# convolutions over the 7x7 maps there: the same numbers in the same order as our linear layers
_TIMM_HEAD = (
    (r"^pre_logits\.fc1\.", "head.fc6."),
    (r"^pre_logits\.fc2\.", "head.fc7."),
    (r"^head\.fc\.", "head.fc8."),
)


def _layouts(members: tuple[str, ...]) -> tuple[CheckpointLayout, ...]:
    features = _features(members)
    return (
        CheckpointLayout("torchvision", (*features, *_TORCHVISION_HEAD)),
        CheckpointLayout("timm", (*features, *_TIMM_HEAD)),
    )


LAYOUTS = {"vgg16": _layouts(("conv",)), "vgg16_bn": _layouts(("conv", "norm"))}
