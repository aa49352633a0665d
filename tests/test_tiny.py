"""The whole road on a tiny network: describe, count, lint, graph, interpret, compile to C."""

import numpy as np
import torch
from torch import nn

import depthwise as dw
from depthwise.graph import capture, interpret
from depthwise.layers import InvertedResidual, conv_norm_act


def test_tiny():
    net = nn.Sequential(
        conv_norm_act(3, 8, 3, 2), InvertedResidual(8, 16, 8), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 5),
    ).eval()  # fmt: skip
    shape = (1, 3, 16, 16)
    cost = dw.cost(net, shape)
    assert cost.macs == 27 * 8 * 64 + (8 * 16 + 9 * 16 + 16 * 8) * 64 + 40
    assert [finding.rule for finding in dw.lint(net, shape)] == ["receptive-field"]
    x = torch.randn(shape)
    graph = capture(net, shape)
    found = interpret(graph, x.numpy())[graph.outputs[0].value]
    with torch.no_grad():
        expected = net(x).numpy()
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.allclose(dw.compile(net, shape)(x.numpy()), expected, rtol=1e-5, atol=1e-6)
