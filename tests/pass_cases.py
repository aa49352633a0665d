"""Tiny nets, and what each pass does to them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import DeformConv2d

from depthwise.compiler.passes import (
    drop_identity,
    fold_affine,
    fold_batchnorm,
    fold_constants,
    fold_flatten,
    fold_padding,
    fold_shuffle,
    fuse_activation,
    fuse_arithmetic,
    fuse_residual,
    nest_concat,
    recompose_local_response_norm,
    remove_dead_code,
)

SHAPE = (2, 8, 6, 5)


class Net(nn.Module):
    """`forward` is a function of the members and x."""

    def __init__(self, forward: Callable, **members: nn.Module):
        super().__init__()
        for name, member in members.items():
            self.add_module(name, member)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def let(value, function: Callable):
    """Return function(value): a name for a value inside of a lambda."""
    return function(value)


def channels(*values: float) -> torch.Tensor:
    return torch.tensor((values * 8)[:8]).reshape(1, 8, 1, 1)


def randomize(net: nn.Module) -> nn.Module:
    """Give each BatchNorm statistics and weights that differ from channel to channel."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
    return net.eval()


class Case(NamedTuple):
    """A net that a pass changes: the operators that then are gone, and those that come for them.

    `earlier` are the passes that run before it.
    """

    name: str
    rewrite: Callable
    net: Callable[[], nn.Module]
    gone: dict[str, int]
    new: dict[str, int] = {}  # noqa: RUF012
    earlier: tuple[Callable, ...] = ()


