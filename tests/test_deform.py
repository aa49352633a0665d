"""Deformable convolution and pooling: against the plain ones, against torchvision, by gradient."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from torchvision.ops import roi_align

from depthwise.layers import DeformConv, DeformRoIPool, deform_roi_pool, initialize

few = st.integers(1, 3)


def close(actual, expected, atol=1e-12):
    assert_close(actual, expected, rtol=0, atol=atol)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def boxes_on(images, count, size=160.0):
    """Return boxes of which some reach out of an image of `size` pixels."""
    corner = torch.rand(count, 2, dtype=torch.float64) * size - 20
    batch = torch.randint(images, (count, 1)).double()
    return torch.cat((batch, corner, corner + torch.rand(count, 2).double() * size), 1)


def nodes(module, *inputs):
    graph = torch.export.export(module, inputs).graph
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


# ---------------------------------------------------------------- convolution


@given(kernel=st.sampled_from((1, 3, (1, 5))), stride=few, dilation=few, groups=few)
def test_deform_conv_starts_as_the_standard_one(kernel, stride, dilation, groups):
    x = normal(2, 2 * groups, 9, 7)
    layer = DeformConv(2 * groups, 3 * groups, kernel, stride, dilation, groups).double()
    close(layer(x), layer.conv(x))
    modulated = DeformConv(2 * groups, 3 * groups, kernel, stride, dilation, groups, True).double()
    close(modulated(x), modulated.conv(x) / 2)


@pytest.mark.parametrize(("modulated", "channels"), [(False, 18), (True, 27)])
def test_deform_conv_predicts_18_or_27_channels(modulated, channels):
    layer = DeformConv(4, 8, stride=2, dilation=2, modulated=modulated)
    predictor, conv = layer.predict, layer.conv
    assert predictor.weight.shape == (channels, 4, 3, 3)
    for name in ("kernel_size", "stride", "padding", "dilation"):
        assert getattr(predictor, name) == getattr(conv, name)


@pytest.mark.parametrize(("offset", "shift"), [((0, 1), (0, -1)), ((-2, 0), (2, 0))])
def test_deform_conv_offsets_are_pixels_y_then_x(offset, shift):
    x, layer = normal(1, 2, 9, 9), DeformConv(2, 3).double()
    with torch.no_grad():
        layer.predict.bias.copy_(torch.tensor(offset).repeat(9))
    inside = (..., slice(3, -3), slice(3, -3))
    close(layer(x)[inside], layer.conv(x.roll(shift, (2, 3)))[inside])


def test_deform_conv_between_pixels_is_bilinear():
    x, layer = normal(1, 2, 9, 9), DeformConv(2, 3).double()
    with torch.no_grad():
        layer.predict.bias.copy_(torch.tensor((0, 0.25)).repeat(9))
    between = 0.75 * x + 0.25 * x.roll(-1, 3)
    inside = (..., slice(2, -2), slice(2, -2))
    close(layer(x)[inside], layer.conv(between)[inside])


def test_deform_conv_masks_weigh_the_taps():
    x, layer = normal(1, 2, 6, 6), DeformConv(2, 3, modulated=True).double()
    with torch.no_grad():
        layer.predict.bias[18:] = torch.linspace(-2, 2, 9)
    masks = torch.linspace(-2, 2, 9).double().sigmoid().view(3, 3)
    close(layer(x), F.conv2d(x, layer.conv.weight * masks, padding=1))


@pytest.mark.parametrize("modulated", [False, True])
def test_deform_conv_learns_where_to_look(modulated):
    layer = DeformConv(2, 3, modulated=modulated)
    layer(torch.randn(2, 2, 7, 7)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.any(), name


@pytest.mark.parametrize("modulated", [False, True])
def test_deform_conv_is_one_operator_of_torchvision(modulated):
    targets = nodes(DeformConv(4, 6, 3, 2, 2, 2, modulated), torch.randn(2, 4, 9, 9))
    assert targets.count("torchvision.deform_conv2d.default") == 1


def test_initialize_leaves_predictors_at_zero():
    net = nn.ModuleList([DeformConv(2, 3), DeformRoIPool(2, 3)])
    for predictor in (net[0].predict, net[1].predict):
        nn.init.ones_(predictor.weight)
        nn.init.ones_(predictor.bias)
    initialize(net)
    for predictor in (net[0].predict, net[1].predict):
        assert not predictor.weight.any()
        assert not predictor.bias.any()
    assert net[0].conv.weight.any()


# ---------------------------------------------------------------- pooling of regions


@given(bins=st.integers(1, 7), samples=few, height=st.integers(1, 10), width=st.integers(1, 10))
def test_zero_offsets_pool_as_torchvisions_roi_align(bins, samples, height, width):
    features, boxes = normal(2, 3, height, width), boxes_on(2, 12)
    zeros = features.new_zeros(12, 2, bins, bins)
    expected = roi_align(features, boxes, bins, 1 / 16, samples, aligned=True)
    close(deform_roi_pool(features, boxes, zeros, bins, 1 / 16, samples, 0.1), expected)


def test_boxes_may_be_none_or_inverted():
    features = normal(2, 3, 8, 8)
    none = deform_roi_pool(features, normal(0, 5), normal(0, 2, 3, 3), 3, 1 / 16, 2, 0.1)
    assert none.shape == (0, 3, 3, 3)
    inverted = torch.tensor([[1.0, 90, 70, 20, 30]], dtype=torch.float64)
    expected = roi_align(features, inverted, 3, 1 / 16, 2, aligned=True)
    close(deform_roi_pool(features, inverted, normal(1, 2, 3, 3) * 0, 3, 1 / 16, 2, 0.1), expected)


@given(gamma=st.sampled_from((0.1, 0.5)), samples=few, scale=st.sampled_from((1 / 4, 1 / 8)))
def test_an_offset_moves_its_bin_by_gamma_of_the_box(gamma, samples, scale):
    features, boxes = normal(2, 3, 24, 24), boxes_on(2, 5, size=48)
    height, width = boxes[:, 4] - boxes[:, 2], boxes[:, 3] - boxes[:, 1]
    offsets = normal(5, 2, 3, 3)
    pooled = deform_roi_pool(features, boxes, offsets, 3, scale, samples, gamma)
    for row in range(3):
        for column in range(3):
            moved = boxes.clone()
            moved[:, [2, 4]] += (offsets[:, 0, row, column] * gamma * height)[:, None]
            moved[:, [1, 3]] += (offsets[:, 1, row, column] * gamma * width)[:, None]
            alone = roi_align(features, moved, 3, scale, samples, aligned=True)
            close(pooled[..., row, column], alone[..., row, column])


def test_deform_roi_pool_gradients():
    features, boxes = normal(2, 2, 6, 5).requires_grad_(), boxes_on(2, 3, size=60)
    offsets = normal(3, 2, 2, 2).requires_grad_()

    def pool(features, offsets):
        return deform_roi_pool(features, boxes, offsets, 2, 1 / 10, 2, 0.1)

    assert torch.autograd.gradcheck(pool, (features, offsets))


def test_deform_roi_pool_module_gradients():
    layer, features, boxes = (
        DeformRoIPool(2, 2, 1 / 10).double(),
        normal(1, 2, 6, 5),
        boxes_on(1, 2, 60),
    )
    weight, bias = normal(8, 8).mul(0.3).requires_grad_(), normal(8).requires_grad_()

    def pool(features, weight, bias):
        state = {"predict.weight": weight, "predict.bias": bias}
        return torch.func.functional_call(layer, state, (features, boxes))

    assert torch.autograd.gradcheck(pool, (features.requires_grad_(), weight, bias))


def test_deform_roi_pool_refuses_a_second_derivative():
    offsets = normal(1, 2, 2, 2).requires_grad_()
    pooled = deform_roi_pool(normal(1, 2, 6, 6), boxes_on(1, 1, 60), offsets, 2, 0.1, 2, 0.1)
    (first,) = torch.autograd.grad(pooled.square().sum(), offsets, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


# opcheck looks at .grad of tensors that are not leaves, which torch warns of
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_deform_roi_pool_is_a_well_formed_operator():
    features, offsets = normal(2, 4, 6, 5).requires_grad_(), normal(3, 2, 2, 2).requires_grad_()
    torch.library.opcheck(deform_roi_pool, (features, boxes_on(2, 3, 60), offsets, 2, 0.1, 2, 0.1))


def test_deform_roi_pool_module_starts_as_plain_pooling():
    layer, features, boxes = DeformRoIPool(3, 4, 1 / 8).double(), normal(2, 3, 9, 9), boxes_on(2, 6)
    close(layer(features, boxes), roi_align(features, boxes, 4, 1 / 8, 2, aligned=True))


def test_deform_roi_pool_module_predicts_offsets_from_the_plain_pooling():
    layer, features, boxes = DeformRoIPool(3, 2, 1 / 8).double(), normal(2, 3, 9, 9), boxes_on(2, 6)
    nn.init.normal_(layer.predict.weight)
    nn.init.normal_(layer.predict.bias)
    plain = roi_align(features, boxes, 2, 1 / 8, 2, aligned=True)
    offsets = layer.predict(plain.flatten(1)).view(6, 2, 2, 2)
    close(layer(features, boxes), deform_roi_pool(features, boxes, offsets, 2, 1 / 8, 2, 0.1))


def test_deform_roi_pool_is_one_operator_that_appears_twice():
    targets = nodes(DeformRoIPool(3, 4), torch.randn(2, 3, 9, 9), boxes_on(2, 6).float())
    assert targets.count("depthwise.deform_roi_pool.default") == 2
    assert not [t for t in targets if "index" in t or "gather" in t]


# ---------------------------------------------------------------- what is refused


def pool(features=(2, 3, 8, 8), boxes=(4, 5), offsets=(4, 2, 7, 7)):
    deform_roi_pool(normal(*features), torch.zeros(boxes), normal(*offsets), 7, 1 / 16, 2, 0.1)


def pool_image(index):
    boxes = torch.tensor([[0.0, 0, 0, 9, 9], [index, 0, 0, 9, 9]])
    deform_roi_pool(torch.zeros(2, 3, 8, 8), boxes, torch.zeros(2, 2, 7, 7), 7, 1 / 16, 2, 0.1)


REFUSED = {
    "kernel_size=4: a deformable kernel must be odd, to have a centre": lambda: DeformConv(3, 4, 4),
    "out_channels=5 with groups=2: must be a positive multiple of groups": lambda: DeformConv(
        4, 5, groups=2
    ),
    "output_size=0: must be at least 1": lambda: DeformRoIPool(3, 0),
    "samples=0: must be at least 1": lambda: DeformRoIPool(3, samples=0),
    "features are (3, 8, 8): they must be (N, C, H, W)": lambda: pool(features=(3, 8, 8)),
    "boxes are (4, 4): they must be (R, 5), batch index, x1, y1, x2, y2": lambda: pool(
        boxes=(4, 4)
    ),
    "offsets are (4, 7, 7, 2): they must be (4, 2, 7, 7)": lambda: pool(offsets=(4, 7, 7, 2)),
    "boxes' batch indices go from 0 to 2: features hold 2 images, so 0 to 1 are accepted": (
        lambda: pool_image(2)
    ),
    "boxes' batch indices go from -1 to 0: features hold 2 images, so 0 to 1 are accepted": (
        lambda: pool_image(-1)
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_message(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        REFUSED[message]()
