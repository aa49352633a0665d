"""Batches: images in groups through the layers, divided among threads; the bits are the same."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from other_constants import PLACE, changed
from test_networks import beginning
from test_threads import run
from torch import nn

import depthwise as dw
from depthwise.compiler.constants import constants_of
from depthwise.compiler.lowering.batches import images_at_once
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.batches import BatchRun, find_batches
from depthwise.compiler.schedule.steps import Steps
from depthwise.compiler.verification import verify
from depthwise.compiler.verification.difference import Difference
from depthwise.compiler.verification.oracle import check_plan
from depthwise.errors import PlanFault
from depthwise.graph import Graph, capture, export
from depthwise.hardware.known_cores import CORES
from depthwise.runtime.target import find_target

NATIVE, V4 = find_target("native"), find_target("x86-64-v4")
KIB = 1024


class Mixed(nn.Module):
    """Layers before and after one that looks at all images, by whose means it divides."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x):
        x = self.first(x)
        return self.last(x - x.mean(0, keepdim=True))


class WithConstant(nn.Module):
    """Beside each image stands another constant."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("beside", torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 2, 48, 40))

    def forward(self, x):
        return torch.cat((self.beside, self.conv(x)), 1)


NETS = {
    "constant": WithConstant,
    "mobilenet_v3_small": lambda: beginning("mobilenet_v3_small", 5, 40),
    "ghostnet": lambda: beginning("ghostnet", 4, 40),
    "mixed": Mixed,
    "streamed": lambda: nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 8, 1), nn.Conv2d(8, 32, 1), nn.Conv2d(32, 32, 3, 2, 1, groups=32),
    ),
    "winograd": lambda: nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1),
        nn.Flatten(2), nn.AdaptiveAvgPool1d(8),
    ),
}  # fmt: skip


def graph_of(net: nn.Module, images: int) -> Graph:
    return rewrite(capture(export(net.eval(), [(images, 3, 48, 40)])))


@pytest.fixture
def small_cache(monkeypatch):
    """Let layers differ in how many images they take at once, and stream what is small."""
    monkeypatch.setattr(PLACE, changed(windows=48 * KIB, cold=32 * KIB, together=48 * KIB))


def whole(steps: Steps, _):
    yield range(len(steps.steps))


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize(
    ("name", "images", "threads"),
    [
        ("constant", 5, 1), ("mobilenet_v3_small", 7, 2), ("mixed", 7, 2),
        pytest.param("ghostnet", 5, 1, marks=pytest.mark.slow),
        ("winograd", 5, 1), ("winograd", 2, 3), ("streamed", 5, 2),
    ],
)  # fmt: skip
def test_batches_compute_the_same_bits_as_all_images_at_once(name, images, threads, monkeypatch):
    torch.manual_seed(0)
    graph = graph_of(NETS[name](), images)
    x = np.random.default_rng(0).standard_normal((images, 3, 48, 40), np.float32)
    plan = make_plan(graph, NATIVE, threads=threads)
    assert any(step.origin for step in plan.steps)
    assert name != "streamed" or any(step.comment == "kept rows" for step in plan.steps)
    check_plan(plan, [x])
    with monkeypatch.context() as patched:
        patched.setattr("depthwise.compiler.schedule.regions.find_batches", whole)
        (expected,) = run(make_plan(graph, NATIVE), x)
    for found in run(plan, x, times=5):
        np.testing.assert_array_equal(found, expected)


def batch_of(net: nn.Module, images: int) -> BatchRun:
    (batch,) = find_batches(make_plan(graph_of(net, images), NATIVE).whole, constants_of(NATIVE))
    assert isinstance(batch, BatchRun)
    return batch


def order(batch: BatchRun, images: int, at_once: Sequence[int]) -> list[tuple[int, int, int]]:
    turns = batch.turns(range(images), at_once)
    return [(turn.step, turn.images.start, len(turn.images)) for turn in turns]


def test_images_go_through_late_layers_together_after_each_through_early_ones():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.MaxPool2d(2))
    batch = batch_of(net, 5)
    kernels = ["f32_copy", "f32_conv", "f32_conv", "f32_max_pool", "f32_copy"]
    assert [step.kernel for step in batch.steps] == kernels
    assert order(batch, 5, [1, 1, 2, 4, 4]) == [
        *[(0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1), (2, 0, 2)],
        *[(0, 2, 1), (1, 2, 1), (0, 3, 1), (1, 3, 1), (2, 2, 2), (3, 0, 4), (4, 0, 4)],
        *[(0, 4, 1), (1, 4, 1), (2, 4, 1), (3, 4, 1), (4, 4, 1)],
    ]


@pytest.mark.parametrize(
    ("floats", "expected"),
    [
        ((8, 3 * 224 * 224, 32 * 112 * 112, 864), 1),  # one image alone is too large
        ((8, 1280, 1000, 1_280_000), 8),
        ((4, 1280, 1000, 1_280_000), 4),
        ((1, 1280, 1000, 1_280_000), 1),
        ((8, 49 * 960, 49 * 160, 153_600), 2),  # 216 KiB an image
        ((8, 49 * 160, 49 * 960, 153_600), 2),
        ((8, 49 * 320, 49 * 320, 1_640_000), 8),  # outputs leave: 8 * 61 KiB of inputs stay
        ((8, 14 * 14 * 96, 14 * 14 * 576, 55_296), 1),  # few weights: outputs are not to leave
    ],
)
def test_as_many_images_at_once_as_move_the_fewest_bytes(floats, expected):
    *images, weights = floats
    assert images_at_once(*images, constants_of(V4, CORES["zen5"]), weights) == expected


@pytest.mark.parametrize(
    ("floats", "pixels", "expected"),
    [
        ((8, 1280, 1000, 1_280_000), 1, 8),  # which come while 25 pixels of each are computed
        ((8, 4 * 960, 4 * 160, 153_600), 4, 8),
        ((8, 9 * 960, 9 * 160, 153_600), 9, 4),
        ((8, 49 * 160, 49 * 320, 51_200), 49, 1),  # all come meanwhile: images need not wait
        ((8, 49 * 160, 49 * 320, 51_200), 0, 8),  # of a layer that is not known to hide them
        ((8, 49 * 160, 49 * 160, 0), 0, 1),  # no weights
    ],
)
def test_images_wait_for_weights_alone_that_computing_does_not_hide(floats, pixels, expected):
    *images, weights = floats
    xeon = constants_of(V4, CORES["sapphirerapids"])
    assert images_at_once(*images, xeon, weights, pixels) == expected


def test_memory_does_not_grow_with_the_images():
    net = beginning("mobilenet_v3_small", 5, 40)
    one, two, many = (make_plan(graph_of(net, n), NATIVE).arena.bytes for n in (1, 8, 32))
    assert two == many < 8 * one


def test_threads_meet_once_at_the_end_of_a_batch():
    plan = make_plan(graph_of(beginning("mobilenet_v3_small", 5, 40), 8), NATIVE, threads=4)
    assert [len(region) for region in plan.regions] == [4]


def test_the_oracle_sees_images_in_the_wrong_place(monkeypatch):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.MaxPool2d(2))
    right = BatchRun._moved

    def wrong(self, view, start, places):
        return right(self, view, start - (start > 1 and view.buffer in places), places)

    monkeypatch.setattr(BatchRun, "_moved", wrong)
    plan = make_plan(graph_of(net, 12), NATIVE)  # 8, then 4
    with pytest.raises(PlanFault):
        check_plan(plan)


def test_a_library_of_a_batch_is_verified_and_gives_what_the_network_gives(monkeypatch):
    begun = []
    monkeypatch.setattr(
        verify, "Difference", lambda whole: begun.append(whole) or Difference(whole)
    )
    torch.manual_seed(0)
    net = NETS["winograd"]().eval()
    library = dw.compile(net, (3, 3, 48, 40), threads=2)
    verified = library.manifest.verification
    # each value's scale is found once for each input, however many pieces its images come in
    assert len(begun) == verified.inputs * len(verified.layers)
    x = torch.randn(3, 3, 48, 40)
    with torch.no_grad():
        torch.testing.assert_close(library(x), net(x), rtol=1e-4, atol=1e-5)
