"""Networks that write into parts of tensors, and what constants decide."""

import pytest
import torch
from operator_cases import Function
from torch import nn

import depthwise as dw
from depthwise.errors import Unsupported
from depthwise.graph import capture, interpret, ops, trace
from depthwise.report.network_picture import network_picture

X = (1, 6, 4, 5)


def check_equal(net: nn.Module, shape: tuple[int, ...] = X) -> None:
    """Hold the captured graph to eager PyTorch; neither its input nor its tensors may change."""
    net.eval()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    graph = capture(net, shape)
    values = interpret(graph, x.numpy())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    with torch.no_grad():
        y = net(x.clone())
    listed = [y] if isinstance(y, torch.Tensor) else y
    for output, wanted in zip(graph.outputs, listed, strict=True):
        torch.testing.assert_close(torch.tensor(values[output.value]), wanted)


class Partial(nn.Module):
    """A convolution over some channels, written back among the others, as FasterNet has it."""

    def __init__(self):
        super().__init__()
        self.mix, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.part = nn.Conv2d(2, 2, 3, padding=1, bias=False)

    def forward(self, x):
        x = torch.relu_(self.norm(self.mix(x)))
        x[:, :2] = self.part(x[:, :2])
        return self.mix(x)


def test_writing_into_a_part_costs_what_is_computed():
    shape = (1, 8, 6, 6)
    check_equal(Partial(), shape)
    for device in ("cpu", "meta"):
        net = Partial().to(device).eval()
        total = dw.cost(net, shape)
        assert total.macs == 2 * 64 * 36 + 2 * 2 * 9 * 36
        assert total.params == 72 + 16 + 36
    assert not [n for n in trace(net, shape) if isinstance(n.op, ops.Opaque)]
    assert "part" in {finding.layer for finding in dw.lint(net, shape)}
    assert "part" in network_picture(trace(net, shape), "partial")


def test_a_library_that_writes_into_its_input_leaves_the_callers_as_it_was():
    def overwrite(x):
        x[:, 1:3] = x[:, 3:5] * 2
        return x.view(-1).add_(1).view(X) + x

    net = Function(overwrite)
    library = dw.compile(net, X)
    x = torch.randn(X)
    given = x.clone()
    torch.testing.assert_close(library(x), net(x.clone()))
    assert torch.equal(x, given)


def test_an_exported_program_may_write_into_a_part(tmp_path):
    net = Partial().eval()
    torch.export.save(torch.export.export(net, (torch.randn(1, 8, 6, 6),)), tmp_path / "net.pt2")
    x = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(dw.compile(str(tmp_path / "net.pt2"))(x), net(x).detach())


def test_programs_that_write_into_no_part_stay_as_they_are():
    net = nn.Sequential(nn.Conv2d(6, 6, 3), nn.ReLU(inplace=True), nn.Hardswish(inplace=True))
    source = dw.open(net, X)
    names = [node.name for node in source.program.graph.nodes if node.op == "call_function"]
    assert names == ["conv2d", "relu_", "hardswish_"]


def added_later(x):
    total = torch.zeros(5)
    y = x + total
    total += 1
    return y, x * total


def seen_through_a_view(x):
    grid = torch.zeros(4, 5)
    column, row = grid[:, 1], grid[2]
    y = x + column[:, None]
    grid += 2
    row[1:3] = 7
    return y, x * grid, x - column[:, None]


def filled_by_both(x):
    grid = torch.ones(6, 4, 5)
    grid[0] = 3
    grid[1] = x[0, 1] * 2
    return x + grid


@pytest.mark.parametrize("function", [added_later, seen_through_a_view, filled_by_both])
def test_constants_are_read_as_they_then_are(function):
    check_equal(Function(function))


class Masked(nn.Module):
    """Channels chosen by a mask, an index, or repeated, from which the sizes follow."""

    def __init__(self, chosen):
        super().__init__()
        self.register_buffer("mask", torch.tensor([True, False, True, False, False, True]))
        self.register_buffer("counts", torch.tensor([1, 0, 2, 0, 0, 0]))
        self.conv, self.chosen = nn.Conv2d(3, 2, 1), chosen

    def forward(self, x):
        return self.conv(self.chosen(self, x))


MASKED = {
    "a buffer": lambda net, x: x[:, net.mask],
    "in code": lambda _, x: x[:, [True, False, True, False, False, True]],
    "compared": lambda net, x: x[:, (net.counts + net.mask) > 0],
    "its places": lambda net, x: x[:, net.mask.nonzero().squeeze(1)],
    "repeated": lambda net, x: x.repeat_interleave(net.counts, 1),
    "selected": lambda net, x: x.masked_select(net.mask[:, None, None]).view(1, 3, 4, 5),
}


@pytest.mark.parametrize("name", MASKED)
def test_masks_that_are_constant_decide_sizes(name):
    check_equal(Masked(MASKED[name]))


def test_places_that_are_computed_and_decide_sizes_are_refused():
    with pytest.raises(Unsupported, match="makes as many elements as the values say") as error:
        capture(Function(lambda x: x[x > 0]), X)
    assert "until" not in str(error.value)  # it has no module to end with


def test_masks_that_are_computed_are_choices():
    def masked(x):
        y, z = x.clone(), x * 2
        y[y > 0.5] = 0
        y[:, x[0].amax((1, 2)) > 1] = 1
        z[z < 0] = torch.tensor(0.25)
        return y, z

    check_equal(Function(masked))


@pytest.mark.parametrize("indices", [[7, 3, 3, 5, 1, 2, 2, 0], [0, 2, 4, 6], [1, 2, 3]])
def test_runs_of_places_are_slices(indices):
    graph = capture(Function(lambda x: x[:, indices] + 1), (1, 8, 3, 3))
    moved = [type(node.op) for node in graph if not isinstance(node.op, ops.Binary)]
    assert moved == ([ops.Gather] if len(indices) > 4 else [ops.Slice])


def test_rows_of_a_table_are_looked_up_while_the_network_runs():
    at = torch.tensor([[0, 6, 3, 3], [1, 2, 5, 4]])
    for rows in (12, 7):
        net = nn.Sequential(nn.Embedding(rows, 3), nn.Linear(3, 2)).eval()
        program = torch.export.export(net, (torch.zeros_like(at),))
        library = dw.compile(program, samples=[at.numpy()])
        torch.testing.assert_close(library(at), net(at).detach())
    with pytest.raises(ValueError, match="samples that the network is for"):
        dw.compile(program)  # random numbers name rows that are not there
