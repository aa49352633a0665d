"""`compile --show plan` and `--show graph`: words and sizes, for a person to read."""

import re

import pytest
from torch import nn

from depthwise.compiler.pipeline import rewrite, show_stage
from depthwise.compiler.planning import make_plan
from depthwise.compiler.show_plan import show_plan
from depthwise.graph import capture
from depthwise.runtime.target import find_target

SHAPE = (1, 3, 32, 32)


def net():
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU6()]
    layers += [nn.Conv2d(8, 16, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 5)).eval()


@pytest.fixture(scope="module", params=["speed", "memory"])
def plan(request):
    graph = rewrite(capture(net(), SHAPE))
    return make_plan(graph, find_target("x86-64-v3"), optimize=request.param)


def rows_under(text, title):
    """Return the rows of the table whose first title is `title`, each as {title: cell}."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{title} "))
    table = []
    for line in lines[start + 1 :]:
        if not re.match(r" *b?\d", line):
            break
        table.append(line)
    return table


def test_a_plan_is_shown_without_reprs(plan):
    text = show_plan(plan)
    assert not re.search(r"\w\(\w+=|None|\bPlace\b|Epilogue|Activation|<|\{|0x", text)
    assert "then relu" in text
    assert "then clamp 0 6" in text
    assert "then hard_swish" in text


def test_every_step_has_its_sizes_and_places(plan):
    text = show_plan(plan)
    steps = rows_under(text, "step")
    assert len(steps) == len(plan.steps)
    assert text.startswith(f"{len(plan.steps)} steps for x86-64-v3, on 1 thread\n")
    for number, (line, step) in enumerate(zip(steps, plan.steps, strict=True), 1):
        cells = line.split()
        assert cells[0] == str(number)
        assert step.kernel.removeprefix("f32_") in cells
        assert step.path in line
        assert "x".join(map(str, step.written[0].shape[1:])) in line
    streamed = [line for line in steps if re.search(r"\d+ of 16 ", line)]
    assert bool(streamed) == any(group.height for group in plan.groups)


def test_buffers_have_sizes_and_lifetimes_that_never_share_bytes(plan):
    text = show_plan(plan)
    buffers = rows_under(text, "buffer")
    assert len(buffers) == len(plan.arena.offsets)
    lives = []
    for line in buffers:
        number, size, unit, at, first, last = line.split()[:6]
        held = plan.buffers[int(number[1:])].bytes
        assert float(size) == pytest.approx(held / {"B": 1, "kB": 1e3}[unit], rel=0.01)
        start = int(at.replace(",", ""))
        assert start == plan.arena.offsets[int(number[1:])]
        lives.append((int(first), int(last), start, start + held))
    for i, (a, b, start, end) in enumerate(lives):
        assert 1 <= a <= b <= len(plan.steps)
        for c, d, other_start, other_end in lives[i + 1 :]:
            assert b < c or d < a or end <= other_start or other_end <= start
    assert f"\narena {plan.arena.bytes / 1e3:.2f} kB ({plan.arena.bytes:,} bytes), w" in text


def test_a_graph_is_shown_in_words():
    text = show_stage(capture(net(), SHAPE), "graph")
    assert "Conv2d stride=2 padding=1, then relu " in text
    assert "groups=8, then clamp 0 6" in text
    assert not re.search(r"\(Conv2d|Epilogue|Fused|Activation", text)
