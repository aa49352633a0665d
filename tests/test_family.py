"""One library for a family of CPUs: every level's code, the choice among them, and who cannot run."""

from functools import cache

import numpy as np
import pytest
import torch
from test_compile import TOLERANCE, draw, settle
from torch import nn

import depthwise as dw
from depthwise.layers import InvertedResidual, conv_norm_act
from depthwise.runtime.library import Library
from depthwise.runtime.target import FAMILIES, host_architecture

(FAMILY,) = FAMILIES
SHAPE = (1, 3, 20, 17)
HERE = [level for level in FAMILY.levels if level.runs_here]
NONE = 5  # NET_CPU

pytestmark = pytest.mark.skipif(
    host_architecture() != "x86_64", reason="NOT TESTED: x86-64 has other machines' code"
)


def make_net() -> nn.Module:
    net = nn.Sequential(
        conv_norm_act(3, 24, 3, 2), InvertedResidual(24, 40, 72), nn.Conv2d(40, 48, 3, padding=1),
        nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 5),
    ).eval()  # fmt: skip
    settle(net)
    return net


@cache
def build(target: str, threads: int = 1) -> Library:
    torch.manual_seed(0)
    return dw.compile(make_net(), SHAPE, target=target, threads=threads)


def at(library: Library, level: int) -> Library:
    return Library(library._artefact, level)


@pytest.mark.parametrize("threads", [1, 2])
def test_each_level_computes_what_its_own_library_does(threads):
    torch.manual_seed(0)
    net, (x,) = make_net(), draw(SHAPE)
    with torch.no_grad():
        expected = net(x).numpy()
    library = build("x86-64", threads)
    assert [level.target for level in library.manifest.levels] == [t.name for t in FAMILY.levels]
    for level, proof in zip(FAMILY.levels, library.manifest.levels, strict=True):
        assert (proof.verification or proof.plan_check) is not None
        if not level.runs_here:
            continue
        assert proof.verification.error <= TOLERANCE
        found = at(library, level.level)(x.numpy())
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
        np.testing.assert_array_equal(found, build(level.name)(x.numpy()))
    chosen = at(library, HERE[0].level)(x.numpy())
    np.testing.assert_array_equal(library(x.numpy()), chosen)
    assert library.manifest.verification == library.manifest.levels[-len(HERE)].verification
