"""Which parameters decay, how fast each block learns, what is frozen, and the steps themselves."""

import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.training.optimizer import (
    OptimizerName,
    blocks,
    freeze,
    make_optimizer,
    parameter_groups,
    set_rates,
    train_mode,
)


class Plain(nn.Module):
    """Two blocks and a head, registered as people do it: lists, norms beside, a lone parameter."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.layers = nn.ModuleList([nn.Sequential(self.cell(), self.cell()), self.cell()])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.LayerNorm([4, 1, 1])
        self.head = nn.Linear(4, 2)

    @staticmethod
    def cell() -> nn.Module:
        class Cell(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False))

        return Cell()

    def forward(self, x):
        x = self.bn(self.conv(x)) * self.scale
        for cell in [*self.layers[0], self.layers[1]]:
            x = cell.body(x)
        return self.head(self.norm(self.pool(x)).flatten(1))


PLAIN = [
    ["scale"],
    ["conv.weight", "conv.bias", "bn.weight", "bn.bias"],
    ["layers.0.0.body.0.weight", "layers.0.0.body.0.bias"],
    ["layers.0.1.body.0.weight", "layers.0.1.body.0.bias"],
    ["layers.1.body.0.weight", "layers.1.body.0.bias"],
    ["norm.weight", "norm.bias"],
    ["head.weight", "head.bias"],
]


def test_blocks_of_any_network():
    """Those of a wrapped network are its own."""
    assert blocks(Plain()) == PLAIN
    wrapped = nn.ModuleDict({"model": nn.DataParallel(Plain())})
    assert blocks(wrapped) == [[f"model.module.{name}" for name in block] for block in PLAIN]


def test_blocks_of_our_networks_are_the_rows_of_their_papers():
    """MobileNetV2 has 17 bottlenecks between the stem, the last convolution and the classifier."""
    found = blocks(dw.create_model("mobilenet_v2", width=0.25))
    assert [block[0].rpartition(".conv")[0] for block in found[1:3]] == [
        "blocks.0.depthwise",
        "blocks.1.expand",
    ]
    assert len(found) == 1 + 17 + 1 + 1


def rules(net: nn.Module, *args, **kwargs) -> dict[str, tuple[float, float]]:
    """Return each learning parameter's (weight decay, share of the learning rate)."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {
        names[id(parameter)]: (group["weight_decay"], group["lr_scale"])
        for group in parameter_groups(net, *args, **kwargs)
        for parameter in group["params"]
    }


def test_groups_say_what_decays_and_how_fast_each_block_learns():
    decaying = {"scale", *(name for block in PLAIN for name in block if name.endswith("t"))}
    decaying -= {"bn.weight", "norm.weight"}  # a LayerNorm's has three axes, and is spared
    assert rules(Plain(), 1e-4, layer_decay=0.5) == {
        name: (1e-4 if name in decaying else 0.0, 0.5 ** (6 - depth))
        for depth, block in enumerate(PLAIN)
        for name in block
    }
    assert {scale for _, scale in rules(Plain(), 1e-4).values()} == {1.0}


def test_groups_leave_out_what_is_frozen():
    net = Plain()
    net.head.bias.requires_grad_(False)
    assert rules(net, 0.0, frozen=["layers", "conv", "bn.weight", "norm"]).keys() == {
        "scale",
        "bn.bias",
        "head.weight",
    }
    with pytest.raises(ValueError, match=r"no module or parameter 'laiers'.*layers"):
        parameter_groups(net, 0.0, frozen=["laiers"])
    with pytest.raises(ValueError, match="nothing is left to train"):
        parameter_groups(net.requires_grad_(False), 0.0)
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        parameter_groups(Plain(), 0.0, layer_decay=0.0)


def test_frozen_blocks_keep_weights_and_statistics():
    """Three of seven blocks; the BatchNorm without parameters goes with the module around it."""
    net = Plain()
    assert freeze(net, 3 / 7) == tuple(name for block in PLAIN[:3] for name in block)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    train_mode(net)
    optimizer = make_optimizer("sgd", parameter_groups(net, 0.1), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(8, 3, 6, 6)).square().mean().backward()
        optimizer.step()
    same = {name for name, tensor in net.state_dict().items() if torch.equal(tensor, before[name])}
    assert same == {
        *(name for block in PLAIN[:3] for name in block),
        *(f"bn.{name}" for name, _ in net.bn.named_buffers()),
        *(f"layers.0.0.body.1.{name}" for name, _ in net.bn.named_buffers()),
    }
    assert net.layers[1].body[1].training


def test_freezing_by_names():
    net = Plain()
    assert freeze(net, ["conv", "head.bias"]) == ("conv.weight", "conv.bias", "head.bias")
    assert freeze(Plain(), 0.0) == ()
    alike = nn.ModuleDict({"conv": nn.Linear(1, 1), "conv_last": nn.Linear(1, 1)})
    assert freeze(alike, ["conv"]) == ("conv.weight", "conv.bias")
    train_mode(net)
    assert net.bn.training
    with pytest.raises(ValueError, match=r"accepted: \['conv'\]"):
        freeze(net, "conv")
    with pytest.raises(ValueError, match="the last one learns"):
        freeze(net, 1.0)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_steps_are_those_of_the_papers(name: OptimizerName):
    """Two steps against the formulas, each group at its own rate."""
    start, gradients = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 0.25], [0.1, -0.4]])
    weight, bias = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    groups = [
        {"params": [weight], "weight_decay": 0.1, "lr_scale": 0.5},
        {"params": [bias], "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    optimizer = make_optimizer(name, groups, 0.3, 0.8)
    for gradient in gradients:
        weight.grad = bias.grad = gradient[None]
        optimizer.step()
        set_rates(optimizer, 0.2, 0.6)
    law = nesterov if name == "sgd" else adamw
    torch.testing.assert_close(weight.data, law(start, gradients, 0.1, (0.15, 0.1)))
    torch.testing.assert_close(bias.data, law(start, gradients, 0.0, (0.3, 0.2)))


def nesterov(w, gradients, decay, rates):
    velocity = torch.zeros_like(w)
    for gradient, lr, momentum in zip(gradients, rates, (0.8, 0.6), strict=True):
        slope = gradient + decay * w
        velocity = slope if not velocity.any() else momentum * velocity + slope
        w = w - lr * (slope + momentum * velocity)
    return w


def adamw(w, gradients, decay, rates):
    """Kingma & Ba's moments; the correction of the first is by the beta of the step, as torch's."""
    first = second = torch.zeros_like(w)
    for t, (gradient, lr, beta) in enumerate(zip(gradients, rates, (0.8, 0.6), strict=True), 1):
        w = w * (1 - lr * decay)
        first = beta * first + (1 - beta) * gradient
        second = 0.999 * second + 0.001 * gradient**2
        w = w - lr * (first / (1 - beta**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
    return w


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="accepted are sgd and adamw"):
        make_optimizer("lion", parameter_groups(Plain(), 0.0), 0.1)  # type: ignore[arg-type]
