"""The oracle for plans: right plans pass for every target, and each kind of fault is found."""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest
import torch
from other_constants import PLACE, changed
from torch import nn

import depthwise as dw
from depthwise.compiler import pipeline
from depthwise.compiler.lowering.calls import KernelCall, RowAccess, RowSpan
from depthwise.compiler.lowering.views import Buffer
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.arena import Arena, align
from depthwise.compiler.schedule.threads import Parts
from depthwise.compiler.verification import oracle
from depthwise.compiler.verification.oracle import check_plan
from depthwise.compiler.verification.oracle.executor import Execution, _nearest
from depthwise.compiler.verification.oracle.memory import Region, meet
from depthwise.errors import Mismatch, PlanFault
from depthwise.graph import Graph, capture, export
from depthwise.runtime.manifest import read_saved
from depthwise.runtime.target import find_target

AARCH64 = find_target("aarch64")


def graph_of(net: nn.Module, *shape: int) -> Graph:
    return rewrite(capture(export(net.eval(), [shape])))


def small() -> nn.Module:
    """Two separable blocks: a border, a window for each value between, an addition in place."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 1, 1, groups=24),
        nn.Conv2d(24, 16, 1), nn.Hardswish(), nn.Conv2d(16, 16, 5, 1, 2, groups=16),
    )  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    return graph_of(small(), 1, 3, 32, 24)


# -------------------------------------------------------------------- what is right passes


class Thinned(nn.Module):
    """A convolution that reads every second row of another's output."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x))[:, :, ::2])


class Focus(nn.Module):
    """Pixels gathered 2 x 2 into channels, then a convolution: the stem of YOLOX, and YOLOv5's."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(12, 16, 3, padding=1)

    def forward(self, x):
        corners = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return torch.relu(self.conv(torch.cat(corners, dim=1)))


class Subsampled(nn.Module):
    """A shortcut that takes every second pixel: option A of the ResNets for CIFAR."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.narrow = nn.Conv2d(16, 16, 3, stride=2, padding=1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return torch.relu(self.narrow(x) + x[:, :, ::2, ::2])


class OneRowForAll(nn.Module):
    """A row that is added to every other of the same value."""

    def __init__(self, row: int):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.row = row

    def forward(self, x):
        x = self.first(x)
        return self.last(x + x[:, :, self.row : self.row + 1])


class Turned(nn.Module):
    """Planes that are turned between convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        return self.last(torch.sigmoid(x.transpose(2, 3)) * x)


class ChannelsBeside(nn.Module):
    """LayerNorm over channels, as ConvNeXt has it: channels are turned last, and back."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.block = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.layer = nn.Conv2d(8, 8, 7, padding=3, groups=8)

    def forward(self, x):
        x = self.stem(x)
        y = self.layer(x).permute(0, 2, 3, 1)
        return x + self.block(self.norm(y)).permute(0, 3, 1, 2)


class Folded(nn.Module):
    """Rows folded in pairs, two rows of a buffer for one of the view."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, (3, 1), padding=(1, 0))

    def forward(self, x):
        n, _, h, w = x.shape
        return self.last(torch.relu(self.first(x)).reshape(n, 8, h // 2, 2 * w))


class Cropped(nn.Module):
    """Rows and columns from the middle, joined with others from the edges."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(torch.cat([x[:, :, 5:13, 2:10], x[:, :, ::3, ::3][:, :, :8, :8]], 1))


class Masked(nn.Module):
    """An attention that may not look ahead: infinity in the mask, NaN where a row has nothing."""

    def forward(self, x):
        scores = x[:, 0] @ x[:, 1].transpose(1, 2)
        ahead = torch.triu(torch.full(scores.shape[1:], float("-inf")))
        return torch.softmax(scores + ahead, -1) @ x[:, 2]


