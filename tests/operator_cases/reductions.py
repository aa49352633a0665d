"""One value over an axis, places of extremes, sorting, running sums."""

import torch
import torch.nn.functional as F
from torch import nn

from operator_cases.building import Function, X

inf = float("inf")


def maxima(x):
    values, places = x.max(1)
    most = torch.max(x[:, :3], x[:, 3:]) - torch.min(x[:, :3], x[:, 3:])
    return values, places, most, x.max(), x.min(-1).values, x.min(2, keepdim=True).indices


def extremes(x):
    low, high = torch.aminmax(x, dim=1)
    return (
        x.argmax(), x.argmax(1), x.argmin(-1, keepdim=True), x.argmax(keepdim=True),
        x.amax((1, -1)), x.amin(2, keepdim=True), low, high, x.flatten(1).argmin(1),
    )  # fmt: skip


def truths(x):
    small = x > 1.5
    found = (small.any(1), small.all(0), torch.any(x * 0), x.abs().all(), (x > -9).all((1, 3)))
    return (
        *(one.float() for one in found), torch.count_nonzero(small, (1, 2)), torch.count_nonzero(x),
    )  # fmt: skip


def totals(x):
    positive = x.abs() * 0.3 + 0.7
    return (
        positive.prod(1), positive[:, :, :2, :2].prod(), (x > 0).sum(1), x.sum(dtype=torch.float32),
        x.logsumexp((1, 2)), x.logsumexp(3, keepdim=True), x.nansum(1), x.nanmean((2, 3)),
    )  # fmt: skip


def norms(x):
    orders = (2, 1, 0, inf, -inf, 3, 0.5)
    matrix = x[0, 0]
    return (
        *(x.norm(p, dim=1, keepdim=True) for p in orders), x.norm(), F.normalize(x),
        F.normalize(x, p=1.0, dim=3), torch.linalg.norm(x, dim=(2, 3)),
        *(torch.linalg.norm(matrix, p) for p in ("fro", 1, -1, inf, -inf)),
        torch.linalg.matrix_norm(x, 1, keepdim=True), torch.linalg.vector_norm(x, 3, (1, 2)),
    )  # fmt: skip


def distances(x):
    rows = x[:, :, :4].flatten(2)
    return (
        F.cosine_similarity(x[:, :3], x[:, 3:]), F.cosine_similarity(x, x[:1, :1], dim=-1),
        F.pairwise_distance(x, x * 2),
        torch.cdist(rows, rows[:, :3], p=1.0), torch.dist(x, x * 2),
    )  # fmt: skip


def spreads(x):
    return (
        x.std((2, 3)), *torch.std_mean(x, 1), x.var(), x.std(2, unbiased=False, keepdim=True),
        *torch.var_mean(x, (1, 2), correction=2), x.std(False),
    )  # fmt: skip


def sorting(x):
    values, places = x.topk(3, 1)
    return (
        values, places, x.topk(2, 2, largest=False)[0], *x.sort(1), x.sort(-1, descending=True)[0],
        x.flatten(1).argsort(1, descending=True), x.msort(), x.flatten(1).topk(5)[1],
        x.sort(dim=2, stable=True)[1],
    )  # fmt: skip


def middles(x):
    return (
        *x.kthvalue(2, 1), x.median(), *x.median(1), x.median(2, keepdim=True).values,
        x.kthvalue(4, -1, keepdim=True).values,
    )  # fmt: skip


def running(x):
    small = x * 0.2 + 1
    return (
        x.cumsum(1), x.cumsum(-1), small.cumprod(2), small.flatten(1).cumprod(1), x.cummax(1)[0],
        x.cummin(3).values, (x > 0).cumsum(2),
    )  # fmt: skip


def unpooled(x):
    small, at = F.max_pool2d(x, 2, return_indices=True)
    over, places = F.max_pool2d(x, 3, 2, padding=1, return_indices=True)
    line, where = F.max_pool1d(x.flatten(2), 3, return_indices=True)
    plane = F.adaptive_max_pool2d(x[..., :10], (3, 5), return_indices=True)
    return (
        at, F.max_unpool2d(small * 2, at, 2, output_size=x.shape[2:]), places,
        F.max_unpool2d(over, places, 3, 2, padding=1), where,
        F.max_unpool1d(line, where, 3), plane[1], F.max_pool2d(x[0], 2, return_indices=True)[1],
        F.max_pool2d(x, 3, 2, 1, 2, ceil_mode=True, return_indices=True)[1],
    )  # fmt: skip


def taken(x):
    at = x.argmax(1, keepdim=True)
    classes = F.one_hot(x.argmax(1), 6)
    return (
        x.gather(1, at), torch.take_along_dim(x * 2, at, 1), classes.permute(0, 3, 1, 2) * x,
        x.gather(2, torch.tensor([2, 0]).reshape(1, 1, 2, 1).expand(2, 6, 2, 11)),
        torch.take_along_dim(x, x.argsort(3), 3), torch.take_along_dim(x, torch.tensor([7, 3])),
    )  # fmt: skip


CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    function.__name__: (Function(function), [X])
    for function in (
        maxima, extremes, truths, totals, norms, distances, spreads, sorting, middles, running,
        unpooled, taken,
    )
}  # fmt: skip
