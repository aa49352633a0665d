"""Recurrent layers, attention and resampling that cannot be lowered are refused in words."""

import re

import pytest
import torch
import torch.nn.functional as F
from operator_cases import Function, X
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchvision.ops import roi_align

from depthwise.analysis.receptive_field import receptive_fields
from depthwise.errors import Unsupported
from depthwise.graph import capture, ops, trace

BOXES = torch.tensor([[0, 1, 1, 7, 7.0]])


class Packed(nn.Module):
    """A recurrent layer over sequences of several lengths."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 4)

    def forward(self, x):
        packed = pack_padded_sequence(x, torch.tensor([3, 2]))
        return pad_packed_sequence(self.lstm(packed)[0])[0]


REFUSED = {
    "packed": (Packed(), [(3, 2, 5)], "give recurrent layers the padded tensor itself in place of"),
    "diagonal": (
        Function(lambda x: torch.einsum("ii->i", x)), [(3, 3)],
        "operator aten.einsum.default in module '(the network itself)' (",
    ),
    "dropped": (
        Function(lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)), [(1, 4, 3)],
        "random",
    ),
    "volumes": (
        Function(lambda x, grid: F.grid_sample(x, grid, align_corners=False)),
        [(1, 2, 3, 4, 5), (1, 2, 2, 2, 3)], "samples volumes, where images (N, C, H, W) are",
    ),
    "grid of volumes": (
        Function(lambda x: F.affine_grid(x, (1, 2, 3, 4, 5), align_corners=False)), [(1, 3, 4)],
        "makes a grid of volumes",
    ),
    "as many samples as a region is large": (
        Function(lambda x: roi_align(x, BOXES, 3)), [X], "give it a sampling_ratio, such as 2",
    ),
    "oblong bins": (
        Function(lambda x: roi_align(x, BOXES, (3, 2), 1.0, 2)), [X], "give it one output_size",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("net", "shapes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_said_is_refused_in_words(net, shapes, message):
    with pytest.raises(Unsupported, match=re.escape(message)):
        capture(net, *shapes)


def test_what_a_rule_refuses_is_counted_as_unknown():
    graph = trace(REFUSED["diagonal"][0], (3, 3))
    (node,) = graph
    assert isinstance(node.op, ops.Opaque)
    assert node.op.reason.endswith("takes a diagonal: multiply by a mask of ones, as in x * eye, "
                                   "and sum")  # fmt: skip


def test_resampling_is_seen_as_wide_as_its_windows():
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=2, mode="bicubic"))
    graph = trace(net, (1, 1, 18, 18))
    field = receptive_fields(graph)[graph.outputs[0].value]
    assert field.size == (6, 6)  # 4 taps of 3 pixels, one apart
    assert field.step == (0.5, 0.5)
