"""Networks that learn while they compute as in eight bits: gradients, and what results."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from quantization_networks import SHAPE, bias_error, encoded, images, mixed
from torch import nn

from depthwise.calibration.images import as_tensor
from depthwise.graph import Graph, capture
from depthwise.graph.exporters.torch.network import compute_otherwise
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.judging import keep_layers
from depthwise.quantization.running import Runner
from depthwise.quantization.scheme import LEVELS, Affine, LayerWeights
from depthwise.quantization.simulation import IntegerSimulator, simulate
from depthwise.quantization.straight_through import ActivationRanges, round_weight
from depthwise.quantization.trainable import (
    RoundedResult,
    dequantized,
    draw_ranges,
    graph_to_train,
    in_integers,
    learned,
    ranges_of,
    to_trainable,
)

TIE = 0.01  # of a step: how near to the middle between two numbers float32 may tell otherwise


def trainable(net: nn.Module, shape=SHAPE, kept: frozenset[str] = frozenset()):
    """Return a network's graph, and the module that learns in eight bits, its ranges drawn."""
    graph = graph_to_train(capture(net, shape))
    size = shape[1:]
    x = images(64) if shape == SHAPE else np.random.default_rng(0).normal(size=(64, *size))
    encoding = keep_layers(encoded(graph, x.astype(np.float32)), kept)
    made = to_trainable(graph, encoding.kept)
    draw_ranges(graph, made, encoding)
    return graph, made.eval()


def negative_scales() -> nn.Module:
    """Return the mixed network, every other channel of whose BatchNorms is multiplied by -1."""
    net = mixed()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight[::2] *= -1
    return net


# ------------------------------------------------------------------------------------- rounding


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (16, 1, 5, 5), (5, 40)])
def test_weights_are_rounded_as_those_of_a_quantised_layer(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    known = LayerWeights.rounded(weight.detach().numpy(), np.zeros(shape[0]))
    rounded = round_weight(weight)
    assert np.allclose(rounded.detach().numpy(), known.real, rtol=1e-6, atol=0)
    pulled = torch.randn(shape)
    rounded.backward(pulled)
    assert torch.equal(weight.grad, pulled)


def test_a_channel_of_zeros_stays():
    assert torch.equal(round_weight(torch.zeros(2, 3)), torch.zeros(2, 3))


def drawn(affine: Affine) -> ActivationRanges:
    ranges = ActivationRanges(1)
    ranges.draw([affine])
    return ranges


@pytest.mark.parametrize("ends", [(0.0, 6.0), (-1.3, 2.1), (-0.375, 17.0), (0.0, 1e-3)])
def test_values_are_rounded_as_those_that_are_held_in_uint8(ends):
    affine = Affine.of_range(*ends)
    x = torch.linspace(2 * ends[0] - 1, 2 * ends[1] + 1, 4001)
    found = drawn(affine).affine(0)
    assert found.zero == affine.zero
    assert found.scale == pytest.approx(affine.scale, rel=1e-6)
    assert np.array_equal(drawn(affine)(x, 0).detach().numpy(), found.rounded(x.numpy()))


def test_gradients_pass_inside_a_range_and_pull_at_the_ends_of_it():
    affine = Affine.of_range(-1.0, 1.55)  # steps of 0.01
    ranges = drawn(affine)
    x = torch.tensor([[-3.0, -1.2, 0.104, 0.5, 1.7, 2.0, 9.0]], requires_grad=True)
    pulls = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]])
    ranges(x, 0).backward(pulls)
    assert x.grad.tolist() == [[0, 0, 4, 8, 0, 0, 0]]
    off = 4 * (10 - 10.4) / LEVELS  # of a step that both ends make, by what 0.104 is rounded
    factor = (7 * LEVELS) ** -0.5
    assert ranges.highs.grad.item() == pytest.approx(factor * 1.55 * (112 + off), rel=1e-3)
    assert ranges.lows.grad.item() == pytest.approx(factor * -1.0 * (3 - off), rel=1e-3)


