"""Parallel branches while a network is trained, one convolution in their place afterwards.

RepVGG (Ding et al., arXiv:2101.03697) for identities and 1x1 branches, MobileOne (Vasu et al.,
arXiv:2206.04040) for several branches of one kind, depthwise and pointwise. A branch is a
convolution, or none, then a BatchNorm with statistics of its own: in evaluation a linear map, so
that a sum of branches is one convolution and one BatchNorm.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from depthwise.layers.conv import same_padding
from depthwise.layers.conv_norm_pairs import conv_norm_pairs
from depthwise.layers.init import initialize


def add_branches(net: nn.Module, n: int) -> None:
    """Give every convolution that a BatchNorm follows parallel branches, in place.

    Each gets n - 1 more convolutions of its kind; where its padding keeps the size a 1x1 branch,
    if it is no 1x1 convolution itself; and where it also has stride 1 and as many outputs as
    inputs the identity. All end in a BatchNorm of their own, whose gain starts at zero: the first
    branch has the weights that were there, and the network computes what it did, in training and
    in evaluation. Convolutions that are frozen stay as they are.

    This works for any network whose forward torch.fx can follow module by module: modules that it
    cannot follow are left alone, with all in them. Give the optimiser its parameters afterwards.

    Args:
        net: Any network, trained or fresh. Its state dict has other names until
            `fold_branches`.
        n: How many convolutions of one kind are added up, 1 or more.

    Raises:
        ValueError: The network has branches, or there is nowhere to add one.
    """
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n={n!r} branches: a whole number is accepted, 1 or more")
    if any(isinstance(module, BranchedConv) for module in net.modules()):
        raise ValueError("the network has branches already: fold_branches(net) joins them first")
    added = 0
    for pair in conv_norm_pairs(net):
        conv, norm = net.get_submodule(pair.conv), net.get_submodule(pair.norm)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        if not conv.weight.requires_grad or not _can_fold(norm):
            continue
        branched = BranchedConv(conv, norm, n)
        if len(branched.branches) > 1:
            net.set_submodule(pair.conv, branched)
            net.set_submodule(pair.norm, AfterBranches(norm, branched))
            added += 1
    if not added:
        raise ValueError(
            f"n={n} adds no branch to this network: they need an nn.Conv2d that learns and whose "
            "result goes to an nn.BatchNorm2d with weights and running statistics, and nowhere else"
        )


def fold_branches(net: nn.Module) -> nn.Module:
    """Return a copy of a network with one convolution and one BatchNorm for all their branches.

    Its modules, and the names and shapes of its state dict, are those that the network had before
    `add_branches`. In evaluation it computes the same, but for rounding. To train on with
    statistics of the batch, go on with the branches: those of their sum were never taken.
    """
    folded = copy.deepcopy(net)
    names = {module: name for name, module in folded.named_modules()}
    for after, name in names.items():
        if isinstance(after, AfterBranches):
            conv, norm = after.fold()
            folded.set_submodule(names[after.branched], conv)
            folded.set_submodule(name, norm)
    return folded


class ConvBranch(nn.Module):
    """norm(conv(x)), or norm(x) where there is no convolution."""

    conv: nn.Conv2d | None
    norm: nn.BatchNorm2d

    def __init__(self, conv: nn.Conv2d | None, norm: nn.BatchNorm2d):
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch's part of the sum."""
        return self.norm(x if self.conv is None else self.conv(x))

    def kernel(self, like: nn.Conv2d) -> Tensor:
        """Return the convolution's weight in the shape that `like` has, in float64."""
        rows, columns = like.kernel_size
        weight = torch.zeros_like(like.weight, dtype=torch.float64)
        if self.conv is None:
            each = torch.arange(like.out_channels, device=weight.device)
            weight[each, each % weight.shape[1], rows // 2, columns // 2] = 1
        elif self.conv.kernel_size == like.kernel_size:
            weight += self.conv.weight
        else:
            weight[:, :, rows // 2, columns // 2] += self.conv.weight[:, :, 0, 0]
        return weight


class BranchedConv(nn.Module):
    """The sum of branches in the place of a convolution, with what its BatchNorm did.

    `branches[0]` is the convolution that was there, with its norm's weights and statistics.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, count: int):
        super().__init__()
        convs = [_another(conv) for _ in range(count - 1)]
        if keeps_size := _keeps_size(conv):
            convs += [_point(conv)] if conv.kernel_size != (1, 1) else []
        branches = [ConvBranch(each, _silent(norm)) for each in convs]
        if keeps_size and conv.in_channels == conv.out_channels and conv.stride == (1, 1):
            branches.append(ConvBranch(None, _silent(norm)))
        self.branches = nn.ModuleList([ConvBranch(conv, _bare(norm)), *branches])
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the branches: (N, C, H, W) -> (N, K, H', W')."""
        first, *others = self.branches
        y = first(x)
        for branch in others:
            y = y + branch(x)
        return y


class AfterBranches(nn.Module):
    """What stands in the place of a BatchNorm whose work branches do: an activation, or nothing.

    timm's `BatchNormAct2d` is a BatchNorm2d with dropout and activation after it.
    """

    def __init__(self, norm: nn.BatchNorm2d, branched: BranchedConv):
        super().__init__()
        self.rest = nn.Sequential(*norm.children())
        self._others = (norm, branched)  # no children of this: what it was, what does its work

    @property
    def branched(self) -> BranchedConv:
        """The branches whose sum this reads."""
        return self._others[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return what the BatchNorm returned, from what is normalised already."""
        return self.rest(x)

    def fold(self) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """Turn the first branch into what all compute together, and return it as it was before."""
        norm, branched = self._others
        conv, bare = _fold_into_first(cast(list[ConvBranch], list(branched.branches)))
        norm._parameters.update(bare._parameters)
        norm._buffers.update(bare._buffers)
        return conv, norm.train(self.training)


@torch.no_grad()
def _fold_into_first(branches: list[ConvBranch]) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return the first branch's convolution and norm, which in evaluation compute the sum of all.

    A norm multiplies with its gain and adds its bias - gain * mean. Each channel keeps the first
    one's gain, and so its weights bit by bit as long as the other branches give nothing; unless it
    vanishes beside the largest: then that is taken.
    """
    conv, norm = branches[0].conv, branches[0].norm
    assert conv is not None
    norms = [branch.norm for branch in branches]
    deviations = [(_double(each.running_var) + each.eps).sqrt() for each in norms]
    gains = torch.stack([_double(each.weight) for each in norms]) / torch.stack(deviations)
    largest = gains.abs().amax(0)
    keeps = gains[0].abs() >= 1e-3 * largest
    gain = torch.where(keeps, gains[0], largest)
    shares = gains / torch.where(gain == 0, 1.0, gain)
    shares[0, gain == 0] = 1.0
    kernels = torch.stack([branch.kernel(conv) for branch in branches])
    means = torch.stack([_double(each.running_mean) for each in norms])
    conv.weight.copy_(torch.einsum("nk,nkcrs->kcrs", shares, kernels))
    if conv.bias is not None:
        conv.bias.copy_(shares[0] * conv.bias)
    norm.weight.copy_(torch.where(keeps, _double(norm.weight), gain * deviations[0]))
    norm.bias.copy_(torch.stack([_double(each.bias) for each in norms]).sum(0))
    cast(Tensor, norm.running_mean).copy_((shares * means).sum(0))
    return conv, norm


def _double(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.double()


def _can_fold(norm: nn.BatchNorm2d) -> bool:
    """Tell whether a norm is linear in evaluation, but for what its children do afterwards."""
    known = type(norm) is nn.BatchNorm2d or (
        type(norm).__name__ == "BatchNormAct2d"
        and [name for name, _ in norm.named_children()] == ["drop", "act"]
    )
    return known and norm.affine and norm.running_mean is not None


def _bare(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return a BatchNorm without children that has the very parameters and buffers of `norm`."""
    bare = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, device="meta")
    bare._parameters.update(norm._parameters)
    bare._buffers.update(norm._buffers)
    return bare


def _silent(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return a fresh BatchNorm with the settings of `norm` and a gain of zero."""
    silent = copy.deepcopy(_bare(norm))
    silent.reset_parameters()
    nn.init.zeros_(silent.weight)
    return silent


def _another(conv: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution like another with weights of its own, without a bias."""
    another = copy.deepcopy(conv)
    another.bias = None
    initialize(another)
    return another


def _point(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the 1x1 convolution that reads what the centre tap of another does."""
    point = nn.Conv2d(
        conv.in_channels, conv.out_channels, 1, cast(tuple[int, int], conv.stride),
        groups=conv.groups, bias=False, device=conv.weight.device, dtype=conv.weight.dtype,
    )  # fmt: skip
    initialize(point)
    return point


def _keeps_size(conv: nn.Conv2d) -> bool:
    """Tell whether a convolution's centre tap reads every pixel, or each that the stride takes."""
    if any(size % 2 == 0 for size in conv.kernel_size):
        return False
    reach = zip(conv.kernel_size, conv.dilation, strict=True)
    centred = tuple(same_padding(size, dilation)[0] for size, dilation in reach)
    padding = {"valid": (0, 0), "same": centred}.get(str(conv.padding), conv.padding)
    return padding == centred
