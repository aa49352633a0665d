"""Ranges, scales, equalisation and corrections, each against its formula."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from quantization_networks import SHAPE, bias_error, encoded, images, mixed
from torch import nn

from depthwise.calibration.images import as_tensor
from depthwise.graph import capture, interpret, ops
from depthwise.quantization.correction import (
    correct_bias,
    correct_scale,
    fit_layers,
    fit_rounding,
)
from depthwise.quantization.equalisation import equalise
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.judging import HeldOut, decibels
from depthwise.quantization.placement import place
from depthwise.quantization.preparing import prepare
from depthwise.quantization.ranges import OBSERVERS, Observation, choose_ranges
from depthwise.quantization.running import RoundedWalk, Runner, observe, rounded
from depthwise.quantization.scheme import (
    LEVELS,
    Affine,
    LayerWeights,
    round_weights,
    weight_scales,
)
from depthwise.quantization.simulation import IntegerSimulator, simulate

TIE = 0.01  # of a step: how near to the middle between two numbers float32 may tell otherwise


def test_a_range_holds_its_ends_and_zero_exactly():
    affine = Affine.of_range(-1.0, 2.0)
    assert affine.zero == 85
    assert affine.low == pytest.approx(-1, abs=affine.scale / 2)
    assert affine.rounded(np.array([0.0, 2.0, 9.0, -9.0])).tolist() == pytest.approx(
        [0, 2, 2, -1], abs=1e-6
    )
    assert Affine.of_range(0.5, 4.0) == Affine.of_range(0.0, 4.0)


def test_a_value_that_is_always_zero_has_a_scale():
    affine = Affine.of_range(0.0, 0.0)
    assert affine.rounded(np.zeros(3)).tolist() == [0, 0, 0]


def test_weights_keep_their_largest_in_each_channel():
    weight = np.array([[0.5, -1.0], [0.0, 0.02], [0.0, 0.0]], np.float32)
    found = LayerWeights.rounded(weight, np.zeros(3))
    assert found.integers.tolist() == [[64, -127], [0, 127], [0, 0]]
    assert np.allclose(found.real, weight, atol=1 / 254)
    assert round_weights(np.array([[9.0]]), weight_scales(np.array([1.0]))).tolist() == [[127]]


def seen(sample, function=None):
    sample = np.asarray(sample, np.float32)
    return Observation(float(sample.min()), float(sample.max()), sample, np.zeros(0), function)


def test_an_outlier_is_cut_off_where_that_makes_less_error():
    sample = np.append(np.random.default_rng(0).standard_normal(20000), 60.0)
    assert OBSERVERS["minmax"](seen(sample))[1] == 60
    for name in ("percentile", "entropy"):
        assert OBSERVERS[name](seen(sample))[1] < 30, name


def test_mse_is_least_among_shares_of_the_range():
    sample = np.random.default_rng(0).standard_normal(5000) ** 3
    low, high = OBSERVERS["mse"](seen(sample))

    def loss(high):
        affine = Affine.of_range(low, high)
        return np.square(affine.rounded(sample) - sample).mean()

    assert loss(high) <= min(loss(high * share) for share in (0.9, 1.1))


def test_what_a_function_does_not_tell_apart_takes_no_numbers():
    sample = np.linspace(-20, 10, 3001)
    swish = ops.Activation("hard_swish")
    for name, observer in OBSERVERS.items():
        assert observer(seen(sample, swish))[0] >= -3, name


def test_values_that_are_no_numbers_are_named():
    graph = prepare(capture(mixed(), SHAPE))
    x = as_tensor(graph, images(16)).clone()
    x[3] = 3e38
    with pytest.raises(ValueError, match=r"the value \w+ is infinite or no number"):
        observe(place(graph), x)


def test_equalising_changes_nothing_but_ranges():
    graph = prepare(capture(mixed(), SHAPE))
    x = images(32)
    found = equalise(graph, observe(place(graph), as_tensor(graph, x)))
    changed = [
        name for name, known in graph.constants.items()
        if not np.array_equal(known.data, found.constants[name].data)
    ]  # fmt: skip
    layers = place(graph).layers.values()
    weights = {node.path: node.inputs[1] for node in layers}
    assert {weights[path] for path in ("expand.0", "depthwise.0", "project")} <= set(changed)
    for each in x[:4]:
        before, after = (interpret(g, each[None])[graph.outputs[0].value] for g in (graph, found))
        assert np.allclose(before, after, atol=1e-5 * np.abs(before).max())


def test_equalised_channels_before_a_depthwise_layer_have_one_range():
    graph = prepare(capture(mixed(), SHAPE))
    x = as_tensor(graph, images(64))
    before = observe(place(graph), x)
    after = observe(place(equalise(graph, before)), x)
    (value,) = (n.name for n in graph if n.op == ops.Activation("clamp", (0.0, 6.0)))
    assert after[value].channels.min() > 6 / 1.1 - 1e-3 > before[value].channels.min()


class Shared(nn.Module):
    """A layer that is read twice: its weights fit no channel's factor of one place."""

    def __init__(self):
        super().__init__()
        self.first, self.twice = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.twice(torch.relu(self.twice(torch.relu(self.first(x)))))


