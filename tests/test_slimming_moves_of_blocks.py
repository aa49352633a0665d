"""Branches, gates, smooth activations and the head: what may go, at what damage, and what stays."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slimming_cases import Net, conv, randomized
from slimming_networks import images, measure
from torch import nn

from depthwise.graph import Graph, capture, check, interpret, ops
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.moves import activations, blocks, head, squeeze

SHAPE = (1, 3, 8, 8)


def block() -> nn.Module:
    """Return MobileNetV3's block with a gate and a shortcut, a stem and a head of two layers."""

    def forward(n, x):
        s = n.act(n.norm0(n.stem(x)))
        y = n.act(n.norm1(n.expand(s)))
        y = n.act(n.norm2(n.deep(y)))
        y = y * F.hardsigmoid(n.up(F.relu(n.down(F.adaptive_avg_pool2d(y, 1)))))
        y = s + n.norm3(n.project(y))
        return n.last(n.hidden(y.mean((2, 3))))

    return Net(
        forward, act=nn.Hardswish(), stem=conv(3, 8, 3), norm0=nn.BatchNorm2d(8),
        expand=conv(8, 24), norm1=nn.BatchNorm2d(24), deep=conv(24, 24, 3, groups=24),
        norm2=nn.BatchNorm2d(24), down=conv(24, 8), up=conv(8, 24), project=conv(24, 8),
        norm3=nn.BatchNorm2d(8), hidden=nn.Linear(8, 16), last=nn.Linear(16, 5),
    )  # fmt: skip


def error(before: Graph, after: Graph) -> float:
    check(after)
    total = 0.0
    for x in images(before):
        a, b = (interpret(graph, *x)[graph.outputs[0].value] for graph in (before, after))
        total += float(((a - b) ** 2).sum())
    return total


def offered(move, net: nn.Module) -> tuple[Draft, list[Change]]:
    draft = Draft(capture(net.eval(), SHAPE))
    return draft, list(move.changes(draft, measure(draft.graph)))


def operators(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph]


def test_a_branch_that_gives_the_same_for_all_images_is_nothing_lost():
    net = randomized(block())
    net.project.weight.data[:] = 0
    draft, (change,) = offered(blocks, net)
    assert change.words == "a branch of 5 layers removed"
    assert change.damage == pytest.approx(0, abs=1e-9)
    after = change.apply(draft).graph
    assert sum(isinstance(node.op, ops.Conv2d) for node in after) == 1
    assert error(draft.graph, after) < 1e-8


def test_the_damage_of_a_branch_is_that_of_its_last_layer():
    draft, (change,) = offered(blocks, randomized(block()))
    known = measure(draft.graph)
    name = next(node.name for node in draft.graph if node.path == "project")
    weight = draft.graph.constants["project.weight"].data
    assert change.damage == pytest.approx(known[name].damage(-weight.reshape(8, 24)))
    zeros = np.zeros((1, 8, 1, 1), np.float32)
    plain = change.apply(draft).graph
    names = [n for n in plain.constants if n.endswith(".mean")]
    without = Graph(plain.inputs, {**plain.constants, names[0]: type(plain.constants[names[0]])(
        plain.constants[names[0]].type, zeros)}, plain.nodes, plain.outputs)  # fmt: skip
    assert error(draft.graph, plain) < error(draft.graph, without)


def test_a_sum_that_is_another_by_now_is_refused():
    draft, (change,) = offered(blocks, randomized(block()))
    with pytest.raises(ValueError, match="another by now"):
        change.apply(change.apply(draft))


def test_branches_without_statistics_are_rated_by_their_batchnorms():
    net = randomized(block())
    draft = Draft(capture(net, SHAPE))
    (before,) = blocks.changes(draft, {})
    net.norm3.weight.data *= 0.01
    (after,) = blocks.changes(Draft(capture(net, SHAPE)), {})
    assert after.damage < 1e-3 * before.damage


def test_a_gate_that_is_the_same_for_all_images_is_nothing_lost():
    net = randomized(block())
    net.up.weight.data[:] = 0
    draft, changes = offered(squeeze, net)
    change = changes[0]
    assert change.damage == pytest.approx(0, abs=1e-9)
    after = change.apply(draft).graph
    assert operators(after).count("Binary") == operators(draft.graph).count("Binary") - 1
    assert "AdaptivePool2d" not in operators(after)
    assert error(draft.graph, after) < 1e-8