@pytest.mark.parametrize("too", [0.2, 8.0], ids=["narrow", "wide"])
def test_ranges_learn_to_fit(too):
    x = torch.randn(64, 50, generator=torch.Generator().manual_seed(0)) + 0.5
    ranges = drawn(Affine.of_range(-2.5 * too, 3.5 * too))

    def loss(ranges: ActivationRanges) -> torch.Tensor:
        return (ranges(x, 0) - x).square().mean()

    best = loss(drawn(Affine.of_range(-2.5, 3.5))).item()
    optimizer = torch.optim.Adam(ranges.parameters(), 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss(ranges).backward()
        optimizer.step()
    assert loss(ranges).item() < 3 * best


# ------------------------------------------------------------- the very network that is compiled


@pytest.mark.parametrize("make", [mixed, negative_scales])
def test_it_computes_the_network_that_comes_of_it(make):
    graph, net = trainable(make())
    assert any("running_mean" in name for name in net.state_dict())  # its BatchNorms are there
    x = images(48, seed=5)
    encoding = in_integers(learned(graph, net))
    rounded = Runner(as_tensor(graph, x))(encoding).numpy()
    with torch.no_grad():
        own = net(torch.from_numpy(x)).numpy()
    exact = simulate(insert_quantization(encoding), x)
    for other in (rounded, exact):
        apart = np.abs(own - other)
        assert np.median(apart) < 1e-5 * np.abs(own).max()
        assert apart.max() < 0.02 * np.abs(own).max()  # a tie moves what comes after it
        assert np.mean(own.argmax(1) == other.argmax(1)) >= 0.99


def held_values(graph: Graph) -> dict[str, str]:
    """Return the bytes' names of every value that a graph holds in bytes, by that value's name."""
    found = {}
    for node in graph:
        if node.name.endswith(".quantized"):
            found[node.name.removesuffix(".quantized")] = node.name
    return found


@pytest.mark.parametrize("make", [mixed, negative_scales])
def test_every_byte_is_the_simulators_but_for_ties(make):
    """Each value is computed of the simulator's own bytes before it: at most a tie is told apart.

    A tie is a number in the middle between two, which sums in float32 and in int32 tell apart.
    """
    graph, net = trainable(make())
    encoding = in_integers(learned(graph, net))
    quantized = insert_quantization(encoding)
    x = images(1, seed=7)
    bytes_of = IntegerSimulator(quantized).values(x)
    held, seen = held_values(quantized), dict[str, np.ndarray]()

    def change(step):
        rounding = step.compute
        if not isinstance(rounding, RoundedResult):
            return step
        affine, name = ranges_of(net).affine(rounding.row), str(step.result)
        right = affine.real(bytes_of[held[name]])

        def compute(*operands):
            steps = rounding.compute(*operands).numpy() / affine.scale
            clipped = np.clip(steps, -affine.zero, LEVELS - affine.zero)
            off = np.abs(clipped - right / affine.scale)
            assert off.max() <= 0.5 + TIE, f"{name}: {off.max()} steps off"
            seen[name] = (off > 0.5).ravel()
            return torch.from_numpy(right)

        return replace(step, compute=compute)

    compute_otherwise(net, change)
    with torch.no_grad():
        own = net(torch.from_numpy(x)).numpy()
    assert seen.keys() == held.keys()
    assert np.concatenate(list(seen.values())).mean() < 0.005
    exact = simulate(quantized, x)
    assert np.abs(own - exact).max() < bias_error(encoding) + 1e-6 * np.abs(exact).max()


def test_of_a_channel_that_is_turned_round_the_integers_are_negative():
    graph, net = trainable(negative_scales())
    encoding = in_integers(learned(graph, net))
    raw = graph.constants["expand.0.weight"].numbers
    integers = LayerWeights.rounded(raw, np.zeros(len(raw))).integers
    (name,) = (n for n, node in encoding.placement.layers.items() if node.path == "expand.0")
    found = encoding.weights[name].integers
    assert np.array_equal(found[::2], -integers[::2])
    assert np.array_equal(found[1::2], integers[1::2])


def test_it_learns_and_what_it_learned_is_in_the_integers():
    graph, net = trainable(mixed())
    before = insert_quantization(in_integers(learned(graph, net)))
    x = torch.from_numpy(images(64, seed=8))
    wanted = x.mean((2, 3)).argmax(1)  # which colour there is most of
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(net.train()(x), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(each.grad is not None for each in net.parameters())
    with torch.no_grad():
        own = net.eval()(x).numpy()
    after = insert_quantization(in_integers(learned(graph, net)))
    exact = simulate(after, x.numpy())
    assert np.mean(own.argmax(1) == exact.argmax(1)) >= 0.98
    assert not np.allclose(simulate(before, x.numpy()), exact)


class NormFirst(nn.Module):
    """A BatchNorm before a convolution, into which it is folded."""

    def __init__(self):
        super().__init__()
        self.norm, self.one, self.two = nn.BatchNorm2d(3), nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        return self.two(torch.relu(self.one(self.norm(x))).mean((2, 3)))


def test_where_layers_cannot_be_told_norms_are_folded():
    net = NormFirst()
    net.norm.running_var.fill_(4.0)
    graph, made = trainable(net.eval(), (1, 3, 8, 8))
    assert not any("running" in name for name in made.state_dict())
    assert {"one.weight", "one.bias", "two.weight", "two.bias"} <= dict(
        made.named_parameters()
    ).keys()
    x = np.random.default_rng(1).normal(size=(8, 3, 8, 8)).astype(np.float32)
    exact = simulate(insert_quantization(in_integers(learned(graph, made))), x)
    with torch.no_grad():
        assert np.allclose(made(torch.from_numpy(x)), exact, atol=0.02 * np.abs(exact).max())


def test_layers_that_are_kept_are_not_rounded():
    net = mixed()
    prepared = encoded(graph_to_train(capture(net, SHAPE)), images(16)).placement
    (name,) = (n for n, node in prepared.layers.items() if node.path == "classifier")
    graph, made = trainable(net, kept=frozenset({name}))
    encoding = in_integers(learned(graph, made, frozenset({name})))
    assert name not in encoding.weights
    x = images(8, seed=2)
    exact = simulate(insert_quantization(encoding), x)
    with torch.no_grad():
        own = made(torch.from_numpy(x)).numpy()
    assert np.median(np.abs(own - exact)) < 1e-5 * np.abs(exact).max()


# ------------------------------------------------------------------- from a network of integers


def test_a_quantised_network_goes_on_as_it_is():
    encoding = encoded(capture(mixed(), SHAPE), images(32))
    quantized = insert_quantization(encoding)
    found = dequantized(quantized)
    assert found.kept == frozenset()
    assert {"classifier.weight", "stem.0.weight"} <= {
        name for name, known in found.graph.constants.items() if known.trainable
    }
    net = to_trainable(found.graph, found.kept)
    draw_ranges(found.graph, net, found)
    again = in_integers(learned(found.graph, net.eval()))
    assert len(again.weights) == len(encoding.weights)
    for one, other in zip(again.weights.values(), encoding.weights.values(), strict=True):
        assert np.array_equal(one.integers, other.integers)
        assert np.allclose(one.scales, other.scales, rtol=1e-6)
    x = images(16, seed=4)
    first, second = simulate(quantized, x), simulate(insert_quantization(again), x)
    assert np.mean(np.abs(first - second) < 1e-4 * np.abs(first).max()) > 0.9


def test_layers_in_float32_are_known_again():
    encoding = encoded(capture(mixed(), SHAPE), images(32))
    (name,) = (n for n, node in encoding.placement.layers.items() if node.path == "classifier")
    found = dequantized(insert_quantization(keep_layers(encoding, frozenset({name}))))
    (kept,) = found.kept
    assert next(node.path for node in found.graph if node.name == kept) == "classifier"


def test_values_of_several_scales_are_refused():
    graph = insert_quantization(encoded(capture(mixed(), SHAPE), images(32)))
    scale = next(name for name in graph.constants if name.endswith("x.scale"))
    several = replace(
        graph.constants[scale],
        type=replace(graph.constants[scale].type, shape=(3,)),
        data=np.ones(3, np.float32),
    )
    with pytest.raises(ValueError, match="held in uint8 by several scales"):
        dequantized(replace(graph, constants={**graph.constants, scale: several}))


def test_an_encoding_names_its_ranges():
    graph, net = trainable(mixed())
    found = learned(graph, net)
    assert isinstance(found, Encoding)
    prepared = encoded(capture(mixed(), SHAPE), images(64))
    assert found.values.keys() == prepared.values.keys()
    for name, affine in prepared.values.items():
        assert found.values[name].zero == affine.zero
        assert found.values[name].scale == pytest.approx(affine.scale, rel=1e-6)
