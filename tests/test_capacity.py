"""What memory does not hold is refused before it is taken; counting takes none."""

import subprocess
import sys

import pytest
from torch import nn

import depthwise as dw
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.verification import capacity
from depthwise.errors import Unsupported
from depthwise.graph import capture
from depthwise.runtime.target import find_target

HUGE = (1, 3, 100_000, 100_000)


def small():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_inputs_beyond_memory_are_refused():
    message = r"inputs of \(1, 3, 100000, 100000\) take 120.0 GB, and [\d.]+ GB of memory are avail"
    with pytest.raises(ValueError, match=message):
        dw.compile(small(), HUGE)


def test_values_beyond_memory_are_refused(monkeypatch):
    monkeypatch.setattr(capacity, "available_bytes", lambda: 500_000)
    with pytest.raises(ValueError, match=r"to verify its library against PyTorch, takes 0\.0 GB"):
        dw.compile(small(), (1, 3, 150, 150))


def test_an_arena_beyond_memory_is_refused(monkeypatch):
    plan = make_plan(rewrite(capture(small().eval(), (1, 3, 150, 150))), find_target("native"))
    monkeypatch.setattr(capacity, "available_bytes", lambda: plan.arena.bytes)
    with pytest.raises(ValueError, match="the library's arena, inputs and outputs take"):
        capacity.check_arena(plan)
    monkeypatch.setattr(capacity, "MOST_ELEMENTS", 3 * 150 * 150 - 1)
    with pytest.raises(Unsupported, match="have 67,500 elements, and kernels count up to 67,499"):
        capacity.check_arena(plan)


def test_shapes_beyond_memory_are_counted():
    counted = dw.cost(small(), HUGE)
    assert counted.macs == 3 * 9 * 8 * 49_999**2


@pytest.mark.parametrize("size", [10**12, 10**30, -1])
def test_sizes_that_no_tensor_has_are_refused(size):
    with pytest.raises(ValueError, match="shape"):
        dw.cost(small(), (1, 3, size, size))


def test_a_limit_of_the_process_counts():
    code = (
        "import resource; from depthwise.compiler.verification.capacity import available_bytes;"
        "resource.setrlimit(resource.RLIMIT_AS, (10 ** 9, resource.RLIM_INFINITY));"
        "print(available_bytes())"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 10**9


def test_memory_that_is_available_is_of_this_machine():
    assert 10**7 < capacity.available_bytes() < 10**15
