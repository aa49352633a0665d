"""What fits leave behind: channels that vary, statistics that are true, no weights that cancel."""

import numpy as np
import torch
from torch import nn

from depthwise.calibration.least_squares import Moments, fitted
from depthwise.graph import Graph, capture, ops
from depthwise.graph.exporters.torch import to_module
from depthwise.slimming.channels.widths import narrow
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.reconstruction import reconstruct


def normalised() -> tuple[Graph, torch.Tensor]:
    """Return a network whose BatchNorms remember the images, and the images."""
    torch.manual_seed(0)
    images = torch.randn(48, 3, 8, 8)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip
    for _ in range(100):
        net(images)
    return capture(net.eval(), (1, 3, 8, 8)), images


def test_rounds_leave_statistics_that_are_those_of_the_values():
    """So that training, which takes those of its batches, begins with the network that was found.

    Each round may add nothing of what the rounds before it have moved.
    """
    graph, images = normalised()
    draft = Draft(graph)
    for alpha in (0.75, 0.67, 0.5):
        draft = reconstruct(narrow(draft, alpha), graph, images)
    net = to_module(draft.graph)
    with torch.no_grad():
        told, seen = net.eval()(images), net.train()(images)
    assert float((told - seen).abs().max()) < 0.02 * float(told.std())


def test_channels_that_are_predicted_badly_vary_as_in_the_original():
    graph, images = normalised()
    found = reconstruct(narrow(Draft(graph), 0.25), graph, images).graph
    last = [node for node in found if isinstance(node.op, ops.BatchNorm)][-1]
    scale = found.constants[last.inputs[1]].numbers
    assert scale is not None
    # 1 in the original; least squares alone give 0.6 to 0.8
    np.testing.assert_allclose(abs(scale), 1, atol=0.02)


def test_a_stronger_ridge_is_taken_where_it_does_as_well():
    generator = torch.Generator().manual_seed(0)

    def moments(count: int) -> Moments:
        one = torch.randn(count, 1, generator=generator)
        # two inputs that hardly differ: what tells them apart is noise
        x = torch.cat([one, one + 1e-3 * torch.randn(count, 1, generator=generator)], 1)
        noise = 0.3 * torch.randn(count, 1, generator=generator)
        return Moments.of(x[:, None], one + noise)

    change, _ = fitted(moments(400), moments(100))
    assert float(abs(change).max()) < 2
