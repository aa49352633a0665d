"""Xception's checkpoints, as timm names them."""

from depthwise.families.xception import ENTRY, EXIT, MIDDLE
from depthwise.weights.layouts.layout import CheckpointLayout


def _modules() -> tuple[tuple[str, str], ...]:
    """Name the residual modules' members: timm numbers them, and the first ReLU is left out."""
    rename = []
    for i, row in enumerate((*ENTRY, *MIDDLE, *EXIT)):
        theirs, ours = rf"^block{i + 1}\.", f"blocks.{i}."
        for unit in range(len(row.out)):
            conv = 3 * unit + (1 if i > 0 else 0)
            rename += [(rf"{theirs}rep\.{conv}\.", f"{ours}body.{unit}.conv.")]
            rename += [(rf"{theirs}rep\.{conv + 1}\.", f"{ours}body.{unit}.norm.")]
        rename += [(rf"{theirs}skip\.", f"{ours}shortcut.conv.")]
        rename += [(rf"{theirs}skipbn\.", f"{ours}shortcut.norm.")]
    return tuple(rename)


TIMM = CheckpointLayout(
    "timm",
    rename=(
        (r"^conv1\.", "stem.0.conv."),
        (r"^bn1\.", "stem.0.norm."),
        (r"^conv2\.", "stem.1.conv."),
        (r"^bn2\.", "stem.1.norm."),
        *_modules(),
        (r"^conv3\.", "blocks.12.conv."),
        (r"^bn3\.", "blocks.12.norm."),
        (r"^conv4\.", "blocks.13.conv."),
        (r"^bn4\.", "blocks.13.norm."),
        (r"\.conv\.conv1\.", ".conv.depthwise."),
        (r"^fc\.", "head.1."),
    ),
)

LAYOUTS = {"xception": (TIMM,)}
