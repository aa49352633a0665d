"""Both sides of each identity are computed and compared in float64."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from torchvision.ops import deform_conv2d

from depthwise.layers import PlainSeparableConv, depthwise_conv2d, norm, normalize
from depthwise.layers.identities import (
    Tower,
    batchnorm_backward,
    dilation_offsets,
    extreme_inception,
    fold_batchnorm,
    grouped_as_standard,
    insert_zeros,
    normalize_groups,
    relu_and_back,
    relu_losses,
    segmented_inception,
    separable_as_standard,
    simplified_inception,
    spiral,
    standard_as_separable,
    transposed_as_standard,
    transposed_weight_as_standard,
)

few = st.integers(1, 3)
odd = st.sampled_from((1, 3, 5))


def close(actual, expected, atol=1e-12):
    assert_close(actual, expected, rtol=0, atol=atol)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def image(channels, height=9, width=7):
    return normal(2, channels, height, width)


# ---------------------------------------------------------------- grouped, depthwise, separable


@given(groups=few, ins=few, outs=few, kernel=odd, stride=few)
def test_grouped_is_block_diagonal_standard(groups, ins, outs, kernel, stride):
    x, weight = image(groups * ins), normal(groups * outs, ins, kernel, kernel)
    dense = grouped_as_standard(weight, groups)
    grouped = F.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=groups)
    close(F.conv2d(x, dense, stride=stride, padding=kernel // 2), grouped)
    zeros = (dense == 0).sum().item()
    assert zeros == dense.numel() - weight.numel()  # all outside the blocks, and nothing inside


@given(channels=few, multiplier=few, kernel=odd)
def test_depthwise_is_grouped_with_a_group_a_channel(channels, multiplier, kernel):
    x, layer = image(channels), depthwise_conv2d(channels, kernel, multiplier=multiplier).double()
    dense = grouped_as_standard(layer.weight, channels)
    close(F.conv2d(x, dense, padding=kernel // 2), layer(x))
    alone = [
        F.conv2d(x[:, c : c + 1], w, padding=kernel // 2)
        for c, w in enumerate(layer.weight.split(multiplier))
    ]
    close(torch.cat(alone, 1), layer(x))


@given(ins=few, outs=few, kernel=odd, stride=few, dilation=few)
def test_separable_is_standard(ins, outs, kernel, stride, dilation):
    x = image(ins)
    layer = PlainSeparableConv(ins, outs, kernel, stride, dilation).double()
    weight = separable_as_standard(layer.depthwise.weight, layer.pointwise.weight)
    padding = dilation * (kernel // 2)
    close(F.conv2d(x, weight, None, stride, padding, dilation), layer(x))
    for kernels in weight.flatten(2).unbind(1):  # (K, R·S) of one input channel
        assert torch.linalg.matrix_rank(kernels) == 1


@given(ins=few, outs=few, multiplier=few)
def test_separable_with_multiplier_is_standard(ins, outs, multiplier):
    x, maps = image(ins), ins * multiplier
    spatial, mix = normal(maps, 1, 3, 3), normal(outs, maps, 1, 1)
    both = F.conv2d(F.conv2d(x, spatial, padding=1, groups=ins), mix)
    close(F.conv2d(x, separable_as_standard(spatial, mix, multiplier), padding=1), both)


@given(ins=few, outs=st.integers(1, 12), kernel=st.sampled_from((1, 3)))
def test_standard_is_separable_with_enough_kernels_a_channel(ins, outs, kernel):
    weight, full = normal(outs, ins, kernel, kernel), min(outs, kernel * kernel)
    close(separable_as_standard(*standard_as_separable(weight, full), full), weight)
    errors = [
        (separable_as_standard(*standard_as_separable(weight, m), m) - weight).norm().item()
        for m in range(1, full + 1)
    ]
    assert errors == sorted(errors, reverse=True)


def test_no_separable_pair_is_nearer_than_the_singular_values():
    weight = normal(4, 2, 3, 3)
    spatial, mix = standard_as_separable(weight, 1)
    best = (separable_as_standard(spatial, mix) - weight).norm()
    for _ in range(100):
        moved = (spatial + 0.05 * torch.randn_like(spatial), mix + 0.05 * torch.randn_like(mix))
        assert (separable_as_standard(*moved) - weight).norm() > best


# ---------------------------------------------------------------- Inception to Xception

widths = st.lists(st.tuples(few, few, odd), min_size=1, max_size=4)


@given(widths=widths, ins=few)
def test_inception_towers_are_one_pointwise_then_segments(widths, ins):
    x = image(ins)
    towers = [Tower(normal(m, ins, 1, 1), normal(k, m, r, r)) for m, k, r in widths]
    close(segmented_inception(x, towers), simplified_inception(x, towers))


@given(count=st.integers(1, 6), ins=few, kernel=odd)
def test_one_map_a_tower_is_the_extreme_inception(count, ins, kernel):
    x = image(ins)
    towers = [Tower(normal(1, ins, 1, 1), normal(1, 1, kernel, kernel)) for _ in range(count)]
    extreme = extreme_inception(x, towers)
    close(extreme, segmented_inception(x, towers))
    close(extreme, simplified_inception(x, towers))


def test_towers_of_several_maps_are_not_extreme():
    towers = [
        Tower(normal(1, 3, 1, 1), normal(1, 1, 3, 3)),
        Tower(normal(2, 3, 1, 1), normal(1, 2, 3, 3)),
    ]
    message = (
        "tower 1 has spatial weights (1, 2, 3, 3): the extreme form has one map a tower, "
        "(1, 1, R, S)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        extreme_inception(image(3), towers)


# ---------------------------------------------------------------- transposed, dilated, deformable


@st.composite
def transposed_cases(draw):
    stride = draw(few)
    return {
        "stride": stride,
        "padding": draw(st.integers(0, 3)),
        "output_padding": draw(st.integers(0, stride - 1)),
        "groups": draw(few),
    }


@given(
    case=transposed_cases(), ins=few, outs=few, rows=st.integers(1, 5), columns=st.integers(1, 5)
)
def test_transposed_is_zero_insertion_then_convolution(case, ins, outs, rows, columns):
    groups = case["groups"]
    x, weight = image(groups * ins), normal(groups * ins, outs, rows, columns)
    expected = F.conv_transpose2d(x, weight, **case)
    close(transposed_as_standard(x, weight, **case), expected)


@given(groups=few, ins=few, outs=few)
def test_transposed_is_the_gradient_of_a_convolution(groups, ins, outs):
    weight = normal(groups * ins, outs, 3, 3)  # as a convolution: groups * outs -> groups * ins
    x = normal(1, groups * outs, 8, 8).requires_grad_()
    y = F.conv2d(x, weight, stride=2, padding=1, groups=groups)
    dy = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, dy)
    close(transposed_as_standard(dy, weight, 2, 1, 1, groups), dx)


def test_transposed_weight_twice_is_the_same_weight():
    weight = normal(6, 2, 3, 5)
    close(transposed_weight_as_standard(transposed_weight_as_standard(weight, 3), 3), weight)


@given(ins=few, outs=few, kernel=odd, dilation=few, stride=few)
def test_dilated_is_standard_with_zeros_in_the_kernel(ins, outs, kernel, dilation, stride):
    x, weight = image(ins, 17, 15), normal(outs, ins, kernel, kernel)
    spread = insert_zeros(weight, dilation)
    assert spread.shape[2] == kernel + (kernel - 1) * (dilation - 1)  # the effective kernel
    close(F.conv2d(x, spread, stride=stride), F.conv2d(x, weight, None, stride, 0, dilation))


@given(kernel=st.tuples(odd, odd), dilation=few, stride=few)
def test_deformable_with_whole_offsets_is_dilated(kernel, dilation, stride):
    x, weight = image(3), normal(4, 3, *kernel)
    near = (kernel[0] // 2, kernel[1] // 2)
    far = (near[0] * dilation, near[1] * dilation)
    expected = F.conv2d(x, weight, None, stride, far, dilation)
    offsets = dilation_offsets(kernel, dilation).double()
    offsets = offsets.expand(2, -1, *expected.shape[2:])
    close(deform_conv2d(x, offsets, weight, stride=stride, padding=near), expected)


def test_deformable_with_zero_offsets_is_standard():
    x, weight = image(3), normal(4, 3, 3, 3)
    assert not dilation_offsets(3, 1).any()
    close(
        deform_conv2d(x, x.new_zeros(2, 18, 9, 7), weight, padding=1),
        F.conv2d(x, weight, padding=1),
    )


# ---------------------------------------------------------------- normalisation


@given(groups=few, width=few, eps=st.sampled_from((1e-3, 1e-5)))
def test_group_normalisation_is_one_formula(groups, width, eps):
    x = image(groups * width) * 3 + 2
    close(normalize_groups(x, groups, eps), F.group_norm(x, groups, eps=eps))


@given(channels=few)
def test_layer_and_instance_are_group_with_one_and_all_groups(channels):
    x = image(channels) * 3 + 2
    layer = F.layer_norm(x, x.shape[1:])
    close(normalize_groups(x, 1), layer)
    close(normalize(x, (1, 2, 3)), layer)
    instance = F.instance_norm(x)
    close(normalize_groups(x, channels), instance)
    close(normalize(x, (2, 3)), instance)


@given(channels=few, images=few)
def test_batch_normalisation_is_normalisation_over_n_h_w(channels, images):
    x = normal(images, channels, 5, 4) * 3 + 2
    batch = F.batch_norm(x, None, None, training=True)
    close(normalize(x, (0, 2, 3)), batch)
    if images == 1:
        close(normalize(x, (2, 3)), batch)  # one image: batch is instance normalisation


@pytest.mark.parametrize("over", [(0, 2, 3), (1, 2, 3), (2, 3)])
def test_every_normalisation_leaves_zero_mean_and_unit_variance(over):
    y = normalize(image(4) * 3 + 2, over, eps=0)
    means, variances = y.mean(over), y.var(over, unbiased=False)
    close(means, torch.zeros_like(means))
    close(variances, torch.ones_like(variances))


def trained(kind, channels):
    """Return a norm whose four vectors are all away from their defaults."""
    layer = norm(kind)(channels).double().eval()
    for vector in (layer.weight, layer.bias, layer.running_mean):
        nn.init.normal_(vector)
    nn.init.uniform_(layer.running_var, 0.5, 2)
    return layer


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("bias", [True, False])
@given(groups=few, ins=few, outs=few, stride=few)
def test_batchnorm_folds_into_its_convolution(kind, bias, groups, ins, outs, stride):
    conv = kind(groups * ins, groups * outs, 3, stride, 1, groups=groups, bias=bias).double()
    batch = trained("batch", groups * outs)
    x, weight = image(groups * ins), conv.weight.clone()
    folded = fold_batchnorm(conv, batch)
    close(folded(x), batch(conv(x)))
    close(conv.weight, weight, atol=0)  # the argument is left as it was
    assert type(folded) is kind


def test_batchnorm_without_affine_folds():
    conv, batch = nn.Conv2d(3, 4, 3).double(), nn.BatchNorm2d(4, affine=False).double().eval()
    nn.init.normal_(batch.running_mean)
    nn.init.uniform_(batch.running_var, 0.5, 2)
    x = image(3)
    close(fold_batchnorm(conv, batch)(x), batch(conv(x)))


@given(channels=few, images=few, eps=st.sampled_from((1e-3, 1e-5)))
def test_batchnorm_backward_is_autograds(channels, images, eps):
    x = (normal(images, channels, 4, 5) * 3 + 2).requires_grad_()
    gamma, beta = normal(channels).requires_grad_(), normal(channels).requires_grad_()
    y = F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)
    dy = torch.randn_like(y)
    expected = torch.autograd.grad(y, (x, gamma, beta), dy)
    for actual, wanted in zip(batchnorm_backward(x, gamma, dy, eps), expected, strict=True):
        close(actual, wanted)


# ---------------------------------------------------------------- linear bottlenecks


def test_relu_loses_less_in_more_dimensions():
    losses = relu_losses()
    assert [loss.dimensions for loss in losses] == [2, 3, 5, 15, 30]
    errors = [loss.error for loss in losses]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 2 * errors[-1]


def test_share_of_lost_points_is_binomial():
    for n, _, lost in relu_losses(draws=500):
        # 500 draws, each with points that are lost together: 0.02 is over 3 standard deviations
        assert lost == pytest.approx((n + 1) / 2**n, abs=0.02)


def test_relu_on_positive_coordinates_loses_nothing():
    points = spiral().abs()  # with a positive matrix ReLU is the identity
    close(relu_and_back(points, normal(2, 5).abs()), points)


def test_relu_losses_repeat_with_their_seed():
    assert relu_losses((3,), draws=5) == relu_losses((3,), draws=5)
    assert relu_losses((3,), draws=5) != relu_losses((3,), draws=5, seed=1)


# ---------------------------------------------------------------- what is refused

REFUSED = {
    "5 output channels do not divide into groups=2": lambda: grouped_as_standard(
        torch.zeros(5, 1, 3, 3), 2
    ),
    "depthwise weights are (3, 1, 3, 3) and pointwise weights (8, 4, 1, 1): with multiplier=1 "
    "they must be (C * multiplier, 1, R, S) and (K, C * multiplier, 1, 1)": lambda: (
        separable_as_standard(torch.zeros(3, 1, 3, 3), torch.zeros(8, 4, 1, 1))
    ),
    "multiplier=5: 1 to 4 are accepted here": lambda: standard_as_separable(
        torch.zeros(4, 2, 3, 3), 5
    ),
    "kernel_size=4: must be odd, to have a centre": lambda: dilation_offsets(4, 2),
    "the BatchNorm keeps no running statistics: there is nothing to fold": lambda: fold_batchnorm(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "a BatchNorm of 3 channels cannot follow a convolution of 4": lambda: fold_batchnorm(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(3)
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_message(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        REFUSED[message]()
