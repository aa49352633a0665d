"""Libraries on several threads: the same bits, with their own pool or with the host's."""

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from other_constants import PLACE, changed
from precisions import BEST, Case, in_precision
from test_networks import beginning
from torch import nn
from torchvision.ops import DeformConv2d

import depthwise as dw
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.constants import constants_of
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.loops import copy_loops
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.threads import BufferArea, Divider, Share, conflict, cut, divide
from depthwise.graph import Graph, capture, export
from depthwise.runtime.library import Code, Library, align_copy, aligned_bytes
from depthwise.runtime.target import Target, find_target, thread_flags
from depthwise.toolchain.build import compile_c

NATIVE = find_target("native")


class Deformed(nn.Module):
    """A deformable convolution of stride 2, with masks."""

    def __init__(self):
        super().__init__()
        self.conv = DeformConv2d(16, 24, 3, stride=2, padding=1)
        self.offsets = nn.Conv2d(3, 18, 3, 2, 1)
        self.masks = nn.Conv2d(3, 9, 3, 2, 1)
        self.first = nn.Conv2d(3, 16, 1)

    def forward(self, x):
        return self.conv(self.first(x), 9 * self.offsets(x), self.masks(x))


NETS = {
    "deformed": Deformed,
    "mobilenet_v3_small": lambda: beginning("mobilenet_v3_small", 5, 40),
    "ghostnet": lambda: beginning("ghostnet", 4, 40),
    "googlenet": lambda: dw.create_model("googlenet", num_classes=10),
    "grouped and transposed": lambda: nn.Sequential(
        nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.MaxPool2d(2), nn.Conv2d(32, 10, 3),
    ),
}  # fmt: skip


SOON = ("deformed", "grouped and transposed")  # compiled
SLOW = pytest.mark.slow


def graph_of(net: nn.Module) -> Graph:
    return rewrite(capture(export(net.eval(), [(1, 3, 96, 80)])))


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    torch.manual_seed(0)
    return {name: graph_of(make()) for name, make in NETS.items()}


def run(plan: Plan, x: np.ndarray, times: int = 1) -> list[np.ndarray]:
    code = Code(compile_c(emit(plan), plan.target, extra=thread_flags(plan.threads)))
    (output,) = plan.graph.outputs
    shape = plan.graph.type(output.value).shape
    arena, weights = aligned_bytes(code.arena_bytes), align_copy(plan.weights)
    results = []
    for _ in range(times):
        arena[:] = 0xFF  # not a number, wherever it is read before it is written
        results.append(np.empty(shape, np.float32))
        code.run(weights, [x], [results[-1]], arena)
    return results


def check_threads(graph: Graph, threads: int, times: int = 20, target: Target = NATIVE) -> None:
    """Hold what threads compute, run after run, to what one computes."""
    x = np.random.default_rng(0).standard_normal((1, 3, 96, 80), np.float32)
    alone, shared = (make_plan(graph, target, threads=n) for n in (1, threads))
    assert max(map(len, shared.regions)) > min(threads // 2, 3)  # of 3, 2 may be as fast; of 16, 4
    (expected,) = run(alone, x)
    for found in run(shared, x, times):
        np.testing.assert_array_equal(found, expected)


@pytest.fixture
def _divided(monkeypatch):
    """Divide what is small as well."""
    monkeypatch.setattr(PLACE, changed(meeting=1.0))


@pytest.mark.usefixtures("_divided")
@pytest.mark.parametrize(
    ("name", "threads"),
    [
        *((name, 2) for name in NETS),
        *((name, 3) if name in SOON else pytest.param(name, 3, marks=SLOW) for name in NETS),
    ],
)
def test_threads_compute_the_same_bits(name: str, threads: int, graphs):
    check_threads(graphs[name], threads)


@pytest.mark.usefixtures("_divided")
@pytest.mark.parametrize("case", BEST, ids=str)
@pytest.mark.parametrize(
    "name", ["grouped and transposed", pytest.param("mobilenet_v3_small", marks=SLOW)]
)
def test_threads_compute_the_same_bits_in_reduced_precisions(name: str, case: Case):
    torch.manual_seed(0)
    graph = in_precision(NETS[name]().eval(), [(1, 3, 96, 80)], case.here()).rewritten
    check_threads(graph, 3, times=5, target=case.target)


@pytest.mark.usefixtures("_divided")
@pytest.mark.parametrize(
    ("name", "threads"),
    [
        ("mobilenet_v3_small", 4),
        ("grouped and transposed", 8),
        pytest.param("ghostnet", 16, marks=SLOW),
    ],
)
def test_more_threads_than_cores_compute_the_same_bits(name: str, threads: int, graphs):
    check_threads(graphs[name], threads, times=3)


@pytest.mark.slow
@pytest.mark.usefixtures("_divided")
@pytest.mark.parametrize(
    "name", ["resnet14_cifar", "resnet20_cifar", "mobilenet_v3_small", "ghostnet"]
)
@pytest.mark.parametrize("threads", [4, 8, 16])
def test_more_threads_than_cores_compute_whole_networks(name: str, threads: int):
    check_threads(graph_of(dw.create_model(name)), threads, times=3)


BATCHES = {"8 images": 8, "12 images": 12}


def batch_of(images: int) -> Graph:
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Conv2d(32, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    ).eval()  # fmt: skip
    return rewrite(capture(net, (images, 3, 32, 32)))


@pytest.mark.parametrize("name", [*NETS, *BATCHES, "one layer"])
def test_more_threads_are_not_slower_by_the_estimate(name: str, graphs):
    if name == "one layer":
        graph = rewrite(capture(nn.Conv2d(32, 64, 1).eval(), (1, 32, 7, 7)))
    else:
        graph = batch_of(BATCHES[name]) if name in BATCHES else graphs[name]
    plans = [make_plan(graph, NATIVE, threads=threads) for threads in (1, 2, 4, 8, 16)]
    times = [plan.nanoseconds for plan in plans]
    assert times == sorted(times, reverse=True)
    if name in BATCHES:
        assert times[-1] < times[0] / 3  # 16 threads on each image in turn take 0.7 of one's time


@pytest.mark.slow
@pytest.mark.usefixtures("_divided")
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "ghostnet"])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_compute_the_same_bits_of_whole_networks(name: str, threads: int):
    check_threads(graph_of(dw.create_model(name)), threads)