class OneChannel(nn.Module):
    """A value of one channel, multiplied with one of several: by rows of pixels, or channels."""

    def __init__(self):
        super().__init__()
        self.one, self.all, self.last = nn.Conv2d(3, 1, 3), nn.Conv2d(3, 12, 3), nn.Conv2d(12, 4, 1)

    def forward(self, x):
        return self.last(torch.relu(self.one(x)) * torch.sigmoid(self.all(x)))


def test_a_channel_that_a_product_repeats_is_not_scaled():
    torch.manual_seed(0)
    graph = prepare(capture(OneChannel().eval(), SHAPE))
    seen = observe(place(graph), as_tensor(graph, images(32)))
    found = equalise(graph, seen)
    for name, constant in graph.constants.items():
        assert np.array_equal(constant.numbers, found.constants[name].numbers)


def test_weights_that_are_shared_are_not_scaled():
    torch.manual_seed(0)
    graph, x = prepare(capture(Shared().eval(), SHAPE)), images(32)
    found = equalise(graph, observe(place(graph), as_tensor(graph, x)))
    before, after = (interpret(g, x[:1])[graph.outputs[0].value] for g in (graph, found))
    assert np.allclose(before, after, atol=1e-5 * np.abs(before).max())


def channel_means(encoding, x, path):
    place_ = encoding.placement
    (name,) = (n for n, node in place_.layers.items() if node.path == path)
    graph = replace(encoding.graph, outputs=(replace(encoding.graph.outputs[0], value=name),))
    run = Runner(as_tensor(encoding.graph, x))
    return run(replace(encoding, graph=graph)).mean((0, 2, 3)), run.original(graph).mean((0, 2, 3))


@pytest.mark.parametrize("fit", [correct_bias, correct_scale])
def test_corrected_layers_have_the_means_of_the_original(fit):
    x = images(32)
    encoding = encoded(capture(mixed(), SHAPE), x)
    name = next(n for n, node in encoding.placement.layers.items() if node.path == "expand.0")
    shifted = encoding.weights[name]
    encoding = encoding.with_weights(name, replace(shifted, bias=shifted.bias + 0.3))
    fixed = fit_layers(encoding, as_tensor(encoding.graph, x), fit)
    wrong, right = channel_means(encoding, x, "expand.0"), channel_means(fixed, x, "expand.0")
    assert float((wrong[0] - wrong[1]).abs().max()) > 0.2
    assert float((right[0] - right[1]).abs().max()) < 0.02


