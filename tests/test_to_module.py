"""Graphs as PyTorch modules: equal to the interpreter, at any number of images, and trainable."""

from typing import get_args

import numpy as np
import pytest
import torch
from operator_cases import CASES, LAYERS
from torch.utils._pytree import tree_leaves

from depthwise.graph import capture, interpret, ops
from depthwise.graph.exporters.torch import to_module
from depthwise.graph.exporters.torch.axes_rules import find_axes
from depthwise.graph.exporters.torch.build import function_of

TOLERANCE = 1e-5  # of the largest output
ALL = CASES | LAYERS


def draw(graph, seed=0):
    random = np.random.default_rng(seed)
    return [type_.element.draw(random, type_.shape) for type_ in graph.inputs.values()]


def tensors_for(graph, arrays):
    pairs = zip(graph.inputs.values(), arrays, strict=True)
    return [torch.tensor(x).to(getattr(torch, type_.dtype)) for type_, x in pairs]


@torch.no_grad()
def run(net, *inputs):
    return [y.float() if y.dtype == torch.bfloat16 else y for y in tree_leaves(net(*inputs))]


def assert_equal(found, expected):
    for tensor, wanted in zip(found, expected, strict=True):
        y = tensor.numpy()
        assert (y.shape, y.dtype) == (wanted.shape, wanted.dtype)
        exact = wanted.astype(float)
        assert np.array_equal(np.isnan(y), np.isnan(exact))
        largest = np.abs(np.nan_to_num(exact)).max(initial=0)
        difference = np.abs(np.nan_to_num(y - exact)).max(initial=0)
        assert difference <= TOLERANCE * (largest or 1)


def test_every_operator_has_a_rule():
    every = set(get_args(ops.Op))
    assert every <= set(function_of.registry)
    assert every <= set(find_axes.registry)


@pytest.mark.parametrize("name", ALL)
def test_a_module_computes_what_the_interpreter_does(name):
    net, shapes = ALL[name]
    graph = capture(net.eval(), *shapes)
    arrays = draw(graph)
    values = interpret(graph, *arrays)
    found = run(to_module(graph).eval(), *tensors_for(graph, arrays))
    assert_equal(found, [values[output.value] for output in graph.outputs])
