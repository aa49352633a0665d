"""Branches while training, one convolution afterwards: the same to the last digits of float64."""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torchvision.models import mnasnet0_5

import depthwise as dw
from depthwise.families.xception import XceptionModule
from depthwise.layers import (
    GhostBottleneck,
    InvertedResidual,
    SeparableConv,
    SqueezeExcite,
    add_branches,
    conv_norm_act,
    fold_branches,
)
from depthwise.layers.conv_norm_pairs import ConvNormPair, conv_norm_pairs
from depthwise.layers.reparameterize import BranchedConv


def counts(net: nn.Module) -> list[int]:
    """Return how many branches each branched convolution has."""
    return [len(module.branches) for module in net.modules() if isinstance(module, BranchedConv)]


def scatter(net: nn.Module) -> None:
    """Give every BatchNorm weights and statistics as training might leave them."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.1, 3.0)


def assert_folds(net: nn.Module, x: Tensor, rounding: float) -> nn.Module:
    net.eval()
    with torch.no_grad():
        expected, folded = net(x), fold_branches(net)
        torch.testing.assert_close(
            folded(x), expected, rtol=0, atol=rounding * expected.abs().max().item()
        )
    return folded


CONVOLUTIONS = {  # the arguments of nn.Conv2d, and how many branches 3 of one kind make
    "depthwise": ((4, 4, 3, 1, 1, 1, 4), 5),
    "depthwise, stride 2": ((4, 4, 3, 2, 1, 1, 4), 4),
    "depthwise 5x5, dilated": ((4, 4, 5, 1, 4, 2, 4), 5),
    "depthwise, two maps a channel": ((4, 8, 3, 1, 1, 1, 4), 4),
    "pointwise": ((4, 4, 1), 4),
    "pointwise, wider": ((4, 6, 1), 3),
    "pointwise, grouped": ((4, 4, 1, 1, 0, 1, 2), 4),
    "pointwise, stride 2": ((4, 4, 1, 2), 3),
    "standard, with a bias": ((4, 4, 3, 1, 1), 5),
    "grouped": ((4, 6, 3, (1, 2), 1, 1, 2), 4),
    "three by five": ((4, 4, (3, 5), 1, (1, 2), 1, 4), 5),
    "by the word same": ((4, 4, 3, 1, "same", 2, 2), 5),
    "unpadded": ((4, 4, 3), 3),
    "padded more": ((4, 4, 3, 1, 2), 3),
    "even": ((4, 4, 2, 2), 3),
    "reflected": ((4, 4, 3, 1, 1, 1, 4, True, "reflect"), 5),
}


def test_every_kind_of_convolution_folds_exactly():
    for name, (arguments, branches) in CONVOLUTIONS.items():
        net = nn.Sequential(nn.Conv2d(*arguments), nn.BatchNorm2d(arguments[1], eps=1e-3)).double()
        names = list(net.state_dict())
        add_branches(net, 3)
        assert counts(net) == [branches], name
        scatter(net)
        folded = assert_folds(net, torch.randn(2, 4, 9, 8, dtype=torch.float64), 1e-13)
        assert list(folded.state_dict()) == names, name
        assert counts(folded) == []
        assert counts(net) == [branches]  # folded is a copy


def test_channels_whose_first_branch_vanished_fold_too():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    add_branches(net, 2)
    scatter(net)
    first = net[0].branches[0].norm.weight
    with torch.no_grad():
        first[0], first[1], first[2] = 0.0, 1e-30, -1e-7
        for branch in net[0].branches:
            branch.norm.weight[3] = 0.0
    folded = assert_folds(net, torch.randn(2, 4, 6, 6), 1e-6)
    assert folded[0].weight.abs().max() < 1e3


class Blocks(nn.Sequential):
    """One block of each family that we have, at 8x8 pixels, and one of MNASNet."""

    def __init__(self):
        super().__init__(
            conv_norm_act(3, 8, 3, 2),
            SeparableConv(8, 8),
            SeparableConv(8, 12, stride=2),
            InvertedResidual(12, 24, 12, 5, gate=SqueezeExcite(24, 8)),
            InvertedResidual(12, 24, 16, stride=2),
            GhostBottleneck(16, 23, 16),
            GhostBottleneck(16, 24, 12, stride=2),
            XceptionModule(12, (16, 16), 2),
            mnasnet0_5().layers[8][1],
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 3),
        )


def train_a_little(net: nn.Module, x: Tensor) -> None:
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), 0.02, 0.9)
    for _ in range(3):
        loss = F.cross_entropy(net(x), torch.arange(len(x)) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def blocks() -> nn.Module:
    torch.manual_seed(0)
    return Blocks()


def test_blocks_of_every_family_train_and_fold(blocks: nn.Module):
    net, x = copy.deepcopy(blocks), torch.randn(6, 3, 32, 32)
    pairs = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    add_branches(net, 2)
    assert len(counts(net)) == pairs
    train_a_little(net, x)
    silent = [
        name for name, module in net.named_modules()
        if isinstance(module, nn.BatchNorm2d) and not module.weight.abs().max() > 1e-6
    ]  # fmt: skip
    assert not silent  # every branch has begun to learn
    folded = assert_folds(net, x, 1e-5)
    assert_folds(copy.deepcopy(net).double(), x.double(), 1e-12)
    plain, state = blocks.state_dict(), folded.state_dict()
    assert [(k, v.shape, v.dtype) for k, v in state.items()] == [
        (k, v.shape, v.dtype) for k, v in plain.items()
    ]
    again = copy.deepcopy(blocks).eval()
    again.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(again(x), folded(x))
    assert repr(folded) == repr(blocks)


def test_adding_branches_changes_nothing(blocks: nn.Module):
    """To the last bit: in evaluation, in training, and folded at once."""
    plain, x = copy.deepcopy(blocks), torch.randn(6, 3, 32, 32)
    scatter(plain)
    net = copy.deepcopy(plain)
    add_branches(net, 2)
    folded = fold_branches(net).state_dict()
    assert all(torch.equal(tensor, folded[name]) for name, tensor in plain.state_dict().items())
    for mode in (False, True):
        with torch.no_grad():
            assert torch.equal(net.train(mode)(x), plain.train(mode)(x))


def test_a_folded_network_loads_into_one_of_ours():
    net = dw.create_model("mobilenet_v1", width=0.25, num_classes=3)
    plain, x = copy.deepcopy(net).eval(), torch.ones(1, 3, 32, 32)
    add_branches(net, 2)
    scatter(net)
    folded = fold_branches(net).eval()
    plain.load_state_dict(folded.state_dict())
    with torch.no_grad():
        assert torch.equal(plain(x), folded(x))


def test_a_folded_network_costs_and_compiles_as_a_plain_one():
    net = nn.Sequential(conv_norm_act(3, 4, 3, 2), SeparableConv(4, 4)).eval()
    x = torch.randn(1, 3, 8, 8)
    plain = dw.cost(net, x.shape)
    add_branches(net, 2)
    scatter(net)
    folded = fold_branches(net)
    cost = dw.cost(folded, x.shape)
    assert (cost.macs, cost.params) == (plain.macs, plain.params)
    with torch.no_grad():
        expected = net(x)
    close = 1e-5 * expected.abs().max().item()
    y = torch.from_numpy(dw.compile(folded, x.shape)(x.numpy()))
    torch.testing.assert_close(y, expected, rtol=0, atol=close)


def test_what_cannot_have_branches_is_refused():
    def pair() -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))

    net = pair()
    add_branches(net, 2)
    with pytest.raises(ValueError, match="branches already"):
        add_branches(net, 2)
    for n in (0, 1.5):
        with pytest.raises(ValueError, match="whole number"):
            add_branches(pair(), n)  # type: ignore[arg-type]
    frozen = pair()
    frozen[0].weight.requires_grad_(False)
    sliding = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    plain = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, affine=False))
    for other in (nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU()), frozen, sliding, plain):
        with pytest.raises(ValueError, match="adds no branch"):
            add_branches(other, 2)
    with pytest.raises(ValueError, match="n=1 adds no branch"):
        add_branches(pair(), 1)  # a pointwise convolution that changes the channels


# ---------------------------------------------------------------- which pairs are found


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
        self.cell = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))


class Direct(Base):
    def forward(self, x, scale=2.0):
        return self.norm(self.conv(x)) * scale + self.cell(x)


class ReadTwice(Base):
    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class CalledTwice(Base):
    def forward(self, x):
        return self.norm(self.conv(self.conv(x)))


class NormedTwice(Base):
    def forward(self, x):
        return self.norm(self.conv(x)) + self.norm(x)


class WeightRead(Base):
    def forward(self, x):
        return self.norm(self.conv(x)) + F.conv2d(x, self.conv.weight)


class OtherwiseInTraining(Base):
    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y if self.training else self.norm(y)


class StepByStep(Base):
    """Takes what is between the two out of the sequence, in code that can be followed."""

    def forward(self, x):
        between = self.cell[0](x)
        return between + self.cell(x)


class Hidden(Base):
    """The same in code that cannot be followed."""

    def forward(self, x):
        y = self.cell[0](x)
        return self.cell[1](y) if y.sum() > 0 else y


def hooked() -> nn.Module:
    net = Direct()
    net.conv.register_forward_hook(lambda module, args, result: None)  # noqa: ARG005
    return net


def tied() -> nn.Module:
    net = Direct()
    net.conv.weight = net.cell[0].weight
    return net


BOTH = [ConvNormPair("conv", "norm"), ConvNormPair("cell.0", "cell.1")]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Direct, BOTH),
        (ReadTwice, BOTH[1:]),
        (CalledTwice, BOTH[1:]),
        (NormedTwice, BOTH[1:]),
        (WeightRead, BOTH[1:]),
        (OtherwiseInTraining, BOTH[1:]),
        (StepByStep, []),
        (Hidden, []),
        (hooked, BOTH[1:]),
        (tied, []),
    ],
)
def test_pairs_are_those_that_nothing_parts(
    make: Callable[[], nn.Module], found: list[ConvNormPair]
):
    assert conv_norm_pairs(make()) == found


def test_norms_with_an_activation_keep_it():
    """timm's, whose activation has a parameter here, which learns while there are branches."""
    net = nn.Sequential(nn.Conv2d(3, 3, 1), BatchNormAct2d(3, act_layer=nn.PReLU, inplace=False))
    names = list(net.state_dict())
    add_branches(net, 2)
    scatter(net)
    nn.init.constant_(net[1].rest[1].weight, 0.7)
    folded = assert_folds(net, torch.randn(2, 3, 5, 5), 1e-6)
    assert list(folded.state_dict()) == names
    assert isinstance(folded[1], BatchNormAct2d)
    assert folded[1].act.weight.item() == pytest.approx(0.7)


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "ghostnet",
    "xception", "timm:mobilenetv3_small_050", "timm:efficientnet_b0", "timm:resnet18",
])  # fmt: skip
def test_whole_networks_train_and_fold(name: str):
    source, _, timm_name = name.partition(":")
    net = timm.create_model(timm_name) if timm_name else dw.create_model(source)
    plain, x = copy.deepcopy(net), torch.randn(4, 3, 64, 64)
    add_branches(net, 2)
    assert len(counts(net)) == sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    train_a_little(net, x)
    folded = assert_folds(net.double(), x.double(), 1e-11)
    plain.double().eval().load_state_dict(folded.state_dict())
    with torch.no_grad():
        assert torch.equal(plain(x.double()), folded(x.double()))
