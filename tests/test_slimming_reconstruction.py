"""Weights refitted by least squares, where what they should become is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthwise.calibration.least_squares import Moments, fitted
from depthwise.graph import Constant, Graph, TensorType, capture, check, interpret
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.calibration import calibrate
from depthwise.slimming.fitting.reconstruction import reconstruct
from depthwise.slimming.moves import ghost

SHAPE = (1, 3, 6, 6)
IMAGES = np.random.default_rng(0).standard_normal((40, *SHAPE[1:])).astype(np.float32)
CONV, NORM = {"kernel_size": 3, "padding": 1}, torch.nn.BatchNorm2d


def trained(net: nn.Module) -> nn.Module:
    """Give BatchNorms statistics and scales that are not those they begin with."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
        elif isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return net


def graph_of(*layers: nn.Module) -> Graph:
    return capture(trained(nn.Sequential(*layers)), SHAPE)


def changed(graph: Graph, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Graph:
    old = graph.constants[name]
    data = np.ascontiguousarray(change(old.data), np.float32)
    new = Constant(TensorType(data.shape), data, old.trainable)
    return replace(graph, constants={**graph.constants, name: new})


def noisy(data: np.ndarray) -> np.ndarray:
    return data + np.random.default_rng(3).standard_normal(data.shape).astype(np.float32)


def outputs(graph: Graph) -> np.ndarray:
    check(graph)
    (value,) = (output.value for output in graph.outputs)
    return np.concatenate([interpret(graph, image[None])[value] for image in IMAGES])


def assert_recovered(draft: Draft, original: Graph) -> None:
    """A draft that is far from the original is it after reconstruction, to 1e-4 of its outputs."""
    wanted = outputs(original)
    assert np.abs(outputs(draft.graph) - wanted).max() > 0.1
    found = outputs(reconstruct(draft, original, IMAGES).graph)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_linear_layer_is_recovered(groups):
    graph = graph_of(nn.Conv2d(3, 6, **CONV), nn.Conv2d(6, 6, **CONV, groups=groups))
    assert_recovered(Draft(changed(graph, "1.weight", noisy)), graph)


def test_layers_make_up_for_those_before_them():
    """The first has other weights, and keeps them, for they are not its own."""
    graph = graph_of(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1))
    mixed = changed(graph, "0.weight", lambda data: 2 * np.eye(3)[:, :, None, None] - data)
    shared = _with_second_reader(mixed)
    assert_recovered(Draft(shared), graph)
    found = reconstruct(Draft(shared), graph, IMAGES).graph
    assert np.array_equal(found.constants["0.weight"].data, mixed.constants["0.weight"].data)


def _with_second_reader(graph: Graph) -> Graph:
    """Let a node that nothing reads share the first layer's weights, so that they stay."""
    twin = replace(graph.nodes[0], name="twin", path="twin")
    return replace(graph, nodes=(*graph.nodes, twin))


def test_channels_that_are_copies_cost_nothing():
    graph = graph_of(nn.Conv2d(3, 4, **CONV), NORM(4), nn.ReLU(), nn.Conv2d(4, 5, **CONV))
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        graph = changed(graph, name, lambda data: data[[0, 1, 2, 2]])
    kept = np.array([2, 0, 1])
    slim = graph
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        slim = changed(slim, name, lambda data: data[kept])
    slim = changed(slim, "3.weight", lambda data: data[:, kept])
    narrow = tuple(
        replace(node, type=TensorType((1, 3, 6, 6))) for node in slim.nodes[:3]
    )  # fmt: skip
    slim = replace(slim, nodes=(*narrow, slim.nodes[3]))
    assert_recovered(Draft(slim, {node.name: kept for node in narrow}), graph)


class Residual(nn.Module):
    """A branch, normalised or not, and a shortcut with a scale of its own."""

    def __init__(self, normed: bool):
        super().__init__()
        self.shortcut = NORM(3)
        self.branch = nn.Conv2d(3, 3, 1, bias=not normed)
        self.norm = NORM(3) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.norm(self.branch(x))


@pytest.mark.parametrize("normed", [False, True])
def test_a_branch_makes_up_for_its_shortcut(normed):
    graph = capture(trained(Residual(normed)), SHAPE)
    assert_recovered(Draft(changed(graph, "shortcut.weight", lambda data: data + 1)), graph)


