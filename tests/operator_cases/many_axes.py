"""Values of six to eight axes: windows with heads, whose axes do not merge."""

import torch
import torch.nn.functional as F
from torch import nn

from operator_cases.building import Function

SEVEN, PERMUTED = (2, 3, 2, 2, 3, 2, 2), (6, 2, 4, 0, 5, 3, 1)
EIGHT = (2, 1, 2, 3, 2, 2, 2, 2)
LEFT, RIGHT = (2, 1, 2, 2, 2, 3, 4), (2, 3, 2, 2, 2, 4, 5)  # of matrices, five axes before them
TURNED = (4, 3, 2, 1, 0, 5, 6)


def compute(x, y, left, right):
    t = x.permute(PERMUTED)
    return (
        t.sigmoid(), x + y[:, 0, :1, :1, :1, :1], t * t.amin(2, keepdim=True),
        torch.cat([x, -x], 3), F.pad(x, (1, 0, 0, 1)), F.softmax(t, 3), F.layer_norm(t, (2, 3)),
        x.sum((0, 2, 4, 6)), t.amax((0, 2, 4)), t.mean((1, 3, 5), keepdim=True), y.sum(),
        y.mean((1, 3, 5, 7)), left @ right, left.permute(TURNED) @ right.permute(TURNED),
    )  # fmt: skip


CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "many axes": (Function(compute), [SEVEN, EIGHT, LEFT, RIGHT]),
}
