"""SENet's checkpoints, as timm's `legacy_` networks and their Caffe originals name them."""

from depthwise.families.resnet import BOTTLENECK
from depthwise.weights.layouts.layout import CheckpointLayout
from depthwise.weights.layouts.resnet import name_blocks


def _blocks(depth: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    return (
        *name_blocks(depth, ("reduce", "spatial", "restore")),
        (r"\.se_module\.fc1\.", ".body.gate.reduce."),
        (r"\.se_module\.fc2\.", ".body.gate.expand."),
    )


SE_RESNET50_TIMM = CheckpointLayout(
    "timm",
    rename=(
        (r"^layer0\.conv1\.", "stem.cell.conv."),
        (r"^layer0\.bn1\.", "stem.cell.norm."),
        *_blocks(BOTTLENECK["resnet50"]),
        (r"^last_linear\.", "head."),
    ),
)

SENET154_TIMM = CheckpointLayout(
    "timm",
    rename=(
        (r"^layer0\.conv(\d)\.", r"stem.cell\1.conv."),
        (r"^layer0\.bn(\d)\.", r"stem.cell\1.norm."),
        *_blocks(BOTTLENECK["resnet152"]),
        (r"^last_linear\.", "head.1."),
    ),
)

LAYOUTS = {"se_resnet50": (SE_RESNET50_TIMM,), "senet154": (SENET154_TIMM,)}