class Parts(nn.Module):
    """What takes the place of one convolution: two that are added, or set side by side."""

    def __init__(self, added: bool):
        super().__init__()
        self.added = added
        self.first = nn.Conv2d(3, 4 if added else 2, (3, 1), padding=(1, 0), bias=False)
        self.second = nn.Conv2d(3, 4 if added else 2, (1, 3), padding=(0, 1), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.first(x), self.second(x)
        return first + second if self.added else torch.cat([first, second], 1)


@pytest.mark.parametrize("added", [True, False])
def test_parts_of_a_value_are_fitted_together(added):
    """Of a kernel that is a cross, or of filters that are upright first and flat then."""
    graph = graph_of(nn.Conv2d(3, 4, **CONV))
    mask = np.zeros((4, 1, 3, 3), np.float32)
    mask[:2, :, :, 1], mask[2:, :, 1, :] = 1, 1
    if added:
        mask[:, :, :, 1] = mask[:, :, 1, :] = 1
    order = np.array([1, 0, 3, 2])
    graph = changed(graph, "0.weight", lambda data: data * mask)
    parts = capture(Parts(added), SHAPE)
    last = replace(parts.nodes[-1], name="conv2d")
    rest = [replace(node, name=f"part.{node.name}") for node in parts.nodes[:-1]]
    inputs = tuple(f"part.{name}" for name in last.inputs)
    slim = replace(
        parts, nodes=(*rest, replace(last, inputs=inputs)), outputs=graph.outputs
    )  # fmt: skip
    if added:
        assert_recovered(Draft(slim), graph)
        return
    found = reconstruct(Draft(slim, {"conv2d": order}), graph, IMAGES).graph
    np.testing.assert_allclose(outputs(found), outputs(graph)[:, order], atol=1e-4)


def test_both_parts_of_a_ghost_module_are_fitted():
    """From any weights of the maps that are made of others, they come to the same."""
    graph = graph_of(
        nn.Conv2d(3, 16, **CONV, bias=False), NORM(16), nn.ReLU(),
        nn.Conv2d(16, 16, **CONV, bias=False), NORM(16), nn.ReLU(), nn.Conv2d(16, 2, 1),
    )  # fmt: skip
    draft = Draft(graph)
    changes = ghost.changes(draft, calibrate(draft, IMAGES, "values"))
    made = next(change for change in changes if change.place == "3").apply(draft)
    noised = replace(made, graph=changed(made.graph, "3.cheap.weight", noisy))
    assert set(made.parts.values()) == {"conv2d_1", "batch_norm_1", "relu_1"}

    def error(graph_: Graph) -> float:
        return float(np.square(outputs(graph_) - outputs(graph)).mean())

    found = [error(reconstruct(each, graph, IMAGES).graph) for each in (made, noised)]
    assert error(noised.graph) > 4 * found[0]
    assert found[1] < 1.2 * found[0]


@pytest.mark.parametrize("bias", [True, False])
def test_a_mean_that_a_batchnorm_makes_up_for_counts_once(bias):
    """A move that takes 3 off a layer's mean takes it off the BatchNorm's, too."""
    graph = graph_of(nn.Conv2d(3, 6, **CONV, bias=bias), NORM(6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    moved = changed(changed(graph, "0.weight", noisy), "1.running_mean", lambda data: data - 3)
    assert_recovered(Draft(moved), graph)
    again = reconstruct(reconstruct(Draft(moved), graph, IMAGES), graph, IMAGES).graph
    np.testing.assert_allclose(outputs(again), outputs(graph), rtol=1e-3, atol=1e-3)


def test_an_unchanged_network_stays_as_it_is():
    graph = graph_of(nn.Conv2d(3, 6, **CONV), NORM(6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    found = reconstruct(Draft(graph), graph, IMAGES).graph
    np.testing.assert_allclose(outputs(found), outputs(graph), rtol=1e-5, atol=1e-5)


class Scaled(nn.Module):
    """A normalisation of a scaled input, whose value is named as the original's where it may be."""

    def __init__(self, scale: float, shift: float):
        super().__init__()
        self.scale, self.shift, self.norm = scale, shift, NORM(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.scale * x + self.shift)


def statistics(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (graph.constants[f"norm.running_{name}"].data for name in ("mean", "var"))
    return mean, variance


def test_statistics_move_by_what_differs_from_the_original():
    """To half the inputs and a mean of one more: a quarter of the variance."""
    graph, slim = (capture(trained(Scaled(*how)), SHAPE) for how in ((1.0, 2.0), (0.5, 3.0)))
    found = statistics(reconstruct(Draft(slim), graph, IMAGES).graph)
    (mean, variance), means = statistics(graph), IMAGES.mean((0, 2, 3))
    np.testing.assert_allclose(found[0], mean + 1 - means / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], variance / 4, rtol=1e-4)


def test_statistics_of_what_the_original_has_not_are_those_of_the_images():
    graph = capture(trained(Scaled(1.0, 2.0)), SHAPE)
    names = {node.name: f"new.{node.name}" for node in graph}
    nodes = tuple(
        replace(node, name=names[node.name], inputs=tuple(names.get(i, i) for i in node.inputs))
        for node in graph
    )
    outputs = tuple(replace(output, value=names[output.value]) for output in graph.outputs)
    slim = replace(graph, nodes=nodes, outputs=outputs)
    found = statistics(reconstruct(Draft(slim), graph, IMAGES).graph)
    x = IMAGES.astype(np.float64) + 2
    np.testing.assert_allclose(found[0], x.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found[1], x.var((0, 2, 3)), rtol=1e-5)


def random_moments(count: int, noise: float, seed: int) -> tuple[Moments, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    wanted = torch.arange(12.0).reshape(1, 4, 3)
    x = torch.randn(count, 1, 4, generator=draws) + 5
    e = (x[:, 0] @ wanted[0]) + 2 + noise * torch.randn(count, 3, generator=draws)
    return Moments.of(x, e), wanted


def test_a_change_is_fitted_with_its_constant():
    (learned, wanted), (held_out, _) = random_moments(80, 0, 1), random_moments(20, 0, 2)
    change, shift = fitted(learned, held_out)
    torch.testing.assert_close(change.float(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shift.float(), torch.full((1, 3), 2.0), rtol=0, atol=1e-2)


def test_a_fit_that_others_do_not_bear_out_is_not_taken():
    draws = torch.Generator().manual_seed(0)
    x, e = torch.randn(30, 1, 12, generator=draws), torch.randn(30, 2, generator=draws)
    change, shift = fitted(Moments.of(x[:15], e[:15]), Moments.of(x[15:], e[15:]))
    assert not change.any()
    torch.testing.assert_close(shift[0].float(), e.mean(0))


def test_moments_of_two_parts_are_those_of_the_whole():
    draws = torch.Generator().manual_seed(0)
    x, e = torch.randn(50, 2, 3, generator=draws), torch.randn(50, 4, generator=draws) + 3
    both = Moments.of(x[:20], e[:20]) + Moments.of(x[20:], e[20:])
    whole = Moments.of(x, e)
    for own, expected in zip(vars(both).values(), vars(whole).values(), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-4)
