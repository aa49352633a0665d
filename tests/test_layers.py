"""Every layer: its shapes, its formula, its small exact facts and what it refuses."""

import itertools
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from depthwise.layers import (
    Clamp,
    Conv2dSame,
    ConvNormAct,
    GhostBottleneck,
    GhostModule,
    InvertedResidual,
    LinearBottleneck,
    PlainSeparableConv,
    ResizeConv,
    SeparableConv,
    SqueezeExcite,
    conv2d,
    conv_norm_act,
    conv_transpose2d,
    depthwise_conv2d,
    hardsigmoid,
    hardswish,
    initialize,
    norm,
    pointwise_conv2d,
    relu,
    relu6,
    same_padding,
    tensorflow_padding,
)

few = st.integers(1, 4)
odd = st.sampled_from((1, 3, 5, 7))


def close(actual, expected, atol=1e-12):
    assert_close(actual, expected, rtol=0, atol=atol)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def weights(net):
    return sum(p.numel() for p in net.parameters())


# ---------------------------------------------------------------- shapes

SHAPES = [
    # layer                                       in              out
    (conv2d(6, 8, 3),                           (6, 9, 7),      (8, 9, 7)),
    (conv2d(6, 8, (1, 7)),                      (6, 9, 7),      (8, 9, 7)),
    (conv2d(6, 8, 5, 2, groups=2),              (6, 9, 7),      (8, 5, 4)),
    (conv2d(6, 8, 3, dilation=4),               (6, 9, 7),      (8, 9, 7)),
    (depthwise_conv2d(6, 5, 2),                          (6, 9, 8),      (6, 5, 4)),
    (depthwise_conv2d(6, 3, multiplier=2),               (6, 9, 7),      (12, 9, 7)),
    (pointwise_conv2d(6, 8, 2),                          (6, 9, 8),      (8, 5, 4)),
    (Conv2dSame(6, 8, 3, 2, groups=2),            (6, 9, 8),      (8, 5, 4)),
    (conv_norm_act(6, 8, 3, 2),                   (6, 9, 8),      (8, 5, 4)),
    (SeparableConv(6, 8, 3, 2),                   (6, 9, 8),      (8, 5, 4)),
    (PlainSeparableConv(6, 8, 5, 2, 2),           (6, 9, 8),      (8, 5, 4)),
    (ResizeConv(6, 8, 3),                         (6, 5, 4),      (8, 15, 12)),
    (conv_transpose2d(6, 8, 4, 2, 2),                   (6, 5, 4),      (8, 10, 8)),
    (SqueezeExcite(6, 2),                         (6, 9, 7),      (6, 9, 7)),
    (GhostModule(6, 9),                           (6, 9, 7),      (9, 9, 7)),
    (GhostModule(6, 7, 3, 2, ratio=3),            (6, 9, 7),      (7, 5, 4)),
    (GhostBottleneck(6, 13, 8, 5, 2),             (6, 9, 7),      (8, 5, 4)),
    (LinearBottleneck(6, 12, 8, 5, 2),            (6, 9, 7),      (8, 5, 4)),
    (InvertedResidual(6, 12, 6, gate=SqueezeExcite(12, 4)), (6, 9, 7), (6, 9, 7)),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "before", "after"), SHAPES)
def test_shape(layer, before, after):
    assert layer(torch.randn(2, *before)).shape == (2, *after)


# ---------------------------------------------------------------- convolutions


def test_separable_weights_of_three_channels_to_four():
    assert weights(conv2d(3, 4, 3)) == 108
    assert weights(depthwise_conv2d(3, 3)) == 27
    assert weights(pointwise_conv2d(3, 4)) == 12
    assert weights(PlainSeparableConv(3, 4, 3)) == 39