NETS: dict[str, Callable[[], nn.Module]] = {
    "focus": Focus,
    "thinned": Thinned,
    "subsampled": Subsampled,
    "first row for all": lambda: OneRowForAll(0),
    "late row for all": lambda: OneRowForAll(13),
    "turned": Turned,
    "channels beside": ChannelsBeside,
    "folded": Folded,
    "cropped": Cropped,
    "masked": Masked,
    "transposed": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3)
    ),
    "more border above than rows": lambda: nn.Sequential(
        nn.AvgPool2d(4), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, 3, 5), nn.ReLU()
    ),
    "phases without a tap": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ConvTranspose2d(8, 8, (2, 1), (3, 2), (2, 1)),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
    ),
}


@pytest.fixture
def everything_is_streamed(monkeypatch):
    """Let small networks be streamed for speed, and divided among threads."""
    monkeypatch.setattr(PLACE, changed(cold=0, windows=6_000, meeting=1.0))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.usefixtures("everything_is_streamed")
def test_views_of_every_kind_are_streamed_right(name: str):
    graph = graph_of(NETS[name](), 1, 3, 32, 32)
    for target in ("x86-64-v4", "wasm32"):
        for optimize in ("speed", "memory"):
            for threads in (1, 3) if target != "wasm32" else (1,):
                check_plan(make_plan(graph, find_target(target), optimize, threads))


def test_where_no_tap_falls_nothing_is_read():
    net = nn.ConvTranspose2d(2, 3, 1, 2, 0, 1)
    sample = np.full((1, 2, 4, 4), np.inf, np.float32)
    check_plan(make_plan(graph_of(net, 1, 2, 4, 4), AARCH64), [sample])


def test_several_images_pass():
    check_plan(make_plan(graph_of(small(), 3, 3, 17, 12), AARCH64, threads=2))


