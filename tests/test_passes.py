"""The passes: each keeps what a graph computes, fires where it should, and nowhere else."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pass_cases import CASES, SHAPE, Net, channels, conv, let, maker, randomize, response, shuffle
from tiers import slow_where
from torch import nn
from torchvision.ops import DeformConv2d

import depthwise as dw
from depthwise.compiler.fused_ops import Epilogue, FlattenChannelsLast, Fused
from depthwise.compiler.passes import (
    PASSES,
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
from depthwise.families import find_network, list_models
from depthwise.graph import Graph, capture, check, interpret, ops
from depthwise.graph.infer import infer_shape
from depthwise.graph.ops import LocalResponseNorm


def kinds(graph: Graph) -> Counter[str]:
    """Count the nodes by operator, functions by their own name."""
    named = ops.Activation | ops.Binary | ops.Reduce
    return Counter(
        node.op.function if isinstance(node.op, named) else type(node.op).__name__ for node in graph
    )


def results(graph: Graph, *inputs: np.ndarray) -> list[np.ndarray]:
    values = interpret(graph, *inputs)
    return [values[output.value] for output in graph.outputs]


def prepare(net: nn.Module, *earlier: Callable, shape=SHAPE) -> Graph:
    graph = capture(randomize(net), shape)
    for rewrite in earlier:
        graph = rewrite(graph)
    return graph


def assert_equal(before: Graph, after: Graph, tolerance: float = 1e-5) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(type_.shape, np.float32) for type_ in before.inputs.values()]
    for found, expected in zip(results(after, *inputs), results(before, *inputs), strict=True):
        assert found.dtype == expected.dtype
        bound = tolerance * np.abs(expected).max()
        assert np.allclose(found, expected, rtol=tolerance, atol=bound)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rewrite.__name__}: {case.name}")
def test_fires_as_often_as_it_should_and_keeps_the_result(case):
    before = prepare(case.net(), *case.earlier)
    after = check(case.rewrite(before))
    assert kinds(before) - kinds(after) == Counter(case.gone)
    assert kinds(after) - kinds(before) == Counter(case.new)
    assert_equal(before, after)
    assert case.rewrite(after) is after
    read = {name for node in after for name in node.inputs}
    assert set(after.constants) <= read | set(before.constants) - {
        name for node in before for name in node.inputs
    }


class Refusal(NamedTuple):
    """A net on which a pass finds nothing to do."""

    name: str
    rewrite: Callable
    net: Callable[[], nn.Module]
    earlier: tuple[Callable, ...] = ()


def both(forward: Callable, last: Callable, **members: nn.Module) -> Callable[[], nn.Module]:
    """Return the maker of a net that returns forward(m, x) and what comes of it."""
    return maker(lambda m, x: let(forward(m, x), lambda y: (y, last(m, y))), **members)


def conv_of(m, x):
    return m.conv(x)


REFUSALS = (
    Refusal("output", fold_batchnorm, both(conv_of, lambda m, y: m.n(y), n=nn.BatchNorm2d(8))),
    Refusal("reader", fold_batchnorm, maker(
        lambda m, x: let(m.conv(x), lambda y: m.n(y) * y), n=nn.BatchNorm2d(8))),
    Refusal("input", fold_batchnorm, lambda: nn.BatchNorm2d(8)),
    Refusal("activation between", fold_batchnorm,
            lambda: nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(8))),
    Refusal("weight that is computed", fold_batchnorm, lambda: Net(
        lambda m, x: m.n(F.conv2d(x, x.mean((0, 2, 3)).expand(8, 8)[:, :, None, None])),
        n=nn.BatchNorm2d(8))),
    Refusal("norm over another axis", fold_batchnorm, lambda: Net(
        lambda m, x: m.n(m.linear(x.flatten(2))), n=nn.BatchNorm1d(8), linear=nn.Linear(30, 30))),
    Refusal("output", fold_affine, both(conv_of, lambda _, y: y * 2)),
    Refusal("reader", fold_affine, maker(lambda m, x: let(m.conv(x), lambda y: (y * 2) * y))),
    Refusal("padded", fold_affine, maker(lambda m, x: m.conv(x + 1))),
    Refusal("padded transposed", fold_affine, lambda: Net(
        lambda m, x: m.t(x + 1), t=nn.ConvTranspose2d(8, 4, 3))),
    Refusal("shared input", fold_affine, maker(lambda m, x: let(x * 2, lambda y: m.conv(y) * y))),
    Refusal("by pixel", fold_affine, maker(lambda m, x: m.conv(x) * torch.ones(6, 5))),
    Refusal("by image", fold_affine, maker(lambda m, x: m.conv(x) * torch.ones(2, 1, 1, 1))),
    Refusal("broadcast", fold_affine, lambda: Net(
        lambda _, x: F.conv2d(x, torch.ones(1, 8, 6, 5)) * channels(1, 2))),
    Refusal("quotient", fold_affine, maker(lambda m, x: channels(2, 3) / m.conv(x))),
    Refusal("output", fold_constants, lambda: Net(
        lambda _, x: (x.abs(), torch.zeros_like(x).exp()))),
    Refusal("depends on x", fold_constants, lambda: Net(lambda _, x: x + 1)),
    Refusal("read", remove_dead_code, maker(lambda m, x: (m.conv(x), x.abs()))),
    Refusal("abs is no clamp", drop_identity, lambda: Net(lambda _, x: x.abs().abs())),
    Refusal("cuts", drop_identity, lambda: Net(lambda _, x: F.relu6(x).clamp(0, 5))),
    Refusal("relu of tanh", drop_identity, lambda: Net(lambda _, x: x.tanh().relu())),
    Refusal("square power", drop_identity, lambda: Net(lambda _, x: x.abs() ** 3.0)),
    Refusal("stride", drop_identity, lambda: Net(lambda _, x: F.max_pool2d(x.abs(), 1, 2))),
    Refusal("padded pool", drop_identity, lambda: Net(
        lambda _, x: F.max_pool2d(x.abs(), 3, 1, 1) + F.avg_pool2d(x.abs(), 3, 1, 1))),
    Refusal("divisor", drop_identity, lambda: Net(
        lambda _, x: F.avg_pool2d(x.abs(), 1, divisor_override=2))),
    Refusal("reader of the first reshape", drop_identity, lambda: Net(
        lambda _, x: let(x.view(16, 30), lambda y: (y.view(2, 240), y.abs())))),
    Refusal("output of the first permute", drop_identity, lambda: Net(
        lambda _, x: let(x.permute(0, 2, 3, 1), lambda y: (y, y.permute(0, 3, 1, 2))))),
    Refusal("square permute", drop_identity, lambda: Net(
        lambda _, x: x[:, :, :5].transpose(2, 3))),
    Refusal("resize from corners", drop_identity, lambda: Net(
        lambda _, x: F.interpolate(x.abs(), scale_factor=1.1, mode="bilinear"))),
    Refusal("0 - x", drop_identity, lambda: Net(lambda _, x: 0 - x.abs())),
    Refusal("1 / x", drop_identity, lambda: Net(lambda _, x: torch.ones(1) / x.abs())),
    Refusal("broadcast by + 0", drop_identity, lambda: Net(
        lambda _, x: x[:, :1] + torch.zeros(1, 8, 1, 1))),
    Refusal("input returned", drop_identity, lambda: Net(
        lambda _, x: F.pad(x, (0, 0)))),
    Refusal("output", fold_padding, both(lambda _, x: F.pad(x, (1, 1)), conv_of)),
    Refusal("reader", fold_padding, maker(
        lambda m, x: let(F.pad(x, (1, 1)), lambda y: m.conv(y) * y))),
    Refusal("ones", fold_padding, maker(lambda m, x: m.conv(F.pad(x, (1, 1), value=1.0)))),
    Refusal("mirror", fold_padding, maker(lambda m, x: m.conv(F.pad(x, (1, 1, 0, 0), "reflect")))),
    Refusal("cut", fold_padding, maker(lambda m, x: m.conv(F.pad(x, (1, -1))))),
    Refusal("channels", fold_padding, maker(
        lambda m, x: m.conv(F.pad(x[:, :7], (0, 0, 0, 0, 0, 1))))),
    Refusal("transposed", fold_padding, lambda: Net(
        lambda m, x: m.t(F.pad(x, (1, 1))), t=nn.ConvTranspose2d(8, 4, 3))),
    Refusal("zeros before maximum", fold_padding, lambda: Net(
        lambda _, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2))),
    Refusal("average with two paddings", fold_padding, lambda: Net(
        lambda _, x: F.avg_pool2d(F.pad(x, (1, 1)), 3, 1, 1, count_include_pad=False))),
    Refusal("ceil", fold_padding, lambda: Net(
        lambda _, x: F.avg_pool2d(F.pad(x, (0, 3, 0, 3)), 2, 3, 1, ceil_mode=True))),
    Refusal("output", fuse_activation, both(conv_of, lambda _, y: y.relu())),
    Refusal("reader", fuse_activation, maker(lambda m, x: let(m.conv(x), lambda y: y * y.tanh()))),
    Refusal("pooling between", fuse_activation,
            lambda: nn.Sequential(conv(), nn.MaxPool2d(2), nn.ReLU())),
    Refusal("slope for each channel", fuse_activation, lambda: nn.Sequential(conv(), nn.PReLU(8))),
    Refusal("output", fuse_residual, both(conv_of, lambda _, y: y + y.abs())),
    Refusal("reader", fuse_residual, maker(lambda m, x: let(m.conv(x), lambda y: y + y.abs()))),
    Refusal("itself", fuse_residual, maker(lambda m, x: let(m.conv(x), lambda y: y + y))),
    Refusal("broadcast", fuse_residual, maker(lambda m, x: m.conv(x) + x[:, :, :1, :1])),
    Refusal("broadcast of the conv", fuse_residual, maker(
        lambda m, x: x + m.conv(F.adaptive_avg_pool2d(x, 1)))),
    Refusal("constant", fuse_residual, maker(lambda m, x: m.conv(x) + torch.ones(SHAPE))),
    Refusal("difference", fuse_residual, maker(lambda m, x: m.conv(x) - x)),
    Refusal("third term", fuse_residual, maker(
        lambda m, x: (m.conv(x) + x).tanh() + x.abs()), (fuse_residual, fuse_activation)),
    Refusal("output", fuse_arithmetic, lambda: Net(
        lambda _, x: let(x * x.abs(), lambda y: (y, y + x)))),
    Refusal("reader", fuse_arithmetic, lambda: Net(
        lambda _, x: let(x - x.abs(), lambda y: y.relu() - y))),
    Refusal("product broadcast by the sum", fuse_arithmetic, lambda: Net(
        lambda _, x: x[:, :1] * x[:, 1:2] + x)),
    Refusal("residual broadcast", fuse_arithmetic, lambda: Net(
        lambda _, x: x * x.abs() + x[:, :1])),
    Refusal("quotient before a sum", fuse_arithmetic, lambda: Net(
        lambda _, x: x / x.exp() + x)),
    Refusal("same parts", nest_concat, lambda: Net(
        lambda _, x: let(x.abs(), lambda y: torch.cat([x, y], 1) + torch.cat([x, y], 1)))),
    Refusal("suffix", nest_concat, lambda: Net(
        lambda _, x: let(x.abs(), lambda y: (torch.cat([x, y], 1), torch.cat([y, x, y], 1))))),
    Refusal("prefix that comes later", nest_concat, lambda: Net(
        lambda _, x: let(x.abs(), lambda y: (torch.cat([x, y, x], 1), torch.cat([x, y], 1))))),
    Refusal("other axis", nest_concat, lambda: Net(
        lambda _, x: let(x.abs(), lambda y: (torch.cat([x, y], 1), torch.cat([x, y, y], 2))))),
    Refusal("output", fold_flatten, lambda: Net(
        lambda m, x: let(x.flatten(1), lambda y: (y, m.linear(y))), linear=nn.Linear(240, 7))),
    Refusal("reader", fold_flatten, lambda: Net(
        lambda m, x: let(x.flatten(1), lambda y: m.linear(y) * y[:, :7]),
        linear=nn.Linear(240, 7))),
    Refusal("one pixel", fold_flatten,
            lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7))),
    Refusal("one channel", fold_flatten,
            lambda: nn.Sequential(nn.Conv2d(8, 1, 1), nn.Flatten(), nn.Linear(30, 7))),
    Refusal("other shape", fold_flatten, lambda: Net(
        lambda m, x: m.linear(x.reshape(4, 120)), linear=nn.Linear(120, 7))),
    Refusal("output", fold_shuffle, lambda: Net(
        lambda m, x: let(shuffle(x), lambda y: (y, m.conv(y))), conv=conv())),
    Refusal("reader", fold_shuffle, maker(lambda m, x: let(shuffle(x), lambda y: m.conv(y) * y))),
    Refusal("output before", fold_shuffle, both(conv_of, lambda _, y: shuffle(y).abs())),
    Refusal("between groups", fold_shuffle, lambda: Net(
        lambda m, x: m.b(shuffle(m.a(x))), a=conv(groups=2), b=conv(groups=2))),
    Refusal("other transpose", fold_shuffle, maker(
        lambda m, x: m.conv(x).view(2, 2, 4, 6, 5).transpose(0, 1).reshape(SHAPE))),
    Refusal("residual", fold_shuffle, maker(lambda m, x: shuffle(m.conv(x) + x).abs()),
            (fuse_residual,)),
    Refusal("group of offsets", fold_shuffle, lambda: Net(
        lambda m, x: m.deform(shuffle(x), m.offsets(x)), deform=DeformConv2d(8, 8, 3, padding=1),
        offsets=nn.Conv2d(8, 36, 3, padding=1))),
    Refusal("other numerator", recompose_local_response_norm, lambda: Net(
        lambda _, x: x.abs() / response(x))),
    Refusal("read between", recompose_local_response_norm, lambda: Net(
        lambda _, x: let(response(x), lambda y: x / y + y))),
    Refusal("window before", recompose_local_response_norm, lambda: Net(
        lambda _, x: x / response(x, around=(0, 0, 0, 0, 2, 0)))),
    Refusal("sums for squares", recompose_local_response_norm, lambda: Net(
        lambda _, x: x / response(x, torch.add))),
    Refusal("no window over channels", recompose_local_response_norm, lambda: Net(
        lambda _, x: x / (1 + 2 * F.avg_pool2d(x * x, 3, 1, 1)) ** 0.75)),
)  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: f"{case.rewrite.__name__}: {case.name}")
def test_leaves_alone_what_it_must(case):
    graph = prepare(case.net(), *case.earlier)
    assert case.rewrite(graph) is graph


# ------------------------------------------------------------------------- what they come to


def fused(graph: Graph) -> list[Epilogue]:
    return [node.op.epilogue for node in graph if isinstance(node.op, Fused)]


def test_an_epilogue_keeps_the_order_of_its_steps():
    tanh, relu = ops.Activation("tanh"), ops.Activation("relu")
    passes = (fuse_activation, fuse_residual, fuse_activation)

    def epilogues(forward: Callable) -> list[Epilogue]:
        return fused(prepare(maker(forward)(), *passes))

    assert epilogues(lambda m, x: m.conv(x).tanh()) == [Epilogue(after=tanh)]
    assert epilogues(lambda m, x: m.conv(x).tanh() + x) == [Epilogue(before=tanh, add=True)]
    assert epilogues(lambda m, x: (m.conv(x) + x).tanh()) == [Epilogue(add=True, after=tanh)]
    assert epilogues(lambda m, x: (m.conv(x).tanh() + x).relu()) == [Epilogue(tanh, True, relu)]


def test_a_fused_node_has_its_convolutions_path_and_the_last_ones_name():
    net = nn.Sequential(conv(bias=False), nn.BatchNorm2d(8), nn.ReLU())
    graph = prepare(net, *PASSES)
    (node,) = graph
    assert (node.path, node.name, graph.outputs[0].value) == ("0", "relu", "relu")
    assert node.inputs == ("input", "0.weight.1", "0.bias")


def test_of_two_convolutions_the_later_one_adds():
    net = maker(lambda m, x: m.conv(x) + m.other(x.abs()), other=conv(1))()
    first, _, last = prepare(net, fuse_residual)
    assert isinstance(first.op, ops.Conv2d)
    assert (first.path, last.path, last.inputs[-1]) == ("conv", "other", first.name)


def test_a_concatenation_reads_the_longest_one_that_it_starts_with():
    net = Net(lambda _, x: let([x.abs(), x.exp(), x.tanh(), x], lambda parts: tuple(
        torch.cat(parts[:count], 1) for count in (2, 3, 4))))  # fmt: skip
    two, three, four = prepare(net, nest_concat).nodes[-3:]
    assert (three.inputs[0], len(three.inputs)) == (two.name, 2)
    assert (four.inputs[0], len(four.inputs)) == (three.name, 2)


def test_batchnorm_is_folded_in_double_precision():
    """A variance of 1e-12 beside an epsilon of 1e-5, which single precision would round away."""
    net = randomize(nn.Sequential(conv(bias=False), nn.BatchNorm2d(8)))
    nn.init.uniform_(net[1].running_var, 1e-12, 1e-6)
    before = capture(net, SHAPE)
    after = fold_batchnorm(before)
    weight, gamma, _, _, variance = (constant.data for constant in before.constants.values())
    factor = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + net[1].eps)
    expected = (weight * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
    assert np.array_equal(after.constants["0.weight.1"].data, expected)


def test_a_padding_becomes_unequal():
    net = maker(lambda m, x: m.conv(F.pad(x, (0, 1, 2, 3))))()
    (node,) = prepare(net, fold_padding)
    assert node.op.padding == (3, 4, 1, 2)


def test_an_identity_that_is_returned_is_returned_from_its_source():
    graph = prepare(Net(lambda _, x: x.abs().clamp(0)), drop_identity)
    assert [output.value for output in graph.outputs] == [node.name for node in graph]


def test_local_response_norm_keeps_its_numbers():
    (node,) = prepare(nn.LocalResponseNorm(5, 0.25, 0.75, 2.0), *PASSES)
    assert node.op == LocalResponseNorm(5, 0.25, 0.75, 2.0)


@pytest.mark.parametrize(
    ("op", "shapes", "message"),
    [
        (Fused(ops.Linear(), Epilogue()), ((2, 3), (4, 3)), "always has a bias"),
        (Fused(ops.Linear(), Epilogue(add=True)), ((2, 3), (4, 3), (2, 4)), "always has a bias"),
        (
            Fused(ops.Linear(), Epilogue(add=True)), ((2, 3), (4, 3), (4,), (2, 1)),
            r"residual \(2, 1\) is not of the output's shape \(2, 4\)",
        ),
        (FlattenChannelsLast(), ((2, 3),), r"need \(N, C, H, W\)"),
        (LocalResponseNorm(5, 1.0, 1.0, 1.0), ((2, 3),), r"need \(N, C, H, W\)"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(op, shapes, message):
    with pytest.raises(ValueError, match=message):
        infer_shape(op, *shapes)


# ------------------------------------------------------------------------------ whole networks

# several seconds each
LARGE = {
    "inception_resnet_v2", "inception_v4", "resnet101", "resnet152", "senet154", "vgg16",
    "vgg16_bn", "xception",
}  # fmt: skip


@pytest.mark.parametrize("name", slow_where(lambda name: name in LARGE, list_models()))
def test_every_network_stays_itself(name):
    large = name.startswith(("alexnet", "inception", "xception"))
    size = 96 if large else min(64, find_network(name).resolution)
    before = prepare(dw.create_model(name, num_classes=10), shape=(1, 3, size, size))
    after = before
    for rewrite in PASSES:
        after = check(rewrite(after))
        assert rewrite(after) is after
    assert_equal(before, after, tolerance=1e-4)
    assert not kinds(after)["BatchNorm"]
    assert set(after.constants) == {weight for node in after for weight in after.weights(node)}


LEFT = {
    "alexnet": {
        "Fused": 7, "LocalResponseNorm": 2, "MaxPool2d": 3, "AdaptivePool2d": 1,
        "FlattenChannelsLast": 1, "Linear": 1,
    },
    "mobilenet_v2": {"Fused": 45, "Conv2d": 7, "AdaptivePool2d": 1, "Reshape": 1, "Linear": 1},
    "resnet50": {
        "Fused": 49, "Conv2d": 4, "MaxPool2d": 1, "AdaptivePool2d": 1, "Reshape": 1, "Linear": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_of_a_network(name):
    graph = prepare(dw.create_model(name, num_classes=10), *PASSES, shape=(1, 3, 96, 96))
    assert kinds(graph) == Counter(LEFT[name])