@given(channels=few, out_channels=st.integers(1, 64), kernel=odd)
def test_separable_costs_1_over_n_plus_1_over_k2(channels, out_channels, kernel):
    separable = weights(PlainSeparableConv(channels, out_channels, kernel))
    ratio = separable / weights(conv2d(channels, out_channels, kernel))
    assert ratio == pytest.approx(1 / out_channels + 1 / kernel**2, rel=1e-12)


SAVINGS = ((64, "7.89"), (72, "8.00"), (256, "8.69"), (1024, "8.92"))


@pytest.mark.parametrize(("out_channels", "times"), SAVINGS)
def test_a_3x3_separable_convolution_never_saves_nine_times(out_channels, times):
    full = weights(conv2d(4, out_channels, 3))
    saving = full / weights(PlainSeparableConv(4, out_channels, 3))
    assert f"{saving:.2f}" == times
    assert saving < 9


@given(kernel=odd, dilation=few)
def test_effective_kernel_is_what_one_output_pixel_sees(kernel, dilation):
    size = kernel + (kernel - 1) * (dilation - 1)
    x = torch.zeros(1, 1, 31, 31, requires_grad=True)
    layer = depthwise_conv2d(1, kernel, dilation=dilation)
    nn.init.ones_(layer.weight)
    layer(x)[0, 0, 15, 15].backward()
    rows = x.grad[0, 0].any(1).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == size
    assert len(rows) == kernel
    assert same_padding(kernel, dilation) == ((size - 1) // 2, (size - 1) // 2)


COVERED = (((1, 2, 4), 15, 15), ((1, 2, 5), 17, 17), ((2, 2, 2), 7, 13), ((1, 2, 9), 21, 25),
           ((2, 4, 8), 15, 29))  # fmt: skip


@pytest.mark.parametrize(("rates", "seen", "field"), COVERED)
def test_dilated_layers_cover_or_grid_their_receptive_field(rates, seen, field):
    x = torch.zeros(1, 1, 1, 63, requires_grad=True)
    layers = nn.Sequential(*(conv2d(1, 1, (1, 3), dilation=rate) for rate in rates))
    for layer in layers:
        nn.init.ones_(layer.weight)
    layers(x)[0, 0, 0, 31].backward()
    positions = x.grad.flatten().nonzero().flatten()
    assert len(positions) == seen
    assert positions[-1] - positions[0] + 1 == field


OVERLAPS = ((3, 2, {1, 2}), (4, 2, {2}), (5, 2, {2, 3}), (2, 2, {1}), (3, 3, {1}), (4, 3, {1, 2}),
            (6, 3, {2}))  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride", "counts"), OVERLAPS)
def test_transposed_overlap_is_even_exactly_where_the_stride_divides_the_kernel(
    kernel, stride, counts
):
    ones = torch.ones(1, 1, 1, 24)
    overlap = F.conv_transpose1d(ones[0], torch.ones(1, 1, kernel), stride=stride)
    interior = overlap[0, 0, kernel * 2 : -kernel * 2]
    assert {int(count) for count in interior} == counts
    assert (len(counts) == 1) == (kernel % stride == 0)
    layer = conv_transpose2d(1, 1, kernel, stride, bias=False)
    nn.init.ones_(layer.weight)
    drawn = layer(torch.ones(1, 1, 24, 24))[
        0, 0, kernel * 3 : -kernel * 3, kernel * 3 : -kernel * 3
    ]
    assert (drawn.unique().numel() == 1) == (kernel % stride == 0)


@given(size=st.integers(1, 6), stride=few, excess=st.integers(0, 4), groups=few)
def test_transposed_output_is_stride_times_its_input(size, stride, excess, groups):
    if stride == 1:
        excess -= excess % 2
    layer = conv_transpose2d(2 * groups, 3 * groups, stride + excess, stride, groups)
    y = layer(torch.zeros(1, 2 * groups, size, size + 1))
    assert y.shape == (1, 3 * groups, stride * size, stride * (size + 1))


@given(scale=st.integers(1, 4))
def test_resize_convolution_keeps_a_flat_image_flat(scale):
    layer = ResizeConv(2, 3, scale).double()
    x = normal(1, 2, 1, 1).expand(1, 2, 5, 4)
    expected = layer.conv(x[:, :, :1, :1]).expand(1, 3, 5 * scale, 4 * scale)
    close(layer(x), expected)


def test_resize_convolution_is_bilinear_between_pixel_centres():
    layer = ResizeConv(1, 1, 2, bias=False).double()
    nn.init.ones_(layer.conv.weight)
    y = layer(torch.tensor([[[[0.0, 4.0]]]], dtype=torch.float64))
    close(y[0, 0], torch.tensor([[0.0, 1, 3, 4]] * 2, dtype=torch.float64))


# ---------------------------------------------------------------- TensorFlow's SAME


def published_padding(size, kernel, stride, dilation):
    """Return (before, after) by the rule of tf.nn's notes on padding, in terms of size % stride."""
    reach = (kernel - 1) * dilation + 1
    over = size % stride
    along = max(reach - stride, 0) if over == 0 else max(reach - over, 0)
    return along // 2, along - along // 2


@given(size=st.integers(1, 40), kernel=st.integers(1, 7), stride=few, dilation=few)
def test_tensorflow_padding_is_the_published_rule(size, kernel, stride, dilation):
    expected = published_padding(size, kernel, stride, dilation)
    assert tensorflow_padding(size, kernel, stride, dilation) == expected


def naive_same(x, weight, stride, dilation):
    """Convolve one channel, pixel by pixel and tap by tap."""
    sizes, kernel = x.shape, weight.shape[0]
    before = [published_padding(size, kernel, stride, dilation)[0] for size in sizes]
    out = torch.zeros([-(-size // stride) for size in sizes], dtype=x.dtype)
    for y, x_, r, s in itertools.product(*(range(n) for n in (*out.shape, kernel, kernel))):
        row = y * stride - before[0] + r * dilation
        column = x_ * stride - before[1] + s * dilation
        if 0 <= row < sizes[0] and 0 <= column < sizes[1]:
            out[y, x_] += x[row, column] * weight[r, s]
    return out


@given(height=st.integers(1, 9), width=st.integers(1, 9), kernel=st.integers(1, 5), stride=few)
def test_same_convolution_is_the_naive_one(height, width, kernel, stride):
    dilation = 1 if stride > 1 else 2
    x = normal(1, 1, height, width)
    layer = Conv2dSame(1, 1, kernel, stride, dilation, bias=False).double()
    close(layer(x)[0, 0], naive_same(x[0, 0], layer.weight[0, 0], stride, dilation))


def test_same_convolution_of_stride_2_is_not_the_symmetric_one():
    same, symmetric = Conv2dSame(2, 3, 3, 2, bias=False), conv2d(2, 3, 3, 2)
    same.weight = symmetric.weight
    even, uneven = torch.randn(1, 2, 8, 8), torch.randn(1, 2, 9, 9)
    assert_close(same(uneven), symmetric(uneven))
    assert not torch.allclose(same(even), symmetric(even))
    # an even image needs one zero a side in all, and it goes after
    padded = F.pad(even, (0, 1, 0, 1))
    assert_close(same(even), F.conv2d(padded, symmetric.weight, stride=2))


# ---------------------------------------------------------------- gates


GATES = {
    nn.Sigmoid: lambda x: 1 / (1 + torch.exp(-x)),
    hardsigmoid: lambda x: (x + 3).clamp(0, 6) / 6,
    Clamp: lambda x: x.clamp(0, 1),
}


@pytest.mark.parametrize("gate", GATES)
def test_squeeze_excite_weighs_channels_by_their_means(gate):
    layer = SqueezeExcite(6, 3, gate=gate).double()
    x = normal(4, 6, 5, 7) * 4
    squeezed = F.linear(x.mean((2, 3)), layer.reduce.weight[:, :, 0, 0], layer.reduce.bias)
    excited = F.linear(squeezed.relu(), layer.expand.weight[:, :, 0, 0], layer.expand.bias)
    close(layer(x), x * GATES[gate](excited)[:, :, None, None])


@pytest.mark.parametrize(
    ("act", "formula"),
    [
        (relu, lambda x: x.clamp(min=0)),
        (relu6, lambda x: x.clamp(0, 6)),
        (hardsigmoid, lambda x: (x + 3).clamp(0, 6) / 6),
        (hardswish, lambda x: x * (x + 3).clamp(0, 6) / 6),
        (Clamp, lambda x: x.clamp(0, 1)),
        (partial(Clamp, -2, 2), lambda x: x.clamp(-2, 2)),
    ],
)
def test_activation(act, formula):
    x = torch.linspace(-8, 8, 65, dtype=torch.float64)
    close(act()(x), formula(x))


# ---------------------------------------------------------------- blocks


@given(out_channels=st.integers(1, 12), ratio=st.integers(2, 4), kernel=st.sampled_from((1, 3)))
def test_ghost_module_takes_every_number_of_channels(out_channels, ratio, kernel):
    layer = GhostModule(3, out_channels, kernel, ratio=ratio).double().eval()
    x = normal(2, 3, 6, 5)
    y = layer(x)
    assert y.shape == (2, out_channels, 6, 5)
    intrinsic = layer.primary(x)
    assert intrinsic.shape[1] == -(-out_channels // ratio)
    close(y[:, : intrinsic.shape[1]], intrinsic)
    close(
        y[:, intrinsic.shape[1] :], layer.cheap(intrinsic)[:, : out_channels - intrinsic.shape[1]]
    )


def test_ghosts_come_each_from_one_intrinsic_map():
    layer = GhostModule(3, 9, ratio=3, act=None).double().eval()  # 3 maps and 2 ghosts of each
    intrinsic = normal(1, 3, 6, 5).requires_grad_()
    ghosts = layer.cheap(intrinsic)
    for ghost in range(6):
        (reached,) = torch.autograd.grad(ghosts[:, ghost].sum(), intrinsic, retain_graph=True)
        assert reached.any((0, 2, 3)).tolist() == [ghost // 2 == c for c in range(3)]


@pytest.mark.parametrize(("stride", "out_channels"), [(1, 6), (1, 7), (2, 6), (2, 7)])
@pytest.mark.parametrize("gate", [None, SqueezeExcite(10, 4, gate=hardsigmoid)])
def test_ghost_bottleneck_is_body_plus_shortcut(stride, out_channels, gate):
    block = GhostBottleneck(6, 10, out_channels, 3, stride, gate).double().eval()
    x = normal(2, 6, 8, 6)
    wide = block.expand(x)
    wide = block.depthwise(wide) if stride == 2 else wide
    body = block.project(gate(wide) if gate else wide)
    same = stride == 1 and out_channels == 6
    close(block(x), body + (x if same else block.shortcut(x)))
    assert isinstance(block.shortcut, nn.Identity) == same
    assert not any(
        isinstance(m, nn.ReLU) for m in [*block.project.modules(), *block.shortcut.modules()]
    )


@pytest.mark.parametrize("size", [8, 1])  # on a 1x1 image stride 2 keeps the shape by chance
@pytest.mark.parametrize(("stride", "out_channels"), [(1, 6), (1, 7), (2, 6), (2, 7)])
def test_inverted_residual_adds_its_input_only_where_the_shape_stays(stride, out_channels, size):
    block = InvertedResidual(6, 12, out_channels, stride=stride).double().eval()
    x = normal(2, 6, size, size)
    bottleneck = block.project(block.depthwise(block.expand(x)))
    shortcut = stride == 1 and out_channels == 6
    close(block(x), bottleneck + x if shortcut else bottleneck)


def test_linear_bottleneck_ends_linear_and_leaves_out_an_expansion_by_one():
    block = LinearBottleneck(6, 6, 4)
    assert [name for name, _ in block.named_children()] == ["depthwise", "project"]
    assert [name for name, _ in block.project.named_children()] == ["conv", "norm"]
    gated = LinearBottleneck(6, 12, 4, gate=SqueezeExcite(12, 3))
    names = [name for name, _ in gated.named_children()]
    assert names == ["expand", "depthwise", "gate", "project"]


def test_conv_norm_act_leaves_out_what_it_is_not_given():
    conv = conv2d(3, 4)
    assert [name for name, _ in ConvNormAct(conv).named_children()] == ["conv"]
    assert [name for name, _ in ConvNormAct(conv, act=nn.ReLU()).named_children()] == [
        "conv",
        "act",
    ]
    cell = conv_norm_act(3, 4, act=None)
    assert [name for name, _ in cell.named_children()] == ["conv", "norm"]
    assert cell.conv.bias is None


def test_separable_convolutions_differ_in_what_stands_between():
    cell = ["conv", "norm", "act"]
    v1 = SeparableConv(3, 4)
    assert [[n for n, _ in half.named_children()] for half in v1] == [cell, cell]
    assert [type(half) for half in PlainSeparableConv(3, 4)] == [nn.Conv2d, nn.Conv2d]


# ---------------------------------------------------------------- normalisation and initial weights


@pytest.mark.parametrize(
    ("kind", "over"), [("batch", (0, 2, 3)), ("layer", (1, 2, 3)), ("instance", (2, 3))]
)
def test_norm_makes_each_kind(kind, over):
    layer, x = norm(kind, eps=1e-3)(4).double(), normal(3, 4, 5, 6) * 3 + 2
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    mean, var = x.mean(over, keepdim=True), x.var(over, unbiased=False, keepdim=True)
    expected = (x - mean) / (var + 1e-3).sqrt() * layer.weight[:, None, None]
    close(layer(x), expected + layer.bias[:, None, None])


def test_norm_in_groups():
    layer, x = norm("group", groups=2)(4).double(), normal(3, 4, 5, 6) * 3 + 2
    halves = [norm("layer")(2).double()(half) for half in x.chunk(2, 1)]
    close(layer(x), torch.cat(halves, 1))


def test_initialize_draws_by_fan_out_and_zeroes_biases():
    net = nn.Sequential(
        conv2d(64, 128, 3, bias=True),
        conv_transpose2d(64, 64),
        depthwise_conv2d(2048, 5),
        nn.Linear(256, 256),
    )
    initialize(net)
    for layer, std in zip(
        net,
        ((2 / (128 * 9)) ** 0.5, (2 / (64 * 16)) ** 0.5, (2 / (2048 * 25)) ** 0.5, 0.01),
        strict=True,
    ):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.03)
        assert layer.bias is None or not layer.bias.any()


# ---------------------------------------------------------------- what is refused

REFUSED = {
    "in_channels=3 with groups=2: must be a positive multiple of groups": lambda: conv2d(
        3, 4, groups=2
    ),
    "out_channels=3 with groups=2: must be a positive multiple of groups": lambda: conv2d(
        4, 3, groups=2
    ),
    "in_channels=0 with groups=1: must be a positive multiple of groups": lambda: pointwise_conv2d(
        0, 4
    ),
    "in_channels=4 with groups=0: must be a positive multiple of groups": lambda: conv2d(
        4, 4, groups=0
    ),
    "kernel_size=2 is smaller than stride=3: outputs would be missed": lambda: conv_transpose2d(
        3, 4, 2, 3
    ),
    "kernel_size=4 with stride=1: an even kernel cannot keep the size": lambda: conv_transpose2d(
        3, 4, 4, 1
    ),
    "ratio=1: a Ghost module needs at least 2 (1 is a convolution)": lambda: GhostModule(
        3, 4, ratio=1
    ),
    "norm kind 'weight': accepted are batch, layer, instance and group": lambda: norm("weight"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_message(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        REFUSED[message]()
