"""ResNet's checkpoints: torchvision and timm name them alike."""

from depthwise.families.resnet import BASIC, BOTTLENECK
from depthwise.weights.layouts.layout import CheckpointLayout, flatten_stages


def name_blocks(depth: tuple[int, ...], members: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the renames of layer1 to layer4, whose conv1, bn1, conv2 ... are `members` with us."""
    return (
        *((rf"^layer{stage + 1}\.", f"blocks.{stage}.") for stage in range(len(depth))),
        *flatten_stages("blocks", depth),
        *((rf"\.conv{i}\.", f".body.{member}.conv.") for i, member in enumerate(members, 1)),
        *((rf"\.bn{i}\.", f".body.{member}.norm.") for i, member in enumerate(members, 1)),
        (r"\.downsample\.0\.", ".shortcut.conv."),
        (r"\.downsample\.1\.", ".shortcut.norm."),
    )


def _layout(depth: tuple[int, ...], members: tuple[str, ...]) -> CheckpointLayout:
    return CheckpointLayout(
        "torchvision and timm",
        rename=(
            (r"^conv1\.", "stem.cell.conv."),
            (r"^bn1\.", "stem.cell.norm."),
            *name_blocks(depth, members),
            (r"^fc\.", "head."),
        ),
    )


LAYOUTS = {
    **{name: (_layout(depth, ("first", "second")),) for name, depth in BASIC.items()},
    **{
        name: (_layout(depth, ("reduce", "spatial", "restore")),)
        for name, depth in BOTTLENECK.items()
    },
}