def test_the_mean_of_a_gate_is_that_over_images():
    """Where what comes before the activation is normal, as of many sums."""
    net = randomized(block())
    draft, _ = offered(squeeze, net)
    (gate,) = squeeze.find_gates(draft, measure(draft.graph))
    found = []
    for x in images(draft.graph):
        values = interpret(draft.graph, *x)
        name = next(node.name for node in draft.graph if node.name == gate.product)
        product = next(node for node in draft.graph if node.name == name)
        found.append(values[next(v for v in product.inputs if v != gate.value)])
    np.testing.assert_allclose(gate.mean(), np.mean(found, 0).reshape(-1), atol=2e-3)


def test_gates_are_narrowed():
    draft, changes = offered(squeeze, randomized(block()))
    assert [change.words for change in changes[1:]] == [
        "8 to 6 channels", "8 to 4 channels", "8 to 2 channels", "8 to 1 channels",
    ]  # fmt: skip
    after = changes[2].apply(draft).graph
    assert after.constants["up.weight"].type.shape == (24, 4, 1, 1)


def test_gates_before_a_sum_go_into_the_batchnorm():
    """As in SE-ResNet, where no convolution reads the product."""

    def forward(n, x):
        s = n.stem(x)
        y = n.norm(n.body(s))
        return n.last(s + y * torch.sigmoid(n.up(F.relu(n.down(y.mean((2, 3), True))))))

    net = randomized(Net(forward, stem=conv(3, 8), body=conv(8, 8, 3), norm=nn.BatchNorm2d(8),
                         down=conv(8, 4), up=conv(4, 8), last=conv(8, 5)))  # fmt: skip
    net.up.weight.data[:] = 0
    draft, changes = offered(squeeze, net)
    after = changes[0].apply(draft).graph
    assert operators(after) == ["Conv2d", "Conv2d", "BatchNorm", "Binary", "Conv2d"]
    assert set(after.constants) < set(draft.graph.constants)
    assert error(draft.graph, after) < 1e-8


def test_a_batchnorm_that_shares_a_parameter_takes_no_gate():
    """It cannot take one half of it: the product stays."""

    def forward(n, x):
        s = n.other(n.stem(x))
        y = n.norm(n.body(s))
        return n.last(s + y * torch.sigmoid(n.up(F.relu(n.down(y.mean((2, 3), True))))))

    net = Net(forward, stem=conv(3, 8), other=nn.BatchNorm2d(8), body=conv(8, 8, 3),
              norm=nn.BatchNorm2d(8), down=conv(8, 4), up=conv(4, 8), last=conv(8, 5))  # fmt: skip
    net.norm.bias = net.other.bias
    net = randomized(net)
    net.up.weight.data[:] = 0
    draft, changes = offered(squeeze, net)
    after = changes[0].apply(draft).graph
    assert operators(after).count("Binary") == 2
    assert error(draft.graph, after) < 1e-8


def test_an_activation_that_is_straight_where_it_is_used_becomes_a_relu():
    net = randomized(block())
    for norm in (net.norm0, net.norm1, net.norm2):
        norm.weight.data[:] = 0.05
        norm.bias.data[:] = 6
    draft, changes = offered(activations, net)
    assert [change.words for change in changes] == ["hard_swish to relu"] * 2
    for change in changes:
        assert change.damage == pytest.approx(0, abs=1e-6)
        draft = change.apply(draft)
    assert sum(node.op == ops.Activation("hard_swish") for node in draft.graph) == 1


@pytest.mark.parametrize("left_out", ["shift", "scale", "both"])
def test_relus_are_scaled_and_shifted_to_come_near(left_out):
    """Each of the two brings them nearer."""
    draft, changes = offered(activations, randomized(block()))
    found = missed = 0.0
    for change in changes:
        like = change.apply.keywords["like"]
        plain = {"shift": 0 * like.shift, "scale": np.ones_like(like.scale)}
        worse = plain if left_out == "both" else {left_out: plain[left_out]}
        keywords = {**change.apply.keywords, "like": replace(like, **worse)}
        found += error(draft.graph, change.apply(draft).graph)
        missed += error(draft.graph, change.apply.func(draft, **keywords).graph)
    assert 0 < found < missed


def test_the_head_is_what_is_read_at_one_pixel():
    _, changes = offered(head, randomized(block()))
    assert {change.place for change in changes} == {"hidden"}
    assert changes[0].words == "16 to 12 channels"


def test_a_pointwise_convolution_before_the_pooling_is_of_the_head():
    net = nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 32), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                        nn.Flatten(), nn.Linear(32, 5))  # fmt: skip
    _, changes = offered(head, randomized(net))
    assert {change.place for change in changes} == {"2"}
