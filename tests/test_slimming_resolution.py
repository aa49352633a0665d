"""Images of another size: the graph is that which would be captured, or it says why it cannot."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slimming_cases import Net, conv, randomized
from torch import nn

from depthwise.errors import Unsupported
from depthwise.graph import capture, interpret
from depthwise.slimming.costs.measuring import run_graph
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.reconstruction import reconstruct
from depthwise.slimming.moves.resizing import resize
from depthwise.slimming.moves.resolution import changes


def pyramid() -> nn.Module:
    """Return a network with upsampling, a pooled gate, splits of pixels, reshapes and windows."""

    def forward(n, x):
        a = n.stem(x)
        b = F.interpolate(n.down(a), scale_factor=2, mode="bilinear")
        c = a[:, :, ::2, 1::2].permute(0, 2, 3, 1)
        c = F.interpolate(c.permute(0, 3, 1, 2), scale_factor=2)
        d = F.pixel_shuffle(F.pixel_unshuffle(a + b + c, 2), 2)
        d = d.view(d.shape[0], 2, 4, *d.shape[2:]).transpose(1, 2).flatten(1, 2)
        d = d * d.mean((2, 3), keepdim=True).expand_as(d)
        return n.last(F.avg_pool2d(d, d.shape[-1]).flatten(1))

    return Net(forward, stem=conv(3, 8, 3, stride=2), down=conv(8, 8, 3, stride=2),
               last=nn.Linear(8, 5))  # fmt: skip


@pytest.mark.parametrize("size", [16, 24])
def test_the_graph_is_that_of_a_capture_at_this_size(size):
    net = randomized(pyramid())
    after = resize(capture(net, (1, 3, 32, 32)), size, size)
    wanted = capture(net, (1, 3, size, size))
    assert after.nodes == wanted.nodes
    x = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    a, b = (interpret(graph, x)[graph.outputs[0].value] for graph in (after, wanted))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda s: s + torch.ones(1, 8, 16, 16), "broadcast"),
        (lambda s: s.flatten(1)[:, :2048], "of 2048|does not fit"),
        (lambda s: s[:, :, :9], "takes 0 to 9 of 16"),
        (lambda s: s.view(1, 4, 32, 16).sin().view(1, 8, 16, 16), r"is reshaped to \(4, 32\)"),
        (lambda s: F.interpolate(s, (13, 13)), "ratio"),
    ],
    ids=["positions", "flattened", "sliced", "mixed", "resized"],
)
def test_what_is_for_one_size_alone_is_named(function, reason):
    size = (64 * 32, 5) if "flatten" in function.__code__.co_names else (8, 5)
    net = Net(
        lambda n, x: n.last(_scores(function(n.stem(x)))),
        stem=conv(3, 8, 3, stride=2), last=nn.Linear(*size),
    )  # fmt: skip
    graph = capture(randomized(net), (1, 3, 32, 32))
    with pytest.raises(Unsupported, match=reason):
        resize(graph, 24, 24)
    assert not list(changes(Draft(graph), {}))


def _scores(maps: torch.Tensor) -> torch.Tensor:
    return maps if maps.ndim == 2 else maps.mean((2, 3))


def test_maps_that_are_returned_keep_their_size():
    graph = capture(randomized(nn.Sequential(conv(3, 8))), (1, 3, 32, 32))
    with pytest.raises(Unsupported, match="would have another size"):
        resize(graph, 16, 16)


def test_sizes_are_multiples_of_what_the_network_divides_by():
    graph = capture(randomized(pyramid()), (1, 3, 32, 32))
    offered = list(changes(Draft(graph), {}))
    assert [change.words for change in offered] == [
        f"32 x 32 to {size} x {size} pixels" for size in (28, 24, 20, 16)
    ]
    assert sorted(change.damage for change in offered) == [change.damage for change in offered]
    after = offered[1].apply(Draft(graph)).graph
    assert next(iter(after.inputs.values())).shape == (1, 3, 24, 24)


def test_weights_are_fitted_to_what_the_original_gives_of_larger_images():
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 16, 3, stride=2), nn.BatchNorm2d(16),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    images = F.avg_pool2d(torch.randn(160, 3, 40, 40), 9, 1)  # of 32 pixels, and smooth
    for _ in range(50):
        net(images)
    graph = capture(net.eval(), (1, 3, 32, 32))
    draft = Draft(resize(graph, 24, 24))
    fitted = reconstruct(draft, graph, images[:128]).graph
    wanted = run_graph(graph, images[128:])
    before, after = (
        float((run_graph(each, images[128:]) - wanted).square().mean())
        for each in (draft.graph, fitted)
    )
    assert after < before / 2
    for layer in ("0.weight", "3.weight"):
        weights = (each.constants[layer].data for each in (draft.graph, fitted))
        assert not np.array_equal(*weights), layer
