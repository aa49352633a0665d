"""Training on unlabelled images against the original."""

from dataclasses import replace
from itertools import chain, count, repeat
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from depthwise.graph import Graph, capture, interpret
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.mimic import Answers, mimic

SHAPE = (1, 3, 8, 8)
IMAGES = np.random.default_rng(0).standard_normal((32, *SHAPE[1:])).astype(np.float32)


@pytest.fixture(scope="module")
def original() -> Graph:
    torch.manual_seed(0)
    return capture(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(8, 4),
        ),
        SHAPE,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def ticking(monkeypatch):
    """A clock by which every look takes 5 ms, so that a busy machine makes no fewer steps."""
    looks = count()
    clock = SimpleNamespace(perf_counter=lambda: 0.005 * next(looks))
    monkeypatch.setattr("depthwise.slimming.fitting.mimic.time", clock)


def spoiled(graph: Graph) -> Draft:
    draws, constants = np.random.default_rng(1), dict(graph.constants)
    for name, known in graph.constants.items():
        if name.endswith("weight"):
            data = known.data + draws.normal(0, 0.5, known.data.shape).astype(np.float32)
            constants[name] = replace(known, data=data)
    return Draft(replace(graph, constants=constants))


def scores(graph: Graph) -> torch.Tensor:
    found = [interpret(graph, image[None])["linear"] for image in IMAGES[7::8]]
    return torch.as_tensor(np.concatenate(found)).log_softmax(1)


def distance(graph: Graph, original: Graph) -> float:
    wanted = scores(original)
    return float((wanted.exp() * (wanted - scores(graph))).sum(1).mean())


def test_a_spoiled_network_learns_from_the_original(original):
    draft = spoiled(original)
    found = mimic(draft, original, IMAGES, seconds=1.0)
    assert found.before == pytest.approx(distance(draft.graph, original), rel=1e-3)
    assert found.after == pytest.approx(distance(found.draft.graph, original), rel=1e-3)
    assert found.after < found.before / 2
    assert found.held_out == 4
    assert found.seen >= 28
    assert str(found).endswith(f"4 held-out images, {found.seen:,} seen")
    running = "1.running_var"  # what statistics are is not for a few images to say
    assert found.draft.graph.constants[running].data == pytest.approx(np.ones(8))


def test_what_is_no_better_is_not_taken(original):
    draft = Draft(original)
    found = mimic(draft, original, IMAGES, seconds=0.2)
    assert found.draft is draft
    assert "no better, so it stays as it was" in str(found)


def test_it_ends_when_it_is_told_to(original):
    told = chain([False, False], repeat(True))
    found = mimic(spoiled(original), original, IMAGES, seconds=60, stops=lambda: next(told))
    assert found.seen == 2 * 28


def test_features_are_compared_in_the_channels_that_are_left(original):
    """Where the features before the classifier lost channels, the others are to be alike."""
    kept = np.array([1, 4, 5])
    draft = _narrow(original, kept)
    found = mimic(draft, original, IMAGES, seconds=0.5)
    assert found.after < found.before
    given = Answers(torch.ones(2, 3), torch.zeros(2, 4))
    assert given.loss(Answers(torch.zeros(2, 3), torch.zeros(2, 4))) == pytest.approx(1.0)
    none = Answers(torch.ones(2, 0), torch.zeros(2, 4))
    assert none.loss(Answers(torch.ones(2, 0), torch.zeros(2, 4))) == pytest.approx(0.0)


def _narrow(graph: Graph, kept: np.ndarray) -> Draft:
    constants = dict(graph.constants)
    for name, known in graph.constants.items():
        axis = 1 if name == "5.weight" else 0
        if name != "5.bias":
            data = np.ascontiguousarray(known.data.take(kept, axis))
            constants[name] = replace(known, data=data, type=replace(known.type, shape=data.shape))
    nodes = tuple(
        node if node.name == "linear"
        else replace(node, type=replace(node.type, shape=(1, len(kept), *node.type.shape[2:])))
        for node in graph
    )  # fmt: skip
    narrow = {node.name: kept for node in nodes if node.name != "linear"}
    flat = [
        replace(node, op=replace(node.op, shape=node.type.shape))
        if hasattr(node.op, "shape")
        else node
        for node in nodes
    ]
    return Draft(replace(graph, constants=constants, nodes=tuple(flat)), narrow)


def test_few_images_are_refused(original):
    with pytest.raises(ValueError, match="there are 7 images: 8 are needed"):
        mimic(Draft(original), original, IMAGES[:7], seconds=1)
