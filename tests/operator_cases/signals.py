"""Signals (N, C, T), volumes with kernels (1, k, k), recurrent layers, attention."""

import torch
import torch.nn.functional as F
from torch import nn

from operator_cases.building import Function, scrambled

SIGNAL, VOLUME = (2, 6, 17), (2, 4, 3, 7, 6)

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "raw audio": (
        nn.Sequential(nn.Conv1d(1, 8, 9, 4), scrambled(nn.BatchNorm1d(8)), nn.ReLU(),
                      nn.MaxPool1d(4), nn.Conv1d(8, 6, 3, padding="same", dilation=2),
                      scrambled(nn.InstanceNorm1d(6, affine=True)), nn.AvgPool1d(2),
                      scrambled(nn.GroupNorm(2, 6)), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
                      nn.Linear(6, 5)),
        [(1, 1, 120)],
    ),
    "pooled signals": (
        Function(lambda x: (F.max_pool1d(x, 3, 2, 1), F.max_pool1d(x, 3, 2, 1, 2, ceil_mode=True),
                            F.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
                            F.avg_pool1d(x, 4, ceil_mode=True), F.adaptive_avg_pool1d(x, 4),
                            F.adaptive_max_pool1d(x, 5), F.lp_pool1d(x, 2, 3, 2),
                            F.max_pool1d(x[0], 2), F.avg_pool1d(x[1], 3),
                            F.adaptive_avg_pool1d(x[0], 3), F.adaptive_max_pool1d(x[0], 3))),
        [SIGNAL],
    ),
    "transposed signals": (nn.ConvTranspose1d(6, 4, 4, 2, 1, 1, 2, dilation=2), [SIGNAL]),
    "signals without a batch": (
        nn.Sequential(nn.Conv1d(6, 4, 3, 2, 1), nn.ConvTranspose1d(4, 3, 3, 2)), [(6, 17)],
    ),
    "resized signals": (
        Function(lambda x: (F.interpolate(x, scale_factor=2.0), F.interpolate(x, 11),
                            F.interpolate(x, scale_factor=1.7),
                            F.interpolate(x, scale_factor=2.0, mode="linear"),
                            F.interpolate(x, 29, mode="linear", align_corners=True),
                            F.interpolate(x, scale_factor=0.7, mode="linear"))),
        [SIGNAL],
    ),
    "padded signals": (
        Function(lambda x: (F.pad(x, (3, 2), mode="reflect"), F.pad(x, (3, 0), mode="circular"),
                            F.pad(x, (1, 4), mode="replicate"), F.pad(x[0], (2, 1), mode="reflect"),
                            F.pad(x, (-1, 2), value=1.0))),
        [SIGNAL],
    ),
    "images without a batch": (
        Function(lambda x: (F.max_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.lp_pool2d(x, 2, 2),
                            F.adaptive_avg_pool2d(x, (2, 3)), F.adaptive_max_pool2d(x, 2),
                            F.pad(x, (1, 1, 1, 1), mode="reflect"), F.channel_shuffle(x, 3),
                            F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 3),
                            F.instance_norm(x[None])[0])),
        [(4, 9, 12)],
    ),
    "convolved planes of volumes": (
        nn.Sequential(nn.Conv3d(4, 6, (1, 3, 3), (2, 1, 2), (0, 1, 1)),
                      scrambled(nn.BatchNorm3d(6)), nn.ReLU(),
                      nn.ConvTranspose3d(6, 4, (1, 2, 2), (1, 2, 2)),
                      nn.Conv3d(4, 6, (2, 3, 1), padding=(0, 1, 0), groups=2),
                      nn.Conv3d(6, 5, 3, padding=1), scrambled(nn.GroupNorm(5, 5))),
        [VOLUME],
    ),
    "volumes without a batch": (
        nn.Conv3d(4, 6, (5, 3, 3), 1, (4, 1, 1), (2, 1, 1)), [(4, 1, 7, 6)],
    ),
    "pooled volumes": (
        Function(lambda x: (F.max_pool3d(x, (1, 3, 3), (2, 1, 2)),
                            F.max_pool3d(x, 2, ceil_mode=True),
                            F.max_pool3d(x[0], (2, 3, 3), (1, 2, 1), (1, 1, 1), (2, 1, 1)),
                            F.avg_pool3d(x, (1, 3, 3), (2, 1, 1)), F.avg_pool3d(x, 3, 2, 1),
                            F.avg_pool3d(x, 3, 2, 1, True, False),
                            F.avg_pool3d(x, (2, 3, 3), divisor_override=5),
                            F.adaptive_avg_pool3d(x, (2, 3, 3)), F.adaptive_avg_pool3d(x, 1),
                            F.adaptive_max_pool3d(x, (3, 2, 4)))),
        [VOLUME],
    ),
    "maxima of channels": (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool3d((1, 3, 3), (2, 1, 2)), nn.Conv2d(4, 4, 1)),
        [(1, 3, 12, 13)],
    ),
    "resized volumes": (
        Function(lambda x: (F.interpolate(x, scale_factor=2.0), F.interpolate(x, (3, 5, 11)),
                            F.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear"),
                            F.interpolate(x, (5, 9, 4), mode="trilinear", align_corners=True),
                            F.pad(x, (1, 2, 1, 0, 1, 1), mode="replicate"),
                            torch.roll(x, 1, 2))),
        [VOLUME],
    ),
}  # fmt: skip


# ---------------------------------------------------------------------- recurrent layers, attention


