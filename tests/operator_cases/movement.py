"""Elements that move: indices, flips, patches, writes into slices."""

import torch
import torch.nn.functional as F
from torch import nn

from operator_cases.building import Function, X


def written(x):
    """Writes into slices, views and places of an own tensor, and of one that others read too."""
    y = x * 2
    before = y + 0.5
    y[:, :2] = y[:, 2:4] * 3
    y[..., ::2] += x[..., ::2]
    y[:, 0].mul_(2)
    y[:, 5] = 0.25
    y[1, 2, 3, 4] = 7
    y.view(-1)[:5].add_(1)
    y.transpose(1, 3)[:, 1:3].fill_(-1)
    y[:, :, [0, 3]] = x[:, :, [5, 5]]
    y[:, torch.tensor([False, True, False, True, False, False])] = 0.5
    y[0, 1].copy_(x[1, 1]).relu_()
    z = x.new_zeros(2, 6, 9, 12)
    z[..., :11] = x
    z[..., 11].zero_()
    return y, before, z


def indexed(x):
    many = torch.arange(9) * 5 % 9  # more runs than are cut
    return (
        x[:, [2, 1, 0, 3, -1]], x[:, [2, 5, 3, 0, 1, 4]], x.index_select(2, many), x[:, :, [4, 0]],
        x[:, [0, 1], [2, 3]], x[[[0], [1]], :, [2, -3, 8]], x[:, None, ..., [1, 10, 3]],
        x[..., torch.tensor([[1, 2], [3, 4]])], x[:, torch.tensor(3)],
        x[torch.tensor([1, 0, 1])], x.take(torch.tensor([[5, 0], [-1, 700]])),
    )  # fmt: skip


def placed(x, y):
    at, rows = torch.tensor([3, 0, 3, 8]), y[:, :, :4]
    each = torch.arange(2 * 6 * 3 * 11).reshape(2, 6, 3, 11) * 7 % 9
    return (
        x.index_add(2, at, rows, alpha=2), x.index_copy(2, at[1:], rows[:, :, 1:]),
        x.index_fill(1, torch.tensor([4, 1]), 3.0), x.new_zeros(2, 6, 9, 11).index_add(2, at, rows),
        x.index_put((torch.tensor([0, 1]), torch.tensor([5, 2])), y[0, :2]),
        x.index_put((torch.tensor([0, 1, 0]), torch.tensor([5, 2, 5])), y[0, 1], accumulate=True),
        x.scatter(2, at.view(1, 1, 4, 1)[:, :, 1:].expand(2, 6, 3, 11), y),
        x.scatter(2, each[:, :, :1], 4.0), x.scatter_add(2, each, y),
        x.scatter_reduce(2, each, y, "sum"), x.scatter_reduce(2, each, y, "amax"),
        x.scatter_reduce(2, each % 3, y, "amin"), x.scatter_reduce(2, each % 2, y, "prod"),
        x.gather(2, each), x.gather(1, each[:1, :4] % 6),
        x.take_along_dim(torch.tensor([2, 0]).view(1, 2, 1, 1), 1),
        x.take_along_dim(each[:1, :1], 2),
        x.slice_scatter(y[:, :2], 1, 2, 6, 2), x.select_scatter(y[:, 0], 1, -1),
        x.diagonal(1, 2, 3), x.diagonal_scatter(y[:, :, 2, :9], 0, 2, 3),
    )  # fmt: skip


CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "flips and turns": (
        Function(
            lambda x: (
                x.flip(1),
                x.flip(2),
                x.flip(-1, 0),
                torch.rot90(x, 1, (2, 3)),
                x.rot90(2, (1, 2)),
                x.rot90(-1, (2, 3)),
                x.fliplr(),
                x.flipud(),
                x[0].flip(0),
                x.roll(5),
            )
        ),
        [X],
    ),
    "places that are known": (Function(indexed), [X]),
    "written at places": (Function(placed), [X, X]),
    "written into slices": (Function(written), [X]),
    "repeated in place": (
        Function(
            lambda x: (
                x.repeat_interleave(3, 1),
                x.repeat_interleave(2),
                x.tile(2, 1, 1),
                x.tile(1, 1, 1, 2, 1),
                torch.broadcast_to(x[:, :1], (2, 6, 9, 11)) * 2,
                x.repeat_interleave(torch.tensor([2, 0, 1, 3, 0, 1]), 1),
            )
        ),
        [X],
    ),
    "patches": (
        Function(
            lambda x: (
                F.unfold(x, 3, padding=1),
                F.unfold(x, (2, 3), (2, 1), (1, 0), (3, 2)),
                F.unfold(x, 3, stride=3),
                F.unfold(x[0], (9, 1)),
                x.unfold(2, 4, 2),
                x.unfold(3, 2, 2),
                x.unfold(1, 3, 3).unfold(2, 3, 3),
                x.flatten(1).unfold(1, 20, 7),
            )
        ),
        [X],
    ),
    "patches summed": (
        Function(
            lambda x: (
                F.fold(x, (5, 6), 2, stride=1),
                F.fold(x, (8, 10), 2, stride=2),
                F.fold(x, (5, 8), 2, 2, 1, (1, 2)),
                F.fold(x[0], (11, 8), (3, 2), 1, 0, 2),
            )
        ),
        [(2, 12, 20)],
    ),
    "more names for shapes": (
        Function(
            lambda x, y: (
                x.movedim(1, -1),
                x.movedim((0, 1), (3, 0)),
                x.moveaxis(3, 1),
                x.view_as(y) + y,
                x.reshape_as(y),
                x.ravel(),
                x.mT,
                x[0, 0].adjoint(),
                torch.diff(x),
                x.diff(2, 1),
                torch.diff(x, dim=2, prepend=x[:, :, :1]),
                torch.outer(x[0, 0, 0], x[0, 0, :, 0]),
                torch.kron(x[0, 0, :2], x[0, 1, :3, :2]),
                torch.block_diag(x[0, 0], x[0, 1, 0], x[0, 2]),
                x[:, :1].squeeze(),
                x.swapdims(0, 2),
            )
        ),
        [X, X],
    ),
    "more names for parts": (
        Function(
            lambda x: (
                *torch.tensor_split(x, 4, 1),
                *x.tensor_split((2, 7), 2),
                *x[..., :10].hsplit(2),
                *x.vsplit(2),
                *x.dsplit((4,)),
                torch.hstack((x, x[:, :2])),
                torch.vstack((x, x[:1])),
                torch.dstack((x, x)),
                torch.hstack((x[0, 0, 0], x[0, 0, 1])),
                torch.dstack((x[0, 0, 0],) * 2),
                torch.column_stack((x[0, 0, 0], x[0, 0, 1])),
                torch.atleast_3d(x[0, 0]),
                *x.unsafe_chunk(2, 1),
                *torch.meshgrid(x[0, 0, 0], x[0, 0, :, 0], indexing="xy"),
            )
        ),
        [X],
    ),
    "six axes": (
        Function(
            lambda x: (
                x.permute(5, 0, 3, 1, 4, 2),
                x.flip(4),
                x[:, :, :, [2, 0, 1]] + 1,
                x.expand(2, 2, 2, 3, 2, 2).transpose(0, 4),
            )
        ),
        [(1, 2, 2, 3, 2, 2)],
    ),
}
