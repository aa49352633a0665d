"""Inception v4's checkpoints, as timm names them."""

from depthwise.weights.layouts.layout import CheckpointLayout

# our name of a branch, then those of its steps; a branch of one convolution has no steps
CONV1X1 = ("conv1x1",)
CONV3X3 = ("conv3x3", "reduce", "conv")
CONV7X7 = ("conv7x7", "reduce", "row", "column")
DOUBLE3X3 = ("double3x3", "reduce", "first", "second")
POOL = ("pool", "pool", "project")

_DOUBLE7X7 = ("double7x7", "reduce", "column1", "row1", "column2", "row2")
_REDUCING7X7 = (*CONV7X7, "conv")


def rename_branches(block: str, *branches: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return renames for the blocks that match `block`; timm numbers branches and their steps."""
    pairs = []
    for number, (name, *steps) in enumerate(branches):
        theirs, ours = rf"^({block})\.branch{number}\.", rf"\1.{name}."
        if not steps:
            pairs.append((theirs, ours))
        pairs += [(rf"{theirs}{i}\.", f"{ours}{step}.") for i, step in enumerate(steps)]
    return tuple(pairs)


_FEATURES = (
    *("stem.conv1", "stem.conv2", "stem.conv3"),
    *("stem.reduction1", "stem.mixed", "stem.reduction2"),
    *(f"blocks.inception_a{i}" for i in range(1, 5)),
    "blocks.reduction_a",
    *(f"blocks.inception_b{i}" for i in range(1, 8)),
    "blocks.reduction_b",
    *(f"blocks.inception_c{i}" for i in range(1, 4)),
)

TIMM = CheckpointLayout(
    "timm",
    rename=(
        *((rf"^features\.{i}\.", f"{name}.") for i, name in enumerate(_FEATURES)),
        (r"^(stem\.reduction\d)\.conv\.", r"\1.conv3x3."),
        *rename_branches(r"stem\.mixed", CONV3X3, _REDUCING7X7),
        *rename_branches(r"blocks\.inception_a\d", CONV1X1, CONV3X3, DOUBLE3X3, POOL),
        *rename_branches(r"blocks\.reduction_a", ("conv3x3",), DOUBLE3X3),
        *rename_branches(r"blocks\.inception_b\d", CONV1X1, CONV7X7, _DOUBLE7X7, POOL),
        *rename_branches(r"blocks\.reduction_b", CONV3X3, _REDUCING7X7),
        # what is left are the modules whose branches split again
        (r"\.branch0\.", ".conv1x1."),
        (r"\.branch1_0\.", ".conv3x3.reduce."),
        (r"\.branch1_1a\.", ".conv3x3.split.row."),
        (r"\.branch1_1b\.", ".conv3x3.split.column."),
        (r"\.branch2_0\.", ".double3x3.reduce."),
        (r"\.branch2_1\.", ".double3x3.column."),
        (r"\.branch2_2\.", ".double3x3.row."),
        (r"\.branch2_3a\.", ".double3x3.split.row."),
        (r"\.branch2_3b\.", ".double3x3.split.column."),
        (r"\.branch3\.1\.", ".pool.project."),
        (r"\.bn\.", ".norm."),
        (r"^last_linear\.", "head.1."),
    ),
)

LAYOUTS = {"inception_v4": (TIMM,)}