class Several(nn.Module):
    """Modules on one input; of the results that are several, all are returned."""

    def __init__(self, *modules, states=()):
        super().__init__()
        self.several, self.states = nn.ModuleList(modules), states

    def forward(self, x, *given):
        results = []
        for module, count in zip(self.several, self.states or [0] * len(self.several), strict=True):
            states = given[:count] if count > 1 else given[0] if count else None
            results.append(module(x, states) if count else module(x))
        return flat(results)


def flat(results):
    """Return the tensors of nested tuples."""
    nested = isinstance(results, tuple | list)
    return tuple(x for part in results for x in flat(part)) if nested else (results,)


class Attention(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self, need_weights, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **options)
        self.need_weights = need_weights

    def forward(self, x):
        y, weights = self.attention(x, x, x, need_weights=self.need_weights)
        return (y, weights) if self.need_weights else y


SEEN = torch.ones(4, 5, dtype=torch.bool).tril()
BLIND = SEEN.clone()
BLIND[2] = False  # a row that sees nothing
attend = F.scaled_dot_product_attention

CASES |= {
    "lstm": (
        Several(nn.LSTM(5, 6, 2, bidirectional=True), nn.LSTM(5, 7, bias=False, batch_first=True)),
        [(3, 2, 5)],
    ),
    "lstm that projects": (
        Several(nn.LSTM(5, 18, 2, proj_size=3, bidirectional=True, bias=False)), [(3, 2, 5)],
    ),
    "gru and plain recurrence": (
        Several(nn.GRU(5, 19, 2, bidirectional=True, batch_first=True), nn.GRU(5, 4, bias=False),
                nn.RNN(5, 6, 2), nn.RNN(5, 6, nonlinearity="relu", bidirectional=True)),
        [(3, 2, 5)],
    ),
    "recurrence from given states": (
        Several(nn.LSTM(5, 4), nn.GRU(5, 4), nn.RNN(5, 4), states=(2, 1, 1)),
        [(3, 2, 5), (1, 2, 4), (1, 2, 4)],
    ),
    "recurrence of one sequence": (Several(nn.LSTM(5, 4), nn.GRU(5, 4)), [(3, 5)]),
    "recurrent cells": (
        Several(nn.LSTMCell(5, 4), nn.GRUCell(5, 4), nn.RNNCell(5, 4),
                nn.RNNCell(5, 4, nonlinearity="relu"), nn.LSTMCell(5, 4, bias=False),
                states=(2, 1, 0, 1, 0)),
        [(3, 5), (3, 4), (3, 4)],
    ),
    "attention": (
        Function(lambda q, k, v: (
            attend(q, k, v), attend(q, k, v, is_causal=True), attend(q, k, v, scale=0.3),
            attend(q, k, v, attn_mask=SEEN), attend(q, k, v, attn_mask=BLIND),
            attend(q, k, v, attn_mask=q @ k.transpose(-1, -2)),
            attend(q, k, v, attn_mask=(q @ k.transpose(-1, -2)).abs() > 2),  # some rows see nothing
        )),
        [(2, 2, 4, 3), (2, 2, 5, 3), (2, 2, 5, 6)],
    ),
    "attention of grouped heads": (
        Function(lambda q, k, v: attend(q, k, v, enable_gqa=True)),
        [(1, 6, 4, 3), (1, 2, 7, 3), (1, 2, 7, 5)],
    ),
    "multi-head attention": (
        Several(Attention(need_weights=True), Attention(need_weights=False, batch_first=True),
                Attention(need_weights=False, add_bias_kv=True, add_zero_attn=True)),
        [(4, 2, 8)],
    ),
    "transformer layers": (
        Several(nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, activation="gelu"),
                nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2,
                                      enable_nested_tensor=False)),
        [(4, 2, 8)],
    ),
    "products": (
        Function(lambda x, y: (
            torch.bmm(x, y), torch.baddbmm(x, x, y, alpha=2), torch.baddbmm(x[:1], x, y, beta=0.5),
            torch.addbmm(x[0], x, y, beta=0.5), torch.addmm(x[0, 0], x[0], y[0], beta=0),
            torch.addmv(x[0, 0], x[0], x[0, 1], alpha=0.5), torch.mv(x[0], y[0, 1]),
            torch.dot(x[0, 0], y[0, 0]), torch.outer(x[0, 0], y[0, 0]), x @ y[0, 0], x[0, 0] @ y,
            torch.inner(x, y), torch.addr(x[0], x[0, 0], y[0, 0], beta=2),
            torch.linalg.multi_dot([x[0], y[0], x[1]]), torch.tensordot(x, y, ([1, 0], [2, 0])),
            torch.tensordot(x, y[0], 1),
        )),
        [(2, 3, 3), (2, 3, 3)],
    ),
    "einsum": (
        Function(lambda x, y: (
            torch.einsum("bij,bjk->bik", x, y), torch.einsum("bij,cjk", x, y),
            torch.einsum("...ij,...jk->...ki", x, y), torch.einsum("bij->ji", x),
            torch.einsum("bij,bjk,bik->", x, y, x @ y), torch.einsum("i,j->ij", x[0, 0], y[0, 0]),
            torch.einsum("bij,bjk->bik", x[:1], y),
        )),
        [(2, 3, 4), (2, 4, 5)],
    ),
    "bilinear, root mean square": (
        Several(nn.Bilinear(3, 3, 5), scrambled(nn.RMSNorm(3)), states=(1, 0)),
        [(2, 4, 3), (2, 4, 3)],
    ),
}  # fmt: skip
