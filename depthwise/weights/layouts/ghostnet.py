"""GhostNet's checkpoints, as the released code and timm name them."""

from depthwise.weights.layouts.layout import CheckpointLayout, flatten_stages

_GHOST = (
    (r"\.primary_conv\.0\.", ".primary.conv."),
    (r"\.primary_conv\.1\.", ".primary.norm."),
    (r"\.cheap_operation\.0\.", ".cheap.conv."),
    (r"\.cheap_operation\.1\.", ".cheap.norm."),
)

TIMM = CheckpointLayout(
    "timm",
    rename=(
        (r"^conv_stem\.", "stem.conv."),
        (r"^bn1\.", "stem.norm."),
        (r"^blocks\.9\.0\.conv\.", "neck.conv."),
        (r"^blocks\.9\.0\.bn1\.", "neck.norm."),
        *flatten_stages("blocks", (1, 1, 1, 1, 1, 1, 5, 1, 4)),
        *_GHOST,
        (r"\.ghost1\.", ".expand."),
        (r"\.conv_dw\.", ".depthwise.conv."),
        (r"\.bn_dw\.", ".depthwise.norm."),
        (r"\.se\.conv_reduce\.", ".gate.reduce."),
        (r"\.se\.conv_expand\.", ".gate.expand."),
        (r"\.ghost2\.", ".project."),
        (r"\.shortcut\.1\.", ".shortcut.0.norm."),
        (r"\.shortcut\.3\.", ".shortcut.1.norm."),
        (r"\.shortcut\.0\.weight", ".shortcut.0.conv.weight"),
        (r"\.shortcut\.2\.weight", ".shortcut.1.conv.weight"),
        (r"^conv_head\.", "head.hidden."),
        (r"^classifier\.", "head.linear."),
    ),
)

LAYOUTS = {"ghostnet": (TIMM,)}