def conv(kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(8, 8, kernel, **{"padding": kernel // 2, **options})


def maker(forward: Callable, **members: nn.Module) -> Callable[[], nn.Module]:
    """Return the maker of a net with a convolution `conv` and the given forward."""
    return lambda: Net(forward, **{"conv": conv(), **members})


class Deformed(nn.Module):
    """A modulated deformable convolution whose offsets come from the input."""

    def __init__(self, padding: int = 1):
        super().__init__()
        self.offsets = nn.Conv2d(8, 18, 3, padding=padding)
        self.mask = nn.Conv2d(8, 9, 3, padding=padding)
        self.conv = DeformConv2d(8, 8, 3, padding=padding)

    def forward(self, x):
        return self.conv(x, self.offsets(x), self.mask(x))


def shuffle(x: torch.Tensor, groups: int = 2) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def response(x: torch.Tensor, square: Callable = torch.mul, around=(0, 0, 0, 0, 1, 1)):
    """Return what local response normalisation over 3 channels divides x by."""
    mean = F.avg_pool3d(F.pad(square(x, x)[:, None], around), (3, 1, 1), 1)[:, 0]
    return (1 + 0.5 * mean) ** 0.75


SHUFFLE = {"Reshape": 2, "Permute": 1}
LRN = {"Reshape": 4, "multiply": 2, "Pad": 1, "AvgPool2d": 1, "add": 1, "power": 1, "divide": 1}
BN, FUSED = {"BatchNorm": 1}, {"Fused": 1}


def batchnorm_case(name: str, net: Callable[[], nn.Module], count: int = 1) -> Case:
    return Case(name, fold_batchnorm, net, {"BatchNorm": count})


def affine_case(name: str, forward: Callable, **gone: int) -> Case:
    return Case(name, fold_affine, maker(forward, norm=nn.BatchNorm2d(8)), gone)


def identity_case(name: str, forward: Callable, **gone: int) -> Case:
    return Case(name, drop_identity, lambda: Net(forward), gone)


CASES = (
    batchnorm_case("conv", lambda: nn.Sequential(conv(), nn.BatchNorm2d(8))),
    batchnorm_case("no bias", lambda: nn.Sequential(conv(bias=False), nn.BatchNorm2d(8))),
    batchnorm_case("depthwise", lambda: nn.Sequential(conv(groups=8), nn.BatchNorm2d(8))),
    batchnorm_case("grouped", lambda: nn.Sequential(conv(groups=2), nn.BatchNorm2d(8))),
    batchnorm_case(
        "twice", lambda: nn.Sequential(conv(), nn.BatchNorm2d(8), nn.BatchNorm2d(8)), 2
    ),
    batchnorm_case(
        "plain norm", lambda: nn.Sequential(conv(), nn.BatchNorm2d(8, affine=False))
    ),
    batchnorm_case(
        "transposed", lambda: nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 2), nn.BatchNorm2d(4))
    ),
    batchnorm_case(
        "transposed grouped",
        lambda: nn.Sequential(
            nn.ConvTranspose2d(8, 12, 3, 2, groups=4, bias=False), nn.BatchNorm2d(12)
        ),
    ),
    batchnorm_case("deformed", lambda: nn.Sequential(Deformed(), nn.BatchNorm2d(8))),
    batchnorm_case(
        "linear",
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(240, 7, bias=False), nn.BatchNorm1d(7)),
    ),
    batchnorm_case(
        "one convolution, two norms",
        maker(
            lambda m, x: m.second(m.conv(m.first(m.conv(x)))),
            first=nn.BatchNorm2d(8), second=nn.BatchNorm2d(8),
        ),
        2,
    ),
    affine_case("number after", lambda m, x: 3 - m.conv(x) * 2, multiply=1, subtract=1),
    affine_case(
        "channels after", lambda m, x: m.conv(x) / channels(2, 3, 5) + channels(1, -1, 4),
        divide=1, add=1,
    ),
    affine_case("three axes", lambda m, x: channels(1, 2)[0] - m.conv(x), subtract=1),
    affine_case("product before", lambda m, x: m.conv(x * channels(1, 2, 3)), multiply=1),
    affine_case(
        "sum before", lambda m, x: F.conv2d(x * 2 + channels(1, 2, 3), m.conv.weight), multiply=1,
        add=1,
    ),
    affine_case("norm before", lambda m, x: F.conv2d(m.norm(x), m.conv.weight), BatchNorm=1),
    affine_case(
        "norm before groups", lambda m, x: F.conv2d(m.norm(x), m.conv.weight[:, :2], groups=4),
        BatchNorm=1,
    ),
    affine_case(
        "product before transposed", lambda m, x: F.conv_transpose2d(x / channels(2, 3, 5),
        m.conv.weight), divide=1,
    ),
    Case("sum before linear", fold_affine,
         lambda: Net(lambda m, x: m.linear(x.flatten(1) * 2 + 1), linear=nn.Linear(240, 7)),
         {"multiply": 1, "add": 1}),
    Case("product before deformed", fold_affine,
         lambda: Net(lambda m, x: m.deform.conv(x * 3, m.deform.offsets(x)), deform=Deformed()),
         {"multiply": 1}),
    Case("constants", fold_constants,
         lambda: Net(lambda m, x: x + (torch.zeros_like(x[:, :1]) + 2).exp() * m.conv.weight.mean(),
                     conv=conv()), {"add": 1, "exp": 1, "multiply": 1}),
    Case("dead", remove_dead_code, maker(lambda m, x: (m.conv(x).relu(), x.abs())[1]),
         {"Conv2d": 1, "relu": 1}),
    identity_case("relu twice", lambda _, x: x.relu().relu(), relu=1),
    identity_case("relu of relu6", lambda _, x: F.relu(F.relu6(x)), relu=1),
    identity_case("clamp of sigmoid", lambda _, x: x.sigmoid().clamp(0, 1), clamp=1),
    identity_case("no bounds", lambda _, x: x.abs().clamp(-math.inf, math.inf), clamp=1),
    identity_case("power of 1", lambda _, x: x.abs() ** 1.0, power=1),
    identity_case("neutral", lambda _, x: (1 * x.abs() + 0 - 0) / 1,
                  multiply=1, add=1, subtract=1, divide=1),
    identity_case("pool of 1", lambda _, x: F.max_pool2d(F.avg_pool2d(x.abs(), 1), 1),
                  MaxPool2d=1, AvgPool2d=1),
    identity_case("pool to its size", lambda _, x: F.adaptive_avg_pool2d(x.abs(), (6, 5)),
                  AdaptivePool2d=1),
    identity_case("mean of one", lambda _, x: x[:, :, :1, :1].mean((2, 3), keepdim=True).abs(),
                  mean=1),
    identity_case("resize to its size", lambda _, x: F.interpolate(x.abs(), (6, 5)), Resize=1),
    identity_case("pad by nothing", lambda _, x: F.pad(x.abs(), (0, 0, 0, 0)), Pad=1),
    identity_case("concat of one", lambda _, x: torch.cat([x.abs()], 1), Concat=1),
    identity_case("permutes cancel", lambda _, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).abs(),
                  Permute=2),
    identity_case("permutes join", lambda _, x: x.permute(0, 2, 3, 1).permute(0, 2, 1, 3),
                  Permute=1),
    identity_case("permute of ones", lambda _, x: x[:1, :, :1, :1].permute(0, 1, 3, 2).abs(),
                  Permute=1),
    identity_case("reshapes join", lambda _, x: x.view(16, 30).view(2, 240), Reshape=1),
    identity_case("reshapes cancel", lambda _, x: x.view(16, 30).view(2, 8, 6, 5).abs(),
                  Reshape=2),
    Case("pad before conv", fold_padding,
         maker(lambda m, x: m.conv(F.pad(x, (0, 1, 2, 3)))), {"Pad": 1}),
    Case("pad before depthwise", fold_padding,
         lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), conv(groups=8, padding=0, stride=2)),
         {"Pad": 1}),
    Case("pad before deformed", fold_padding,
         lambda: Net(
             lambda m, x: m.deform.conv(F.pad(x, (1, 2, 0, 3)), m.deform.offsets(
                 F.pad(x, (1, 2, 0, 3)))), deform=Deformed()),
         {"Pad": 2}),
    Case("pad before average", fold_padding,
         lambda: Net(lambda _, x: F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 3, 2, 1)), {"Pad": 1}),
    Case("pad before plain average", fold_padding,
         lambda: Net(lambda _, x: F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 3, 2,
                                               count_include_pad=False)), {"Pad": 1}),
    Case("pad before maximum", fold_padding,
         lambda: Net(lambda _, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-math.inf), 3, 2)),
         {"Pad": 1}),
    Case("activation", fuse_activation, lambda: nn.Sequential(conv(bias=False), nn.SiLU()),
         {"Conv2d": 1, "silu": 1}, FUSED),
    Case("activation after transposed", fuse_activation,
         lambda: nn.Sequential(nn.ConvTranspose2d(8, 4, 3, bias=False), nn.Hardswish()),
         {"ConvTranspose2d": 1, "hard_swish": 1}, FUSED),
    Case("activation after linear", fuse_activation,
         lambda: nn.Sequential(nn.Flatten(), nn.Linear(240, 7, bias=False), nn.GELU()),
         {"Linear": 1, "gelu": 1}, FUSED),
    Case("activation after deformed", fuse_activation,
         lambda: nn.Sequential(Deformed(), nn.LeakyReLU(0.1)),
         {"DeformConv2d": 1, "leaky_relu": 1}, FUSED),
    Case("only the first of two activations", fuse_activation,
         lambda: nn.Sequential(conv(), nn.Tanh(), nn.Sigmoid()), {"Conv2d": 1, "tanh": 1}, FUSED),
    Case("residual", fuse_residual, maker(lambda m, x: x + m.conv(x)),
         {"Conv2d": 1, "add": 1}, FUSED),
    Case("residual after activation", fuse_residual,
         maker(lambda m, x: torch.tanh(m.conv(x)) + x), {"add": 1}, {}, (fuse_activation,)),
    Case("activation after residual", fuse_activation,
         maker(lambda m, x: torch.sigmoid(torch.tanh(m.conv(x)) + x)),
         {"sigmoid": 1}, {}, (fuse_activation, fuse_residual)),
    Case("two convolutions, one sum", fuse_residual,
         maker(lambda m, x: m.conv(x) + m.other(x.abs()), other=conv(1)),
         {"Conv2d": 1, "add": 1}, FUSED),
    Case("one convolution, three terms", fuse_residual,
         maker(lambda m, x: m.conv(x) + x + x.abs()), {"Conv2d": 1, "add": 1}, FUSED),
    Case("residual of a linear layer", fuse_residual,
         lambda: Net(lambda m, x: m.linear(x.flatten(1)) + x.flatten(1),
                     linear=nn.Linear(240, 240)),
         {"Linear": 1, "add": 1}, FUSED),
    Case("residual of a deformed one", fuse_residual,
         lambda: Net(lambda m, x: x + m.deform(x), deform=Deformed()),
         {"DeformConv2d": 1, "add": 1}, FUSED),
    Case("product, sum and activation", fuse_arithmetic,
         lambda: Net(lambda _, x: torch.relu(x * x.mean((2, 3), True) + x.abs())),
         {"multiply": 1, "add": 1, "relu": 1}, FUSED),
    Case("sum before a product", fuse_arithmetic,
         lambda: Net(lambda _, x: x.abs() + x.mean((2, 3), True) * x),
         {"multiply": 1, "add": 1}, FUSED),
    Case("sum of two products", fuse_arithmetic,
         lambda: Net(lambda _, x: x * x.abs() + x * x.exp()), {"multiply": 1, "add": 1}, FUSED),
    Case("activation after a difference", fuse_arithmetic,
         lambda: Net(lambda _, x: torch.tanh(x[:, :1] - x)), {"subtract": 1, "tanh": 1}, FUSED),
    Case("activation after a norm", fuse_arithmetic,
         lambda: nn.Sequential(nn.BatchNorm2d(8), nn.Hardswish()),
         {**BN, "hard_swish": 1}, FUSED),
    Case("first of two activations", fuse_arithmetic,
         lambda: Net(lambda _, x: torch.sigmoid(torch.tanh(x + x.abs()))),
         {"add": 1, "tanh": 1}, FUSED),
    Case("prefix", nest_concat,
         lambda: Net(lambda _, x: let((x.abs(), x.exp()), lambda p: (
             torch.cat(p, 1), torch.cat([*p, x.tanh(), x], 1)))), {}),
    Case("dense", nest_concat,
         lambda: Net(lambda _, x: let([x.abs(), x.exp(), x.tanh(), x], lambda p: (
             torch.cat(p[:2], 1).mean(), torch.cat(p[:3], 1).mean(), torch.cat(p, 1)))), {}),
    Case("flatten", fold_flatten, lambda: nn.Sequential(nn.Flatten(), nn.Linear(240, 7)),
         {"Reshape": 1}, {"FlattenChannelsLast": 1}),
    Case("flatten for two", fold_flatten,
         lambda: Net(lambda m, x: let(x.flatten(1), lambda y: (m.a(y), m.b(y))),
                     a=nn.Linear(240, 7), b=nn.Linear(240, 3)),
         {"Reshape": 1}, {"FlattenChannelsLast": 1}),
    Case("flatten before fused", fold_flatten,
         lambda: nn.Sequential(nn.Flatten(), nn.Linear(240, 7), nn.ReLU()),
         {"Reshape": 1}, {"FlattenChannelsLast": 1}, (fuse_activation,)),
    Case("shuffle after conv", fold_shuffle, maker(lambda m, x: shuffle(m.conv(x))), SHUFFLE),
    Case("shuffle after fused conv", fold_shuffle,
         maker(lambda m, x: shuffle(m.conv(x).relu(), 4).abs()), SHUFFLE, {}, (fuse_activation,)),
    Case("shuffle after transposed", fold_shuffle,
         lambda: Net(lambda m, x: F.channel_shuffle(m.t(x), 4), t=nn.ConvTranspose2d(8, 12, 3)),
         SHUFFLE),
    Case("shuffle before conv", fold_shuffle, maker(lambda m, x: m.conv(shuffle(x, 4))), SHUFFLE),
    Case("shuffle before two", fold_shuffle,
         maker(lambda m, x: let(shuffle(x), lambda y: (m.conv(y), m.t(y))),
                t=nn.ConvTranspose2d(8, 4, 3)),
         SHUFFLE),
    Case("shuffle after groups", fold_shuffle,
         lambda: Net(lambda m, x: m.b(shuffle(m.a(x))), a=conv(groups=2), b=conv(1)), SHUFFLE),
    Case("shuffle before groups", fold_shuffle,
         lambda: Net(lambda m, x: m.b(shuffle(m.a(x))), a=conv(1), b=conv(groups=2)), SHUFFLE),
    Case("shuffle before deformed", fold_shuffle,
         lambda: Net(lambda m, x: m.deform.conv(shuffle(x), m.deform.offsets(x)),
                     deform=Deformed()), SHUFFLE),
    *(Case(f"local response norm {size}", recompose_local_response_norm,
           lambda size=size, k=k: nn.LocalResponseNorm(size, 2e-4, 0.75, k), LRN,
           {"LocalResponseNorm": 1}) for size, k in ((5, 2.0), (4, 1.0), (1, 0.0), (11, 1.0))),
    Case("local response norm written out", recompose_local_response_norm,
         lambda: Net(lambda _, x: x / response(x)),
         {"Reshape": 4, **LRN}, {"LocalResponseNorm": 1}),
    Case("local response norm after drop_identity", recompose_local_response_norm,
         lambda: nn.LocalResponseNorm(3, 2.0), {**LRN, "Reshape": 3}, {"LocalResponseNorm": 1},
         (drop_identity,)),
)  # fmt: skip
