"""What capture must not mistake: types, names, tensors of several names or of no elements."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from operator_cases import Function, conv
from torch import nn

from depthwise.analysis import cost
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.errors import Unsupported
from depthwise.graph import capture, interpret, trace
from depthwise.precision.compiling import compile
from depthwise.runtime.target import find_target

X = (2, 4, 6, 6)


def check_equal(net: nn.Module, shape: tuple[int, ...] = X) -> None:
    """Hold the captured graph, as it is and after every pass, to PyTorch."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = net.eval()(x)
    graph = capture(net, shape)
    for form in (graph, rewrite(graph)):
        values = interpret(form, x.numpy())
        listed = [y] if isinstance(y, torch.Tensor) else y
        for output, expected in zip(form.outputs, listed, strict=True):
            found = values[output.value]
            single = form is not graph and expected.is_floating_point()  # no library gives wider
            assert found.dtype == (np.float32 if single else expected.numpy().dtype)
            np.testing.assert_allclose(found, expected.numpy(), 1e-5, 1e-5)


# ------------------------------------------------------------------------------------------ types

CONVERSIONS = {
    "long": lambda x: x.long(),
    "int and back": lambda x: x.int().float() * 0.5 + x,
    "byte": lambda x: (x.clamp(0, 1) * 255).byte().float(),
    "bool": lambda x: x.bool(),
    "to a type": lambda x: x.to(torch.int32) + x,
    "to a type by name": lambda x: x.to(dtype=torch.int16).to(torch.float32),
    "double": lambda x: x.double(),
    "type": lambda x: x.type(torch.int64).type(torch.float32),
    "type of another": lambda x: x.type_as(torch.ones(1, dtype=torch.float64)),
    "to another": lambda x: x.to(torch.ones(1, dtype=torch.int64)),
    "softmax in double": lambda x: F.softmax(x, 1, dtype=torch.float64),
    "log softmax in double": lambda x: F.log_softmax(x, 1, dtype=torch.float64).float(),
    "sum in double": lambda x: x.sum(1, dtype=torch.float64),
    "mean in double": lambda x: torch.mean(x, 1, dtype=torch.float64),
    "a double buffer": lambda x: x * torch.full((4, 1, 1), 0.1, dtype=torch.float64),
    "compared": lambda x: (x > 0).float() * x,
    "in place": lambda x: (x + 0).masked_fill_(x > 0.5, 2).clamp_(max=x.mean()),
    "a mask counted": lambda x: ((x > 0) + (x > 1)).sum((2, 3)) / (x > -9).sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions_are_computed(name):
    check_equal(Function(CONVERSIONS[name]))


def test_halves_inside_are_computed_in_float32():
    """The graph says what PyTorch computes, a library is closer to the numbers themselves."""
    x = torch.randn(X, generator=torch.Generator().manual_seed(1))
    graph = capture(Function(lambda x: x.half().float() * 2), X)
    found = interpret(graph, x.numpy())[graph.outputs[0].value]
    np.testing.assert_array_equal(found, (x.half().float() * 2).numpy())
    library = rewrite(graph)
    np.testing.assert_array_equal(interpret(library, x.numpy())[library.outputs[0].value], x * 2)


REFUSED = {
    "bits of integers": lambda x: x.int() & 3,
    "complex": lambda x: torch.view_as_complex(x.reshape(2, 4, 6, 3, 2)).abs(),
    "unsigned words": lambda x: x.to(torch.uint32),
}


@pytest.mark.parametrize("name", REFUSED)
def test_conversions_without_a_meaning_in_float32_are_refused(name):
    with pytest.raises(Unsupported, match=r"operator .* in module '\(the network itself\)' \(.*\d"):
        capture(Function(REFUSED[name]), X)


def test_a_refused_conversion_says_what_to_do():
    with pytest.raises(
        Unsupported, match=r"makes uint32: libraries compute in float32, .* outside"
    ):
        capture(Function(REFUSED["unsigned words"]), X)
    with pytest.raises(
        Unsupported, match=r"is not supported for int32: .* converted with .float\(\)"
    ):
        capture(Function(REFUSED["bits of integers"]), X)


SAME = {
    "to its own type": lambda x: x.float().to(torch.float32).type_as(x).to("cpu") + 1,
    "whole numbers first": lambda x: torch.tensor([[[1]], [[2]], [[3]], [[16777217]]]) * x,
    "whole numbers": lambda x: x - torch.arange(4).view(4, 1, 1),
    "a mask": lambda x: x * (torch.arange(6) > 2),
    "a double scalar": lambda x: x * torch.tensor(0.1, dtype=torch.float64),
    "whole numbers beside": lambda x: torch.cat((torch.arange(72).view(2, 1, 6, 6), x), 1),
    "maximum with whole numbers": lambda x: torch.maximum(torch.tensor(0), x),
    "constants converted": lambda x: x + torch.tensor([1.7, 2.5, 3, 9]).byte().view(4, 1, 1) / 2,
    "constants in several results": lambda x: x * torch.linspace(0, 1, 8).chunk(2)[1].view(4, 1, 1),
    "zeros of its type": lambda x: torch.zeros_like(x) - x,
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_constants_are_converted_exactly(name):
    check_equal(Function(SAME[name]))


@pytest.mark.parametrize("kind", ["half", "double", "bfloat16"])
def test_networks_of_other_types_keep_them_in_the_graph(kind):
    net = getattr(nn.Sequential(conv(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU()), kind)()
    assert cost(net, X).macs == 2 * 16 * 5 * 36
    assert cost(nn.Sequential(net, Function(lambda x: 2 * x + 1)), X).params == 5 * 36 + 15
    named = {"half": "float16", "double": "float64"}.get(kind, kind)
    graph = capture(net, X)
    assert {graph.type(name).dtype for name in (*graph.inputs, graph.outputs[0].value)} == {named}
    library = rewrite(graph)
    assert {library.type(n).dtype for n in (*library.inputs, *library.constants)} == {"float32"}


# ---------------------------------------------------------------------------------- shared tensors


class Twice(nn.Module):
    """A layer that is an attribute, and part of a sequence too."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = conv(4, 4, 3, padding=1), nn.PReLU(4)
        self.net = nn.Sequential(self.conv, self.act)

    def forward(self, x):
        return self.net(x)


class Tied(nn.Module):
    """Two layers of one weight; each has its bias."""

    def __init__(self):
        super().__init__()
        self.a, self.b = conv(4, 4, 3, padding=1), conv(4, 4, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))


class Alias(nn.Module):
    """A buffer that is a parameter's memory, registered before it is read, and a view of a part."""

    def __init__(self):
        super().__init__()
        self.conv = conv(4, 4, 1)
        self.register_buffer("same", self.conv.weight.data)
        self.register_buffer("part", self.conv.weight.data[:1])

    def forward(self, x):
        return F.conv2d(self.conv(x), self.same) * self.part


@pytest.mark.parametrize("kind", [Twice, Tied, Alias])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_tensor_of_several_names_is_one_constant(kind, device):
    net = kind().to(device) if device == "cpu" else _on_meta(kind)
    expected = sum(p.numel() for p in net.parameters())
    found = cost(net, X)
    assert (found.params, found.weight_bytes) == (expected, 4 * expected)
    assert sum(layer.params for layer in found.layers) + found.unused_params == expected
    if device == "cpu":
        check_equal(net)


def _on_meta(kind: type[nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return kind()


def test_equal_tensors_in_memory_of_their_own_stay_apart():
    net = nn.Sequential(conv(4, 4, 1), conv(4, 4, 1))
    net[1].load_state_dict(net[0].state_dict())
    assert cost(net, X).params == 2 * 20


def test_a_saved_program_keeps_its_shared_tensors(tmp_path):
    torch.export.save(torch.export.export(Tied().eval(), (torch.empty(X),)), tmp_path / "net.pt2")
    assert cost(torch.export.load(tmp_path / "net.pt2"), X).params == 144 + 2 * 4


def test_equal_weights_are_stored_once():
    apart = nn.Sequential(*(conv(4, 4, 3, padding=1) for _ in range(5)))
    shared = nn.Sequential(*(conv(4, 4, 3, padding=1) for _ in range(5)))
    for layer in shared:
        layer.load_state_dict(shared[0].state_dict())
    target = find_target("x86-64-v3")
    one, five = (
        make_plan(rewrite(capture(net, X)), target).weights.size
        for net in (nn.Sequential(shared[0]), shared)
    )
    assert five == one
    assert make_plan(rewrite(capture(apart, X)), target).weights.size == 5 * one


def test_a_library_of_shared_weights_is_right():
    net = Tied().eval()
    library = compile(net, X)
    assert library.manifest.network.params == 144 + 2 * 4
    x = torch.randn(X)
    torch.testing.assert_close(library(x), net(x).detach(), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------- names


class Named(nn.Module):
    """A buffer of the network itself of some name, which export may give to something else."""

    def __init__(self, name: str, last: bool):
        super().__init__()
        self.name, self.last = name, last
        self.register_buffer(name, torch.rand(1, 4, 1, 1) + 0.5)
        self.conv = conv(4, 4, 3)

    def forward(self, x):
        if not self.last:
            x = x - getattr(self, self.name)
        y = torch.relu(self.conv(x) * 2 + 1)
        y = y - y.mean((2, 3), keepdim=True)
        return y * getattr(self, self.name) if self.last else y


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", ["x", "mean", "sub", "sub_1", "relu", "conv2d", "mul", "add",
                                  "b_mean", "p_conv_weight", "output"])  # fmt: skip
def test_names_of_the_networks_own_tensors_are_free(name, last):
    net = Named(name, last)
    check_equal(net)
    graph = capture(net, X)
    assert list(graph.inputs) == ["x"]
    assert cost(net, X).macs == 2 * 16 * 4 * 36


def test_a_list_of_parameters_may_be_named_as_an_operator():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.var = nn.ParameterList([torch.rand(1) for _ in range(5)])

        def forward(self, x):  # a variance is several operators of ours: var, var.1, var.2 ...
            return x.var(1, keepdim=True) * self.var[1] + self.var[2] + self.var[3]

    check_equal(Listed())


# ---------------------------------------------------------------------------------------- nothing

EMPTY = {
    "beside another": lambda x: torch.cat((x[:, :0], x), 1).relu(),
    "beside another, in front": lambda x: torch.cat((x, x[:, 4:], x[:, 2:2]), 1) + 1,
    "of another rank": lambda x: torch.cat((torch.empty(0), x.relu()), 2),
    "split off": lambda x: torch.cat(x.split([0, 3, 1], 1), 1) * 2,
    "split off and computed": lambda x: torch.cat([p.relu() * 2 for p in x.split([0, 4], 1)], 1),
    "summed": lambda x: x[:, :0].sum() + x,
    "summed over channels": lambda x: x[:, :0].sum(1, keepdim=True) + x,
    "multiplied": lambda x: x[..., :0] @ torch.ones(0, 6) + x,
    "a linear layer": lambda x: F.linear(x[..., :0], torch.ones(6, 0), torch.arange(6.0)) + x,
    "padded": lambda x: F.pad(x[..., :0], (3, 3), value=2.0) + x,
    "nothing left within padding": lambda x: F.pad(x, (-6, 6), value=3.0) + x,
    "written into": lambda x: (x[:, :0].add_(1), x + 1)[1],
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_what_has_no_elements_takes_no_part(name):
    check_equal(Function(EMPTY[name]))


def test_nothing_is_computed_that_has_no_elements():
    graph = trace(Function(lambda x: (x[:, :0].relu(), conv(4, 4, 1)(x))), X)
    assert all(node.type.size for node in graph)


@pytest.mark.parametrize(
    ("net", "shape", "kind", "message"),
    [
        (Function(lambda x: x[:, :0]), X, Unsupported, r"output .* shape \(2, 0, 6, 6\), no elem"),
        (Function(lambda x: (x + 1, x[:0])), X, Unsupported, r"output 1 has the shape \(0, "),
        (Function(lambda x: F.adaptive_avg_pool2d(x, 0)), X, Unsupported, r"shape \(2, 4, 0, 0\)"),
        (conv(4, 2, 1), (0, 4, 6, 6), ValueError, r"input \w+ has the shape \(0, 4, 6, 6\): each"),
        (conv(4, 2, 1), (1, 4, 0, 6), ValueError, r"\(1, 4, 0, 6\)"),
        (nn.MaxPool2d(8), X, ValueError, r"does not fit the network"),
    ],
)  # fmt: skip
def test_networks_of_nothing_are_refused(net, shape, kind, message):
    with pytest.raises(kind, match=message):
        capture(net, shape)


# ------------------------------------------------------------------------------------------ others


@pytest.mark.parametrize("pool", [F.max_pool2d, F.adaptive_max_pool2d])
def test_indices_of_a_maximum_are_whole_numbers(pool):
    check_equal(Function(lambda x: pool(x, 2, return_indices=True)[0]))
    for read in (lambda y: y, lambda y: y[0] + y[1].float(), lambda y: y[1].flatten(1)):
        check_equal(Function(lambda x, read=read: read(pool(x, 2, return_indices=True))))


def test_one_image_without_a_batch_is_computed():
    for layer in (conv(4, 3, 3), nn.ConvTranspose2d(4, 3, 3), nn.MaxPool2d(2), nn.AvgPool2d(2),
                  nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(2)):  # fmt: skip
        check_equal(layer, X[1:])


def test_a_product_with_a_vector_loses_an_axis():
    check_equal(Function(lambda x: x @ torch.arange(6.0)))


def test_roots_written_as_powers_are_roots_at_the_ends():
    net = Function(lambda x: (x**0.5, torch.pow(x, -0.5)))
    x = torch.tensor([[-torch.inf, torch.inf, -0.0, 0.0, -1.0, 4.0]])
    graph = capture(net, (1, 6))
    with np.errstate(all="ignore"):
        values = interpret(graph, x.numpy())
    for output, expected in zip(graph.outputs, net(x), strict=True):
        np.testing.assert_array_equal(values[output.value], expected.numpy())
