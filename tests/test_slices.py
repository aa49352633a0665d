"""Slices of channels: the same numbers, bit by bit, without the image between two convolutions."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from other_constants import PLACE, changed
from test_stream import graph_of, run
from torch import nn

from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.partition import partition
from depthwise.compiler.show_plan import show_plan
from depthwise.compiler.verification.oracle import check_plan
from depthwise.errors import PlanFault
from depthwise.graph import Graph
from depthwise.hardware.known_cores import CORES
from depthwise.layers import SqueezeExcite
from depthwise.runtime.target import find_target

NATIVE, WIDE = find_target("native"), find_target("x86-64-v4")
SLICES = {"sliced": 0, "cold": 2**30}  # and no bands of rows


class Block(nn.Module):
    """Expand, depthwise, gate, project and add; channels are no multiple of a slice's."""

    def __init__(self, kernel: int, stride: int, channels: int):
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, 2, 1)
        self.inside = nn.Sequential(
            nn.Conv2d(24, channels, 1), nn.Hardswish(),
            nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels), nn.ReLU(),
            SqueezeExcite(channels, 8), nn.Conv2d(channels, 24, 1),
        )  # fmt: skip
        self.stride = stride

    def forward(self, x):
        x = self.first(x)
        return x[:, :, :: self.stride, :: self.stride] + self.inside(x)


CASES = {  # kernel, stride, channels; threads
    "3x3": ((3, 1, 72), 1),
    "5x5 stride 2, two threads": ((5, 2, 100), 2),
    "no border": ((1, 1, 70), 1),
}


def plans(graph: Graph, monkeypatch: pytest.MonkeyPatch, threads: int = 1) -> tuple[Plan, Plan]:
    """Return the plan with slices, on several threads, too, and the one without."""
    constants = changed(**SLICES, meeting=1.0)
    monkeypatch.setattr(PLACE, constants)
    groups = partial(partition, optimize="speed", constants=constants(NATIVE))
    sliced = make_plan(graph, NATIVE, threads=threads, groups=groups)
    monkeypatch.setattr(PLACE, changed(cold=2**30, meeting=1.0))
    return sliced, make_plan(graph, NATIVE, threads=threads)


def slices(plan: Plan) -> list[int]:
    """Return the channels of each depthwise convolution that is done in slices."""
    return [
        step.written[-1].shape[1]
        for step in plan.steps
        if step.kernel == "f32_depthwise" and step.origin
    ]


@pytest.mark.parametrize(("shape", "threads"), CASES.values(), ids=CASES)
def test_slices_give_the_same_bits(shape, threads, monkeypatch):
    torch.manual_seed(0)
    graph = graph_of(Block(*shape), 1, 3, 28, 20)
    sliced, whole = plans(graph, monkeypatch, threads)
    assert sum(slices(sliced)) == shape[2]
    assert len(slices(sliced)) > 1
    x = np.random.default_rng(0).standard_normal((1, 3, 28, 20), np.float32)
    np.testing.assert_array_equal(run(sliced, x), run(whole, x))
    check_plan(sliced, [x])


def test_several_threads_slice_nothing_on_their_own(monkeypatch):
    graph = graph_of(Block(3, 1, 72), 1, 3, 28, 20)
    monkeypatch.setattr(PLACE, changed(**SLICES))
    for threads in (1, 2):
        plan = make_plan(graph, NATIVE, threads=threads)
        assert any(group.channels for group in plan.groups) == (threads == 1)


def test_an_image_that_all_threads_share_of_a_batch_is_sliced(monkeypatch):
    torch.manual_seed(0)
    graph = graph_of(Block(3, 1, 72), 3, 3, 28, 20)
    sliced, _ = plans(graph, monkeypatch, 2)
    assert slices(sliced) == [72, 72, 40, 32]  # the first two have a thread each
    check_plan(sliced, [np.random.default_rng(0).standard_normal((3, 3, 28, 20), np.float32)])


def test_the_image_between_takes_no_memory(monkeypatch):
    sliced, whole = plans(graph_of(Block(3, 1, 256), 1, 3, 28, 28), monkeypatch)
    image, window = (4 * 16 * 16 * channels for channels in (272, 32))  # 256 lie 272 apart
    assert whole.arena.bytes - sliced.arena.bytes == image - window
    text = show_plan(sliced)
    assert "inside.0 to inside.2 in slices of 32 channels" in text


class ReadTwice(nn.Module):
    """What lies between the convolutions is read again: by the second, or by a third."""

    def __init__(self, by_another: bool):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.third = nn.Conv2d(64, 64, 1) if by_another else nn.Identity()

    def forward(self, x):
        x = self.first(x)
        return self.second(x) + self.third(x)


def test_an_image_is_sliced_where_no_other_reads_it(monkeypatch):
    torch.manual_seed(0)
    alone, shared = (
        plans(graph_of(ReadTwice(again), 1, 3, 16, 16), monkeypatch)[0] for again in (False, True)
    )
    assert (slices(alone), slices(shared)) == ([32, 32], [])
    check_plan(alone, [np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32)])


def test_images_are_sliced_where_the_third_cache_is_slow_and_the_first_too_small():
    large, small = (graph_of(Block(3, 1, 256), 1, 3, side, side) for side in (28, 8))
    cores = [CORES[name] for name in ("sapphirerapids", "zen5")]
    found = {
        (graph is large, core.name): sum(slices(make_plan(graph, WIDE, core=core)))
        for graph in (large, small) for core in cores
    }  # fmt: skip
    assert found == {
        (True, "sapphirerapids"): 256, (True, "zen5"): 0,
        (False, "sapphirerapids"): 0, (False, "zen5"): 0,
    }  # fmt: skip


def test_the_oracle_finds_a_slice_that_is_wrong(monkeypatch):
    """The second slice of the first convolution is done with the weights of the first."""
    torch.manual_seed(0)
    sliced, _ = plans(graph_of(Block(3, 1, 72), 1, 3, 28, 20), monkeypatch)
    (at,) = (at for at, (steps,) in enumerate(sliced.regions) if len(steps) > 1)
    first, depthwise, second, *others = sliced.regions[at][0]
    second = second.with_arguments(w=first.arguments["w"])
    broken = ((first, depthwise, second, *others),)
    regions = (*sliced.regions[:at], broken, *sliced.regions[at + 1 :])
    x = np.random.default_rng(0).standard_normal((1, 3, 28, 20), np.float32)
    with pytest.raises(PlanFault, match=r"other numbers than the network in channels \d+ to 71"):
        check_plan(replace(sliced, regions=regions), [x])
