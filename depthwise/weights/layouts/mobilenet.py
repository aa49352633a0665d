"""MobileNet's checkpoints, as torchvision and timm name them."""

from depthwise.families.mobilenet import V2, V3, Bneck
from depthwise.weights.layouts.layout import CheckpointLayout, flatten_stages

V1_TIMM = CheckpointLayout(
    "timm",
    rename=(
        (r"^conv_stem\.", "stem.conv."),
        (r"^bn1\.", "stem.norm."),
        *flatten_stages("blocks", (1, 2, 2, 6, 2)),
        (r"\.conv_dw\.", ".depthwise.conv."),
        (r"(blocks\.\d+)\.bn1\.", r"\1.depthwise.norm."),
        (r"\.conv_pw\.", ".pointwise.conv."),
        (r"(blocks\.\d+)\.bn2\.", r"\1.pointwise.norm."),
        (r"^classifier\.", "head."),
    ),
)

_TIMM_BLOCK = (
    (r"\.conv_dw\.", ".depthwise.conv."),
    (r"\.conv_pwl\.", ".project.conv."),
    (r"\.se\.conv_reduce\.", ".gate.reduce."),
    (r"\.se\.conv_expand\.", ".gate.expand."),
    # the first block does not expand: its conv_pw projects and its norms are numbered one lower
    (r"^blocks\.0\.conv_pw\.", "blocks.0.project.conv."),
    (r"^blocks\.0\.bn1\.", "blocks.0.depthwise.norm."),
    (r"^blocks\.0\.bn2\.", "blocks.0.project.norm."),
    (r"\.conv_pw\.", ".expand.conv."),
    (r"(blocks\.\d+)\.bn1\.", r"\1.expand.norm."),
    (r"(blocks\.\d+)\.bn2\.", r"\1.depthwise.norm."),
    (r"(blocks\.\d+)\.bn3\.", r"\1.project.norm."),
)
_TIMM_STEM = ((r"^conv_stem\.", "stem.conv."), (r"^bn1\.", "stem.norm."))

V2_TIMM = CheckpointLayout(
    "timm",
    rename=(
        *_TIMM_STEM,
        (r"^conv_head\.", "neck.conv."),
        (r"^bn2\.", "neck.norm."),
        *flatten_stages("blocks", tuple(row.repeat for row in V2)),
        *_TIMM_BLOCK,
        (r"^classifier\.", "head.1."),
    ),
)


def _torchvision_cell(index: str, name: str) -> tuple[tuple[str, str], ...]:
    return ((rf"{index}\.0\.", f"{name}.conv."), (rf"{index}\.1\.", f"{name}.norm."))


V2_TORCHVISION = CheckpointLayout(
    "torchvision",
    rename=(
        *_torchvision_cell(r"^features\.0", "stem"),
        *_torchvision_cell(r"^features\.18", "neck"),
        *_torchvision_cell(r"^features\.1\.conv\.0", "blocks.0.depthwise"),
        (r"^features\.1\.conv\.1\.", "blocks.0.project.conv."),
        (r"^features\.1\.conv\.2\.", "blocks.0.project.norm."),
        *((rf"^features\.{i + 1}\.conv\.", f"blocks.{i}.") for i in range(1, 17)),
        *_torchvision_cell(r"^(blocks\.\d+)\.0", r"\1.expand"),
        *_torchvision_cell(r"^(blocks\.\d+)\.1", r"\1.depthwise"),
        (r"^(blocks\.\d+)\.2\.", r"\1.project.conv."),
        (r"^(blocks\.\d+)\.3\.", r"\1.project.norm."),
        (r"^classifier\.1\.", "head.1."),
    ),
)


def _v3_torchvision(rows: tuple[Bneck, ...]) -> CheckpointLayout:
    """Name torchvision's V3: a block's members are numbered, and absent ones have no number."""
    rename = [*_torchvision_cell(r"^features\.0", "stem")]
    in_channels = 16
    for i, row in enumerate(rows):
        names = ["expand"] * (row.expanded != in_channels) + ["depthwise"]
        names += ["gate"] * row.gate + ["project"]
        for position, name in enumerate(names):
            block = rf"^features\.{i + 1}\.block\.{position}"
            if name == "gate":
                rename += [(rf"{block}\.fc1\.", f"blocks.{i}.gate.reduce.")]
                rename += [(rf"{block}\.fc2\.", f"blocks.{i}.gate.expand.")]
            else:
                rename += _torchvision_cell(block, f"blocks.{i}.{name}")
        in_channels = row.out
    rename += _torchvision_cell(rf"^features\.{len(rows) + 1}", "neck")
    rename += [(r"^classifier\.0\.", "head.hidden."), (r"^classifier\.3\.", "head.linear.")]
    return CheckpointLayout("torchvision", tuple(rename))


def _v3_timm(stages: tuple[int, ...]) -> CheckpointLayout:
    return CheckpointLayout(
        "timm",
        rename=(
            *_TIMM_STEM,
            (rf"^blocks\.{len(stages)}\.0\.conv\.", "neck.conv."),
            (rf"^blocks\.{len(stages)}\.0\.bn1\.", "neck.norm."),
            *flatten_stages("blocks", stages),
            *_TIMM_BLOCK,
            (r"^conv_head\.", "head.hidden."),
            (r"^classifier\.", "head.linear."),
        ),
        batchnorm_eps=1e-5,
    )


LAYOUTS = {
    "mobilenet_v1": (V1_TIMM,),
    "mobilenet_v2": (V2_TORCHVISION, V2_TIMM),
    "mobilenet_v3_large": (
        _v3_torchvision(V3["mobilenet_v3_large"].rows), _v3_timm((1, 2, 3, 4, 2, 3)),
    ),
    "mobilenet_v3_small": (
        _v3_torchvision(V3["mobilenet_v3_small"].rows), _v3_timm((1, 2, 3, 2, 3)),
    ),
}  # fmt: skip
