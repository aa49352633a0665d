"""Kills at random moments, and very many calls: by hand with `pytest -m slow -s`, for figures."""

import json
import os
import random
import resource
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from shipping_requests import (
    make_network,
    make_request,
    measured_elsewhere,  # noqa: F401  (a fixture, used by all)
    tiny,
)

import depthwise as dw
from depthwise.files.atomic import LOCK
from depthwise.files.cache import cache_directory, hash_file
from depthwise.runtime.target import find_target
from depthwise.shipping import ship
from depthwise.toolchain.build import compile_c

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]


def in_child(work, seconds=None):
    """Do work in a child, killed after so many seconds; return what it took, None if killed."""
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    if seconds is None:
        status = os.waitpid(process, 0)[1]
    else:
        while time.monotonic() < start + seconds and not os.waitpid(process, os.WNOHANG)[0]:
            time.sleep(0.001)
        with_end = os.waitstatus_to_exitcode
        try:
            os.kill(process, signal.SIGKILL)
            status = os.waitpid(process, 0)[1]
        except (ProcessLookupError, ChildProcessError):
            return time.monotonic() - start  # it was faster
        if with_end(status) == -signal.SIGKILL:
            return None
    assert os.waitstatus_to_exitcode(status) == 0
    return time.monotonic() - start


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(cache_directory().parent / "zig"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "depthwise"


def leftovers(folder):
    """Return what is left of unfinished work below a folder."""
    return [path for path in folder.rglob("*") if path.name == LOCK or ".new" in path.name]


def check_cache(cache):
    for path in (*cache.glob("*.so"), *cache.glob("units/*.o")):
        assert path.stem.partition("-")[2] == hash_file(path)
    for path in (*cache.glob("trials/*"), *cache.glob("machines/*")):
        json.loads(path.read_text())
    assert not list(cache.glob("failed-*"))


@pytest.mark.parametrize("work", ["compile", "save", "ship"])
def test_kills_at_random_moments_lose_and_leave_nothing(work, cache, tmp_path, request):
    kills, x = request.config.getoption("--kills"), torch.randn(1, 3, 32, 32)
    first, second = dw.compile(tiny(), (1, 3, 32, 32)), tiny()
    with torch.no_grad():
        second[0].weight.mul_(2)
    second = dw.compile(second, (1, 3, 32, 32))
    out, asked, network = tmp_path / "out", make_request(tmp_path), make_network()
    number = 0

    def act():
        if work == "compile":
            text = f"int net_{number}(void); int net_{number}(void) {{ return {number}; }}"
            compile_c([text, text.replace("net_", "other_")], find_target("native"))
        elif work == "save":
            (first, second)[number % 2].save(out)
        else:  # all of it, then from the images on, mostly what was kept and the report
            ship(replace(asked, left_out=number // 10), network)

    first.save(out)
    random.seed(0)
    longest, killed, began = in_child(act), 0, time.monotonic()
    usual = longest
    while killed < kills:
        number += 1
        took = in_child(act, random.uniform(0, usual))
        killed += took is None
        usual = took or usual  # what was finished once takes less the next time
        if out.exists() or work != "ship":
            y = dw.load(out)(x)
            assert any(torch.equal(y, each(x)) for each in (first, second)) or work == "ship"
    number += 1
    assert in_child(act) is not None
    assert dw.load(out)(x).shape == (1, 5)
    assert not leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "images", "cache"}
    check_cache(cache)
    print(f"\n{work}: {killed} kills of {number} runs in {time.monotonic() - began:.0f} s, each of "
          f"{longest:.2f} s left alone; nothing lost, nothing left")  # fmt: skip


def resident():
    """Return the bytes of this process that are in memory."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("threads", [1, 2], ids=["library of one", "library of two"])
def test_many_calls_on_two_threads_agree_in_constant_memory(threads, request):
    calls = request.config.getoption("--calls")
    library = dw.compile(tiny(), (1, 3, 32, 32), threads=threads)
    inputs = [np.random.default_rng(i).standard_normal((1, 3, 32, 32), np.float32) for i in (0, 1)]
    expected = [library(x) for x in inputs]

    def work(number, times):
        return sum(
            np.array_equal(library(inputs[number]), expected[number]) for _ in range(times)
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, (0, 1), (1000, 1000))) == [1000, 1000]
        before, start = resident(), time.monotonic()
        assert sum(pool.map(work, (0, 1), (calls // 2, calls - calls // 2))) == calls
        after, seconds = resident(), time.monotonic() - start
    print(
        f"\n{calls} calls in {seconds:.0f} s; {before / 1e6:.2f} MB before, {after / 1e6:.2f} after"
    )
    assert after - before < 2e6
