"""Networks that assign to their own weights whenever they run, such as those that fold layers."""

import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.errors import Unsupported

SHAPE = (1, 3, 8, 8)


class Folded(nn.Module):
    """Two convolutions in a row that are one in evaluation, folded whenever it runs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 1, bias=False), nn.Conv2d(6, 4, 3, padding=1)
        self.folded = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        if self.training:
            return self.second(self.first(x))
        narrow = self.first.weight.data[:, :, 0, 0]
        self.kernel = torch.einsum("omhw,mi->oihw", self.second.weight.data, narrow)
        self.folded.weight.data = self.kernel
        self.folded.bias.data = self.second.bias.clone()
        return self.folded(x)


class Dynamic(nn.Module):
    """A convolution whose weights follow from the input."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        self.conv.weight.data = self.conv.weight.data * x.mean()
        return self.conv(x)


def test_what_is_folded_in_forward_compiles_and_the_network_stays_as_it_was():
    net = Folded().eval()
    x = torch.randn(SHAPE)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    parameters = dict(net.named_parameters())
    library = dw.compile(net, SHAPE)
    assert "kernel" not in vars(net)
    assert "weight" not in vars(net.folded)
    assert all(own is parameters[name] for name, own in net.named_parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(library(x), net(x), rtol=1e-4, atol=1e-5)


def test_weights_that_follow_from_the_input_are_refused():
    with pytest.raises(Unsupported):
        dw.compile(Dynamic().eval(), SHAPE)