CALLS = ("net_task", "net_parallel_for")
PARALLEL = ctypes.CFUNCTYPE(None, *([ctypes.c_void_p] * 3), ctypes.c_int)
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)


def test_the_host_brings_its_own_parallel_for(graphs):
    x = np.random.default_rng(0).standard_normal((1, 3, 96, 80), np.float32)
    plan = make_plan(graphs["ghostnet"], NATIVE, threads=2)
    (expected,) = run(plan, x)
    library = ctypes.CDLL(str(compile_c(emit(plan), plan.target, extra=thread_flags(2))))
    calls = []

    @PARALLEL
    def backwards(context, task, network, parts):
        calls.append((context, parts))
        for part in reversed(range(parts)):
            TASK(task)(network, part)

    arena, weights = aligned_bytes(plan.arena.bytes), align_copy(plan.weights)
    y = np.empty_like(expected)
    pointers = (ctypes.c_void_p(a.ctypes.data) for a in (weights, x, y, arena))
    assert library.net_run_parallel(*pointers, backwards, ctypes.c_void_p(7)) == 0
    np.testing.assert_array_equal(y, expected)
    assert set(calls) == {(7, 2)}


@pytest.fixture(scope="module")
def two_threads() -> Library:
    torch.manual_seed(0)
    return dw.compile(NETS["mobilenet_v3_small"]().eval(), (1, 3, 96, 80), threads=2)


def test_callers_may_share_a_library_with_threads(two_threads):
    x = np.random.default_rng(0).standard_normal((1, 3, 96, 80), np.float32)
    expected = two_threads(x)
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: two_threads(x), range(200)):
            np.testing.assert_array_equal(y, expected)