def test_threads_may_come_in_any_order(graph: Graph, everything_is_streamed):  # noqa: ARG001
    plan = make_plan(graph, AARCH64, threads=4)
    inputs = oracle.random_inputs(plan)
    found = []
    for backwards in (False, True):
        run = Execution(plan, inputs, backwards)
        list(run.run())
        found.append([cells.values for cells in run.memory.cells.values()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------ what is wrong is found


def without(plan: Plan, wrong: Callable[[KernelCall], bool]) -> Plan:
    """Return a plan without the first step of a kind."""
    left = list(plan.steps)
    left.remove(next(step for step in left if wrong(step)))
    return replace(plan, regions=tuple(((step,),) for step in left))


def instead(
    plan: Plan, wrong: Callable[[KernelCall], bool], other: Callable[[KernelCall], KernelCall]
) -> Plan:
    """Return a plan with another step for the first of a kind."""
    steps = list(plan.steps)
    at = next(i for i, step in enumerate(steps) if wrong(step))
    steps[at] = other(steps[at])
    return replace(plan, regions=tuple(((step,),) for step in steps))


def moved(step: KernelCall, name: str, floats: int) -> KernelCall:
    """Return a step with one of its places moved."""
    view = step.arguments[name]
    return step.with_arguments(**{name: replace(view, offset=view.offset + floats)})


def old_touch(reach: RowAccess, buffer: Buffer) -> RowSpan:
    """Take a view's row for its buffer's row, as streaming once did."""
    start = reach.view.offset // buffer.frame.row if buffer.frame else 0
    return RowSpan(start + reach.first, start + reach.last, reach.step)


@pytest.mark.parametrize("name", ["focus", "thinned", "channels beside"])
def test_rows_of_views_taken_for_rows_of_buffers(name: str, monkeypatch):
    for module in ("streaming", "steps", "threads"):
        monkeypatch.setattr(f"depthwise.compiler.schedule.{module}.find_row_span", old_touch)
    plan = make_plan(graph_of(NETS[name](), 1, 3, 32, 32), AARCH64, optimize="memory")
    with pytest.raises(Mismatch, match=r"the plan for aarch64 is not .* reads .* of buffer"):
        check_plan(plan)


def test_threads_that_do_not_meet(graph: Graph, monkeypatch, everything_is_streamed):  # noqa: ARG001
    monkeypatch.setattr("depthwise.compiler.schedule.threads.conflict", lambda *_: False)
    with pytest.raises(Mismatch, match="was never written"):  # the last thread comes first
        check_plan(make_plan(graph, AARCH64, threads=2, optimize=None))


def without_sharing(plan: Plan) -> Plan:
    """Return a plan whose buffers share no bytes."""
    sizes = {buffer: align(plan.buffers[buffer].bytes) for buffer in plan.arena.offsets}
    ends = dict(zip(sizes, accumulate(sizes.values()), strict=True))
    offsets = {buffer: ends[buffer] - sizes[buffer] for buffer in sizes}
    return replace(plan, arena=Arena(offsets, sum(sizes.values())))


def test_a_thread_that_reads_what_another_writes(graph: Graph):
    """Whatever their order, and though the numbers are right in one."""
    plan = without_sharing(make_plan(graph, AARCH64, optimize=None))
    at = next(i for i, ((step, *_),) in enumerate(plan.regions) if step.kernel == "f32_depthwise")
    (writer,), (reader,) = plan.regions[at - 1 : at + 1]
    regions = (*plan.regions[: at - 1], (writer, reader), *plan.regions[at + 1 :])
    together = replace(plan, threads=2, regions=regions)
    inputs = oracle.random_inputs(plan)
    with pytest.raises(PlanFault, match=r"reads of buffer .* what another thread is writing"):
        list(Execution(together, inputs).run())
    with pytest.raises(PlanFault, match="was never written"):
        list(Execution(together, inputs, backwards=True).run())


def test_threads_that_write_the_same(graph: Graph):
    plan = make_plan(graph, AARCH64, optimize=None)
    twice: Parts = (plan.regions[2][0], plan.regions[2][0])
    with pytest.raises(Mismatch, match=r"writes into buffer .* where another thread is writing"):
        check_plan(replace(plan, threads=2, regions=(*plan.regions[:2], twice, *plan.regions[3:])))


def test_buffers_that_lie_over_each_other(graph: Graph):
    plan = make_plan(graph, AARCH64, optimize=None)
    step = next(step for step in plan.steps if step.kernel == "f32_depthwise")
    read, written = (step.arguments[name].buffer for name in ("in", "out"))
    offsets = {**plan.arena.offsets, written: plan.arena.offsets[read] + 64}
    arena = Arena(offsets, max(offsets[b] + plan.buffers[b].bytes for b in offsets))
    with pytest.raises(Mismatch, match=r"lie over|was never written"):
        check_plan(replace(plan, arena=arena))


def test_a_buffer_beyond_the_arena(graph: Graph):
    plan = make_plan(graph, AARCH64, optimize=None)
    with pytest.raises(Mismatch, match="does not lie inside the arena"):
        check_plan(replace(plan, arena=replace(plan.arena, bytes=plan.arena.bytes - 64)))


FAULTS = {
    "a border that is not filled": ("speed", "f32_fill_border", None, "was never written"),
    "rows that are not kept": ("memory", "kept rows", None, "reads|other numbers"),
    "a border below that is not filled": ("memory", "border", None, "reads|other numbers"),
    "an output that is not written": ("speed", "output", None, "output .* are never written"),
    "a layer that is left out": ("speed", "f32_depthwise", None, "was never written"),
    "a layer's input a row too low": (
        "speed", "f32_depthwise", lambda s: moved(s, "in", 300),
        "nobody|reads elements|other numbers",
    ),
    "a layer's input a pixel aside": (
        "memory", "f32_depthwise", lambda s: moved(s, "in", 24),
        "nobody|reads elements|other numbers",
    ),
    "another layer's weights": (
        "memory", "f32_depthwise", lambda s: moved(s, "w", 16),
        r"f32_depthwise of '2' .* gives \d+ other numbers than the network in rows 0 to",
    ),
    "a result a row too low": (
        "speed", "f32_depthwise", lambda s: moved(s, "out", 12 * 24),
        "writes elements|other numbers",
    ),
    "a result that lies over what is read": (
        "speed", "f32_depthwise",
        lambda s: s.with_arguments(out=s.arguments["in"]),
        "writes over elements of buffer .* that it reads|writes",
    ),
    "weights that are written into": (
        "speed", "f32_depthwise",
        lambda s: s.with_arguments(out=replace(s.arguments["out"], buffer=0)),
        "writes into weights",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, graph: Graph):
    optimize, kind, other, said = FAULTS[fault]
    plan = make_plan(graph, AARCH64, optimize=optimize)

    def wrong(step: KernelCall) -> bool:
        return kind in (step.kernel, step.comment)

    check_plan(plan)
    with pytest.raises(Mismatch, match=said):
        check_plan(instead(plan, wrong, other) if other else without(plan, wrong))


def test_memory_of_a_buffer_whose_life_is_over(graph: Graph):
    plan = make_plan(graph, AARCH64, optimize=None)
    first = next(step for step in plan.steps if step.kernel == "f32_conv")
    again = replace(first, name="", path="late")
    steps = [step for step in plan.steps if step is not first]
    late: list[KernelCall] = [first, *steps[steps.index(steps[2]) :]]
    regions = tuple(((step,),) for step in (*steps[:2], *late, again))
    with pytest.raises(Mismatch, match=r"reads .* was never written"):
        check_plan(replace(plan, regions=regions))


def test_regions_meet_where_they_share_an_element():
    pixels = Region(0, 0, (4, 8), (24, 1))
    assert not meet(pixels, Region(0, 8, (4, 16), (24, 1)))  # channels beside
    assert meet(pixels, Region(0, 7, (4, 16), (24, 1)))
    assert not meet(pixels, Region(1, 0, (4, 8), (24, 1)))
    assert not meet(Region(0, 0, (5,), (2,)), Region(0, 1, (5,), (2,)))  # every second element
    assert meet(Region(0, 9, (3,), (-3,)), Region(0, 3, (1,), (1,)))


# ----------------------------------------------------------------------------- where it is called


def test_what_cannot_run_here_is_checked_and_says_so(tmp_path, monkeypatch):
    foreign = "aarch64" if not AARCH64.runs_here else "wasm32"
    net = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    library = dw.compile(net, (1, 3, 4, 4), target=foreign)
    check = library.manifest.plan_check
    assert check
    assert check.steps >= 3
    assert library.manifest.verification is None
    assert "checked step by step in Python" in library.manifest.unproven
    library.save(tmp_path / "net")
    assert read_saved(tmp_path / "net").manifest == library.manifest
    monkeypatch.setattr(pipeline, "check_steps", None)
    unchecked = dw.compile(net, (1, 3, 4, 4), target=foreign, check_plan=False)
    assert unchecked.manifest.plan_check is None
    assert "not verified" in unchecked.manifest.unproven


def test_what_runs_here_is_not_checked_twice(monkeypatch):
    monkeypatch.setattr(pipeline, "check_steps", None)
    library = dw.compile(nn.Conv2d(3, 4, 1).eval(), (1, 3, 4, 4))
    assert library.manifest.verification
    assert library.manifest.plan_check is None


def test_a_sample_of_another_shape(graph: Graph):
    with pytest.raises(ValueError, match="sample 0 has the shapes"):
        check_plan(make_plan(graph, AARCH64), [np.zeros((1, 3, 8, 8), np.float32)])


def test_of_rows_that_are_much_alike_the_nearest_is_meant():
    rows = {row: np.full((1, 4, 1, 6), 1 + 3e-5 * row) for row in range(4)}
    found = rows[2] + 1e-7
    assert _nearest(found, rows, bound=1e-4) == 2
    assert _nearest(found + 1, rows, bound=1e-4) is None