def test_fitted_rounding_is_closer_than_the_nearest():
    """Few bits show it: weights whose largest one leaves the others a few numbers."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3)).eval()
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight[:, 0, 0, 0] = 8.0
    graph, x = capture(net, SHAPE), images(64)
    encoding = encoded(graph, x, "minmax")
    few, held = as_tensor(encoding.graph, x[:48]), as_tensor(encoding.graph, x[48:])
    judge = HeldOut(encoding.graph, held, scores=False)
    fitted = fit_layers(encoding, few, fit_rounding)
    assert judge(fitted).decibels > judge(encoding).decibels + 1
    for weights in fitted.weights.values():
        assert np.abs(weights.integers.astype(int)).max() <= 127


class FedWalk(RoundedWalk):
    """A rounded walk in which each value, once it is computed, becomes what the simulator has.

    `apart` has, by name, how many steps of a value its numbers are from the simulator's, cut off
    where its range ends.
    """

    def __init__(self, encoding: Encoding, x: np.ndarray, right: dict[str, np.ndarray]):
        self.right, self.apart = right, dict[str, np.ndarray]()
        super().__init__(encoding, torch.from_numpy(x), [encoding.graph.outputs[0].value])

    def _hold(self, name: str) -> None:
        if name in self.values and name in self.live:
            affine, right = self.values[name], self.right[name]
            steps = self.live[name].numpy() / affine.scale + affine.zero
            self.apart[name] = np.abs(steps.clip(0, LEVELS) - right)
            self.live[name] = torch.from_numpy(affine.real(right))


def walks_beside(encoding: Encoding, x: np.ndarray) -> tuple[FedWalk, dict[str, np.ndarray]]:
    """Return the walk of one image on the simulator's bytes, and these, by the value's name."""
    values = IntegerSimulator(insert_quantization(encoding)).values(x)
    right = {name: values[f"{name}.quantized"] for name in encoding.placement.quantized}
    return FedWalk(encoding, x, right), right


def test_the_rounded_walk_is_the_simulator_but_for_ties():
    """Value by value: of the same bytes both make the same, if no number is in the middle of two.

    There the one's sums in float32 and the other's of integers, whose bias is rounded, may fall on
    either side. An image of which no number does gives the same scores.
    """
    encoding = encoded(capture(mixed(), SHAPE), images(32))
    x, ties = images(24, seed=2), 0
    fast = Runner(as_tensor(encoding.graph, x))(encoding).numpy()
    exact = simulate(insert_quantization(encoding), x)
    for image in range(len(x)):
        walk, right = walks_beside(encoding, x[image : image + 1])
        walk.take(encoding.graph.outputs[0].value)
        assert walk.apart.keys() == right.keys()
        most = max(float(apart.max()) for apart in walk.apart.values())
        assert most <= 0.5 + TIE
        ties += most > 0.5
        if most <= 0.5:
            limit = bias_error(encoding) + 1e-5
            np.testing.assert_allclose(fast[image], exact[image], rtol=0, atol=limit)
    assert ties < len(x), "no image shows that the rest is the same"


def test_a_tie_is_told_apart_by_the_last_digit():
    """45 · 0.1 · 127 · scale is 3.5 steps as a sum of integers, and 3.4999998 in float32."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)).eval()
    graph = prepare(capture(net, (1, 1, 1, 1)))
    first, second = place(graph).layers
    tenths, ones = Affine(float(np.float32(0.1)), 0), Affine(1.0, 0)
    scales = np.array([3.5 / (tenths.scale * 45 * 127)], np.float32)
    weights = LayerWeights(np.full((1, 1, 1, 1), 127, np.int8), scales, np.zeros(1))
    (given,) = graph.inputs
    encoding = Encoding(graph, {given: tenths, first: ones}, {first: weights, second: weights})
    walk, right = walks_beside(encoding, np.full((1, 1, 1, 1), 4.5, np.float32))
    walk.take(second)
    assert right[given].item() == 45
    assert right[first].item() == 4
    assert 0.5 < walk.apart[first].item() < 0.5 + 1e-6


def test_decibels():
    assert decibels(torch.ones(4), torch.full((4,), 1.1)) == pytest.approx(20, abs=1e-4)
    x = torch.linspace(-2, 3, 100)
    assert torch.equal(
        rounded(x, Affine.of_range(-2, 3)),
        torch.from_numpy(Affine.of_range(-2, 3).rounded(x.numpy())),
    )


def test_moves_keep_the_scale_of_what_they_read():
    graph = prepare(capture(mixed(), SHAPE))
    placed = place(graph)
    values = choose_ranges(placed, observe(placed, as_tensor(graph, images(16))), "mse")
    (pool,) = (node for node in graph if isinstance(node.op, ops.MaxPool2d))
    assert values[pool.name] == values[pool.inputs[0]]
