"""Small networks in which channels are coupled in each way that there is, and by what numbers."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import DeformConv2d

from depthwise.graph import Graph, ops
from depthwise.slimming.channels.groups import ChannelGroup
from depthwise.slimming.channels.pools import find_pools


def conv(ins: int, outs: int, kernel: int = 1, **options) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, kernel, padding=kernel // 2, **options)


class Net(nn.Module):
    """Layers in a row, and a function of them and the image."""

    def __init__(self, function, **layers: nn.Module):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def randomized(net: nn.Module) -> nn.Module:
    """Give BatchNorms statistics of their own."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


def chain() -> nn.Module:
    """Return a network with BatchNorm, PReLU, pooling, flattening: 24 and 16 channels."""
    return nn.Sequential(
        conv(3, 24, 3), nn.BatchNorm2d(24), nn.PReLU(24), nn.MaxPool2d(2), conv(24, 16, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def residual() -> nn.Module:
    """Return a sum: 16 channels coupled, 24 inside the branch."""
    return Net(
        lambda n, x: n.last((s := n.stem(x)) + n.second(F.relu(n.first(s)))),
        stem=conv(3, 16), first=conv(16, 24, 3), second=conv(24, 16, 3), last=conv(16, 5),
    )  # fmt: skip


def gate() -> nn.Module:
    """Return squeeze-and-excitation: 16 channels and their gates, 8 in between."""

    def forward(n, x):
        s = n.stem(x)
        return n.last(s * torch.sigmoid(n.up(F.relu(n.down(s.mean((2, 3), True))))))

    return Net(forward, stem=conv(3, 16), down=conv(16, 8), up=conv(8, 16), last=conv(16, 5))


def concat() -> nn.Module:
    """Return a concatenation of 8, 12 and what both read (16), normalised together."""

    def forward(n, x):
        s = n.stem(x)
        return n.last(F.relu(n.norm(torch.cat([n.one(s), s, n.two(s)], 1))))

    return Net(forward, stem=conv(3, 16), one=conv(16, 8), two=conv(16, 12, 3),
               norm=nn.BatchNorm2d(36), last=conv(36, 5))  # fmt: skip


def chunks() -> nn.Module:
    """Return halves of 24 channels of which the second is convolved, and joined to the first."""

    def forward(n, x):
        one, two = n.stem(x).chunk(2, 1)
        return n.last(torch.cat([one, two + n.inner(two)], 1))

    return Net(forward, stem=conv(3, 24), inner=conv(12, 12, 3), last=conv(24, 5))


def shuffled() -> nn.Module:
    """Return ShuffleNetV2's unit: halves, a depthwise branch, a shuffle, halves again."""

    def unit(n, x, number):
        one, two = x.chunk(2, 1)
        two = n.get_submodule(f"right{number}")(two)
        x = torch.cat([one, two], 1)
        return x.view(x.shape[0], 2, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)

    def right():
        return nn.Sequential(conv(12, 12), nn.ReLU(), conv(12, 12, 3, groups=12), conv(12, 12))

    return Net(lambda n, x: n.last(unit(n, unit(n, n.stem(x), 1), 2)),
               stem=conv(3, 24), right1=right(), right2=right(), last=conv(24, 5))  # fmt: skip


def grouped() -> nn.Module:
    """Return two groups of 12 channels, from 2 of 8, and 8 of 2 to 3 after a shuffle."""
    return nn.Sequential(
        conv(3, 16), conv(16, 24, 3, groups=2), nn.ReLU(), nn.ChannelShuffle(2), conv(24, 16),
        conv(16, 24, 3, groups=8), conv(24, 5),
    )  # fmt: skip


def multiplied() -> nn.Module:
    """Return a depthwise convolution that gives 2 channels for each of 8."""
    return nn.Sequential(conv(3, 8), conv(8, 16, 3, groups=8), nn.ReLU(), conv(16, 5))


def transposed() -> nn.Module:
    """Return transposed convolutions: plain, in 2 groups and depthwise."""
    return nn.Sequential(
        conv(3, 16), nn.ConvTranspose2d(16, 24, 2, 2), nn.ReLU(),
        nn.ConvTranspose2d(24, 16, 2, 2, groups=2), nn.ConvTranspose2d(16, 16, 2, groups=16),
        nn.Upsample(scale_factor=2), conv(16, 5),
    )  # fmt: skip


def padded() -> nn.Module:
    """Return a shortcut of 8 channels with 4 of zeros before them and 4 after."""
    return Net(
        lambda n, x: n.last(F.pad(s := n.stem(x), (0, 0, 0, 0, 4, 4)) + n.wide(s)),
        stem=conv(3, 8), wide=conv(8, 16, 3), last=conv(16, 5),
    )  # fmt: skip


def selective() -> nn.Module:
    """Return selective kernels: two branches of 16 weighed by a softmax between them."""

    def forward(n, x):
        s = n.stem(x)
        both = torch.stack([n.one(s), n.two(s)], 1)
        weigh = n.up(F.relu(n.down(both.sum(1).mean((2, 3), True))))
        weigh = weigh.view(weigh.shape[0], 2, 16, 1, 1).softmax(1)
        return n.last((both * weigh).sum(1))

    return Net(forward, stem=conv(3, 12), one=conv(12, 16), two=conv(12, 16, 3), down=conv(16, 8),
               up=conv(8, 32), last=conv(16, 5))  # fmt: skip


def rearranged() -> nn.Module:
    """Return pixels made channels (8 to 32) and channels made pixels (4 from 16)."""
    return nn.Sequential(
        conv(3, 8), nn.PixelUnshuffle(2), conv(32, 16, 3), nn.PixelShuffle(2), nn.ReLU(),
        nn.GroupNorm(4, 4), conv(4, 5),
    )  # fmt: skip


def channels_last() -> nn.Module:
    """Return linear layers on (N, H, W, C), scaled by a parameter, added to what they read."""

    def forward(n, x):
        s = n.stem(x)
        y = n.down(F.gelu(n.up(s.permute(0, 2, 3, 1)))) * n.scale.weight[0]
        return n.last(s + y.permute(0, 3, 1, 2))

    return Net(forward, stem=conv(3, 12), up=nn.Linear(12, 32), down=nn.Linear(32, 12),
               scale=nn.Linear(12, 1, bias=False), last=conv(12, 5))  # fmt: skip


def normalised() -> nn.Module:
    """Return group norms of 8 groups of 2, and one of each channel alone."""
    return nn.Sequential(
        conv(3, 16, 3), nn.GroupNorm(8, 16), nn.ReLU(), conv(16, 12),
        nn.InstanceNorm2d(12, affine=True), conv(12, 5),
    )  # fmt: skip


def deformable() -> nn.Module:
    """Return a deformable convolution, 8 to 12: its 18 offsets have to stay."""
    return Net(
        lambda n, x: n.last(n.deform(s := n.stem(x), n.offsets(s))),
        stem=conv(3, 8), offsets=conv(8, 18, 3), deform=DeformConv2d(8, 12, 3, padding=1),
        last=conv(12, 5),
    )  # fmt: skip


def attention() -> nn.Module:
    """Return a map that weighs all channels alike, from their mean."""
    return Net(
        lambda n, x: n.last((s := n.stem(x)) * torch.sigmoid(n.map(F.relu(s).mean(1, True)))),
        stem=conv(3, 16), map=conv(1, 1, 3), last=conv(16, 5),
    )  # fmt: skip


# how many units each group has, in order
SIZES = {
    chain: [24, 16], residual: [16, 24], gate: [16, 8], concat: [16, 8, 12], chunks: [24],
    shuffled: [24, 12, 12, 12, 12], grouped: [16, 24, 8], multiplied: [8], transposed: [16, 24, 16],
    padded: [16], selective: [12, 16, 8], rearranged: [8, 4], channels_last: [12, 32],
    normalised: [8, 12], deformable: [8, 12], attention: [16],
}  # fmt: skip


def silence(graph: Graph, group: ChannelGroup, keep: np.ndarray) -> Graph:
    """Return a graph whose layers read zeros where units of a group are not to be kept."""
    gone = np.isin(np.arange(group.units), keep, invert=True)
    constants, nodes = dict(graph.constants), {node.name: node for node in graph}
    for reader in group.readers:
        node = nodes[reader.node]
        known, dead = constants[node.inputs[1]], (reader.units >= 0) & gone[reader.units]
        assert known.data is not None
        factor = 1.0 - dead
        groups = getattr(node.op, "groups", 1)
        if isinstance(node.op, ops.ConvTranspose2d):
            data = known.data * factor[:, None, None, None]
        else:
            blocks = known.data.reshape(groups, -1, known.data.shape[1], *known.data.shape[2:])
            shape = (groups, 1, -1, *(1,) * (blocks.ndim - 3))
            data = (blocks * factor.reshape(shape)).reshape(known.data.shape)
        constants[node.inputs[1]] = replace(known, data=data.astype(np.float32))
    return replace(graph, constants=constants)


def draw(group: ChannelGroup, share: float) -> np.ndarray:
    """Return some units of a group by chance, as many of each part, some of each value."""
    random, gone = np.random.default_rng(0), []
    for pool in find_pools(group):
        count = max(1, round(share * len(pool[0])))
        gone += [random.permutation(cell)[count:] for cell in pool]
    return np.setdiff1d(np.arange(group.units), np.concatenate(gone or [[]]))
