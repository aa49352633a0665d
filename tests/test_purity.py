"""Networks that are no function of their inputs: refused by name, counted, never changed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import depthwise as dw
from depthwise.errors import Unsupported
from depthwise.graph import capture, trace
from depthwise.graph.frontends.torch.capture import export

SHAPE = (1, 3, 4, 4)


class Function(nn.Module):
    """A network of one function of itself and of x, with two buffers and a weight."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.register_buffer("count", torch.zeros(3, 1, 1))
        self.register_buffer("spread", torch.ones(3))
        self.weight = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x):
        return self.function(self, x)


def drop(_, x):
    return F.dropout(x, 0.5, training=True)


def assign(net, x):
    net.count = net.count + 1
    return x + net.count


def fold(net, x):
    with torch.no_grad():
        net.weight.mul_(1.5)
    return x * net.weight


DRAWS = {
    "rand": lambda _, x: x + torch.rand(3, 1, 1),
    "randn": lambda _, x: x + torch.randn(3, 1, 1),
    "randint": lambda _, x: x + torch.randint(9, (3, 1, 1)),
    "rand_like": lambda _, x: x + torch.rand_like(x),
    "randn_like": lambda _, x: x + torch.randn_like(x),
    "randperm": lambda _, x: x[:, torch.randperm(3)],
    "bernoulli": lambda _, x: x * torch.bernoulli(torch.full((3, 1, 1), 0.5)),
    "multinomial": lambda _, x: x * torch.multinomial(torch.ones(4), 1).float(),
    "normal_": lambda _, x: x + torch.empty(3, 1, 1).normal_(),
    "uniform_": lambda _, x: x + torch.zeros(3, 1, 1).uniform_(),
    "exponential_": lambda _, x: F.gumbel_softmax(x),
    "poisson": lambda _, x: torch.poisson(x.abs()),
    "rrelu": lambda _, x: F.rrelu(x, training=True),
    "dropout": drop,
    "feature_dropout": lambda _, x: F.dropout2d(x, 0.5, training=True),
    "alpha_dropout": lambda _, x: F.alpha_dropout(x, 0.5, training=True),
    "scaled_dot_product_attention": lambda _, x: F.scaled_dot_product_attention(
        x, x, x, dropout_p=0.1
    ),
}
WRITES = {
    "add_": ("count", lambda net, x: (net.count.add_(1), x + 1)[1]),
    "copy_": ("count", lambda net, x: (net.count.copy_(x.mean((0, 2, 3), True)[0]), x)[1]),
    "copy_.": ("count", assign),
    "mul_": ("count", lambda net, x: (net.count.view(-1).mul_(2), x + net.count)[1]),
    "fill_": ("count", lambda net, x: (net.count[0].fill_(2.0), x + net.count)[1]),
    "mul_.": ("weight", fold),
    "batch_norm": (
        "spread", lambda net, x: F.batch_norm(x, torch.zeros(3), net.spread, training=True)
    ),
    "instance_norm": ("spread", lambda net, x: F.instance_norm(x, net.spread, net.spread)),
}  # fmt: skip
PURE = {
    "a local counter": lambda _, x: x + torch.zeros(3, 1, 1).add_(1),
    "a literal": lambda _, x: x + torch.tensor([1.0, 2.0, 3.0, 4.0]).add_(1),
    "its input": lambda _, x: x.add_(1) * 2,
    "nothing dropped": lambda _, x: F.dropout(x, 0.0, training=True) * 2,
    "dropout in evaluation": lambda net, x: F.dropout(x, 0.5, training=net.training) * 2,
}


@pytest.mark.parametrize("operator", DRAWS)
def test_random_draws_are_refused_by_name(operator):
    net = Function(DRAWS[operator]).eval()
    with pytest.raises(Unsupported, match=rf"operator aten.{operator}\.\w+ in module .*"
                       r"test_purity.py:\d+\) draws random numbers"):  # fmt: skip
        dw.compile(net, SHAPE)


def test_a_dropout_left_on_is_told_how_to_say_what_it_means():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5)).train()
    program = torch.export.export(net, (torch.zeros(SHAPE),))
    message = r"aten.dropout.default in module '1' .*eval\(\).*F.dropout\(x, p, self.training\)"
    with pytest.raises(Unsupported, match=message):
        dw.compile(program)


@pytest.mark.parametrize("operator", WRITES)
def test_writes_into_the_networks_own_tensors_are_refused_by_name(operator):
    name, function = WRITES[operator]
    net = Function(function).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    message = rf"operator aten.{operator.rstrip('.')}\.\w+ in module .* writes into '{name}'"
    with pytest.raises(Unsupported, match=message):
        dw.compile(net, SHAPE)
    dw.cost(net, SHAPE)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_statistics_kept_in_training_are_told_to_be_put_in_evaluation():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    program = torch.export.export(net, (torch.zeros(SHAPE),))
    with pytest.raises(Unsupported, match=r"in module '1'.* writes into '1\.\w+'"):
        dw.compile(program)
    assert net[1].num_batches_tracked == 0


def test_buffers_that_a_decomposed_program_replaces_are_refused():
    program = export(Function(assign).eval(), [SHAPE]).run_decompositions({})
    with pytest.raises(Unsupported, match="writes into 'count'"):
        dw.compile(program)


@pytest.mark.parametrize("kind", PURE)
def test_what_is_written_or_dropped_elsewhere_is_taken(kind):
    capture(Function(PURE[kind]).eval(), SHAPE)


def test_counting_takes_a_dropout_that_is_left_on():
    counted = dw.cost(nn.Sequential(nn.Conv2d(3, 3, 1), Function(drop)), SHAPE)
    assert counted.macs == 3 * 3 * 16
    assert not counted.not_counted


def test_counting_bakes_in_no_draw():
    state = torch.get_rng_state()
    graph = trace(Function(DRAWS["rand"]).eval(), SHAPE)
    assert [node.op.operator for node in graph if hasattr(node.op, "operator")] == [
        "aten.rand.default"
    ]
    assert torch.equal(state, torch.get_rng_state())


def test_memory_that_was_never_set_is_no_constant():
    """What happens to lie there would be compiled: NaN is seen in the first comparison."""
    graph = capture(Function(lambda _, x: x + torch.empty(3, 1, 1)).eval(), SHAPE)
    (empty,) = (c for c in graph.constants.values() if not c.trainable)
    assert empty.data is not None
    assert (empty.data != empty.data).all()