def test_idle_threads_burn_nothing(two_threads):
    two_threads(np.zeros((1, 3, 96, 80), np.float32))
    time.sleep(0.05)  # longer than they spin
    start = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - start < 0.1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_has_threads_of_its_own(two_threads):
    x = np.ones((1, 3, 96, 80), np.float32)
    expected = two_threads(x)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(two_threads(x), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_saved_library_keeps_its_threads(two_threads, tmp_path):
    two_threads.save(tmp_path / "net")
    opened = dw.load(tmp_path / "net")
    assert opened.manifest.build.threads == 2
    assert "net_pool_start" in (tmp_path / "net" / "net.h").read_text()
    x = np.ones((1, 3, 96, 80), np.float32)
    np.testing.assert_array_equal(opened(x), two_threads(x))


# ------------------------------------------------------------------------------------- the division


def box(rows: tuple[int, int], channels: tuple[int, int]) -> BufferArea:
    return BufferArea(1, rows, channels, 10)


def test_boxes_overlap_in_rows_and_channels():
    assert box((0, 4), (0, 8)).overlap(box((3, 9), (6, 20))) == 1 * 2 * 10
    assert box((0, 4), (0, 8)).overlap(box((4, 9), (0, 8))) == 0
    assert box((0, 4), (0, 8)).overlap(box((0, 4), (8, 9))) == 0


def half(writes: BufferArea, reads: BufferArea | None = None) -> Share:
    view = TensorView(1, 0, (1,), (1,))
    step = KernelCall("f32_copy", {**copy_loops((1,), (1,), (1,)), "x": view, "y": view}, "", "")
    return Share((step,), (reads,) if reads else (), (writes,), 5000.0)


def test_threads_meet_only_where_one_needs_what_another_wrote():
    def output(channels: tuple[int, int]) -> BufferArea:
        return BufferArea(2, (0, 8), channels, 10)

    top, bottom = box((0, 4), (0, 16)), box((4, 8), (0, 16))
    left, right = box((0, 8), (0, 8)), box((0, 8), (8, 16))
    by_rows = (half(output((0, 8)), top), half(output((8, 16)), bottom))
    by_channels = (half(output((0, 8)), left), half(output((8, 16)), right))
    assert not conflict((half(top), half(bottom)), by_rows)
    assert conflict((half(top), half(bottom)), by_channels)
    assert not conflict((half(left), half(right)), by_channels)
    first = [(half(top), half(bottom))]
    for ways, regions in (([by_rows, by_channels], 1), ([by_channels], 2)):
        assert len(divide([first, ways], 2, constants_of(NATIVE)).regions) == regions


def test_a_split_is_cut_at_whole_grains(graphs):
    plan = make_plan(graphs["mobilenet_v3_small"], NATIVE)
    splits = [split for step in plan.steps for split in step.splits]
    assert splits
    for split in splits:
        edges = cut(split, 3)
        assert edges[0][0] == 0
        assert edges[-1][1] == split.length
        assert all(start % split.grain == 0 and start < stop for start, stop in edges)


def test_small_steps_are_done_by_one_thread(graphs):
    plan = make_plan(graphs["mobilenet_v3_small"], NATIVE)
    divider = Divider(plan.buffers, 2, constants_of(NATIVE))
    pooled = [step for step in plan.steps if step.kernel == "f32_avg_pool"]
    assert min(len(list(divider.options(step))) for step in pooled) == 1


def ways_of(layer: nn.Module, shape: tuple[int, ...], threads: int) -> list[tuple[Share, ...]]:
    """Return the ways to do the convolution of a layer."""
    plan = make_plan(rewrite(capture(export(layer.eval(), [shape]))), NATIVE)
    (step,) = (step for step in plan.steps if step.layer)
    return list(Divider(plan.buffers, threads, constants_of(NATIVE)).options(step))


def test_rows_and_channels_are_divided_where_either_is_too_few():
    ways = ways_of(nn.Conv2d(960, 160, 1), (1, 960, 7, 7), 16)
    most = max(ways, key=len)
    assert 8 < len(most) <= 16
    cells = {
        (row, channel)
        for share in most
        for box in share.writes
        for row in range(*box.rows)
        for channel in range(*box.channels)
    }
    sizes = [
        (box.rows[1] - box.rows[0]) * (box.channels[1] - box.channels[0])
        for share in most
        for box in share.writes
    ]
    assert len(cells) == sum(sizes) == 7 * 160  # all of it, and nothing twice


def test_threads_do_not_all_read_weights_that_are_many():
    ways = ways_of(nn.Conv2d(960, 320, 1), (1, 960, 7, 7), 2)
    (best,) = divide([ways], 2, constants_of(NATIVE)).regions
    outs = [view.shape[1] for (step,) in best for view in step.written]
    assert outs == [160, 160]  # not 4 and 3 rows of all


def test_a_step_that_does_not_gain_by_all_threads_is_done_by_fewer():
    ways = ways_of(nn.Conv2d(32, 64, 1), (1, 32, 7, 7), 16)
    assert {len(way) for way in ways} >= {1, 2, 4}
    (best,) = divide([ways], 16, constants_of(NATIVE)).regions
    assert len(best) < 16


class Kept(nn.Module):
    """What is written first is read once more at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.inside = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 8, 1))
        self.last = nn.Conv2d(24, 4, 1)

    def forward(self, x):
        x = self.first(x)
        return self.last(torch.cat([self.inside(x), torch.sigmoid(x)], 1))


def test_what_a_chain_writes_on_the_way_is_known():
    whole = make_plan(rewrite(capture(export(Kept().eval(), [(1, 3, 16, 16)]))), NATIVE).whole
    first, *_, last = (
        i for i, step in enumerate(whole.steps) if step.path.startswith(("first", "inside"))
    )
    chain = whole.chain(first, last)
    assert chain
    kept = chain.steps[0].views[-1].buffer
    assert kept not in chain.inner
    (share,) = Divider(whole.buffers, 2, constants_of(NATIVE)).chain(chain, (chain.steps,))
    assert {box.buffer for box in share.writes} >= {kept, chain.steps[-1].views[-1].buffer}
