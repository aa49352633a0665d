"""Numbers that Python takes out of tensors: followed where no input decides them, else refused."""

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.graph import capture, interpret

SHAPE = (1, 3, 8, 8)


class Net(nn.Module):
    """A convolution, and then a function of the module and of its result."""

    def __init__(self, function):
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.function = function
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("places", torch.tensor([1, 3]))

    def forward(self, x):
        return self.function(self, self.stem(x))


def of_sizes(_, x):
    pairs = torch.arange(x.shape[2]).unfold(0, 2, 1).reshape(-1).tolist()
    halves = (torch.tensor(x.shape[2:]) * 2).tolist()
    rates = [float(rate) for rate in torch.linspace(0, 0.5, 3)]
    if torch.tensor(x.shape).sum() > 7:
        x = x * rates[1]
    return x[:, :, pairs], nn.functional.interpolate(x, halves), x * torch.arange(4).numpy()[2]


def of_weights(self, x):
    column = sum(x[..., place] for place in self.places)
    first, last = self.places
    rows = [x[:, :, row] for row in self.places.tolist()]
    return (
        column,
        x[:, :, first:last],
        rows,
        x * self.gain.item(),
        x if self.places.sum() > 9 else -x,
    )


def written(_, x):
    kept = torch.zeros(4)
    kept[1:][0] = x.shape[2]
    return x * float(kept[1])


@pytest.mark.parametrize("function", [of_sizes, of_weights, written])
def test_numbers_that_no_input_decides_are_constants(function):
    torch.manual_seed(0)
    net, x = Net(function).eval(), torch.randn(SHAPE)
    graph = capture(net, SHAPE)
    values = interpret(graph, x.numpy())
    with torch.no_grad():
        wanted = torch.utils._pytree.tree_leaves(net(x))
    assert len(graph.outputs) == len(wanted)
    for output, y in zip(graph.outputs, wanted, strict=True):
        np.testing.assert_allclose(values[output.value], y, 1e-5, 1e-6)


def written_by_values(_, x):
    kept = torch.zeros(4)
    kept[1:][0] = x.sum()
    return x * float(kept[1])


def drawn(_, x):
    return x * torch.rand(2).tolist()[0]


def grown(self, x):
    with torch.no_grad():
        self.gain.mul_(2)
    return x * self.gain.item()


@pytest.mark.parametrize(("function", "message"), [
    (lambda _, x: x * x.max().item(), "reads a number: .*until='stem'"),
    (lambda _, x: x * torch.arange(2).tolist()[1] * x.max().item(), "reads a .*'stem'"),
    (written_by_values, "by the values of tensors"),
    (drawn, "reads a number|by the values of tensors"),
    (grown, "reads a number"),
], ids=["input", "mixed", "written", "drawn", "grown"])  # fmt: skip
def test_numbers_that_may_change_are_refused(function, message):
    net = Net(function)
    with pytest.raises(dw.Unsupported, match=message):
        capture(net, SHAPE)
    assert net.gain == 2
