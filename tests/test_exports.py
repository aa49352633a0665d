"""What compiled libraries tell of their tensors, and the calls that check what they are given."""

import ctypes

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.runtime.library import Code, aligned_bytes

NULL, WEIGHTS_SHORT, ARENA_SHORT, MISALIGNED = 1, 2, 3, 4  # as net.h has them


class Several(nn.Module):
    def forward(self, x, y):
        return x + y.mean(1, keepdim=True), y.relu()


@pytest.fixture(scope="module", params=[1, 2], ids=["one thread", "two threads"])
def library(request):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Conv2d(8, 4, 3)).eval()
    return dw.compile(net, (1, 3, 12, 12), threads=request.param)


@pytest.fixture(scope="module")
def several():
    return dw.compile(Several().eval(), (1, 1, 4, 5), (1, 3, 4, 5))


def ask(code, name, index, returned):
    function = getattr(code.opened, name)
    function.restype = returned
    return function(index)


def tensors(code, kind):
    """Return the types and bytes of all inputs or outputs, and of those that are none."""
    count = getattr(code.opened, f"net_{kind}s")()
    return [
        (ask(code, f"net_{kind}_type", i, ctypes.c_int),
         ask(code, f"net_{kind}_bytes", i, ctypes.c_size_t))
        for i in (*range(count), count, -1, 2**31 - 1)
    ]  # fmt: skip


def test_a_library_tells_its_tensors(library, several):
    nothing = [(0, 0)] * 3
    code = library._code
    assert tensors(code, "input") == [(4, 4 * 3 * 12 * 12), *nothing]
    assert tensors(code, "output") == [(4, 4 * 4 * 8 * 8), *nothing]
    assert code.opened.net_threads() == library.manifest.build.threads
    assert tensors(several._code, "input") == [(4, 4 * 20), (4, 4 * 60), *nothing]
    assert tensors(several._code, "output") == [(4, 4 * 20), (4, 4 * 60), *nothing]


def test_raw_images_are_bytes():
    prepared = dw.Preparation((0.5,) * 3, (0.2,) * 3, "uint8", "nhwc")
    library = dw.compile(nn.Conv2d(3, 4, 3).eval(), (1, 3, 8, 8), preparation=prepared)
    assert tensors(library._code, "input")[0] == (1, 3 * 8 * 8)
    assert tensors(library._code, "output")[0] == (4, 4 * 4 * 6 * 6)


class Called:
    """A library called from its C functions, with arguments that may be wrong."""

    def __init__(self, library):
        self.code = Code(library._artefact.shared)
        self.weights, self.arena = library._weights, aligned_bytes(self.code.arena_bytes + 64)
        records = library.manifest.network
        self.x = [np.random.default_rng(0).random(e.shape, np.float32) for e in records.inputs]
        self.y = [np.full(e.shape, np.nan, np.float32) for e in records.outputs]

    def arguments(self, **wrong):
        def address(arrays):
            pointers = [array.ctypes.data for array in arrays]
            return (
                pointers[0] if len(pointers) == 1 else (ctypes.c_void_p * len(pointers))(*pointers)
            )

        right = {
            "weights": self.weights.ctypes.data, "weights_bytes": self.code.weights_bytes,
            "in": address(self.x), "out": address(self.y),
            "arena": self.arena.ctypes.data, "arena_bytes": self.code.arena_bytes,
        }  # fmt: skip
        given = {**right, **wrong}
        return [
            ctypes.c_size_t(v) if k.endswith("bytes") else v if isinstance(v, ctypes.Array)
            else ctypes.c_void_p(v)
            for k, v in given.items()
        ]  # fmt: skip

    def run(self, **wrong):
        return self.code.opened.net_run_checked(*self.arguments(**wrong))


def wrong_arguments(called):
    code = called.code
    return [
        ({"weights": None}, NULL),
        ({"arena": None}, NULL),
        ({"in": None}, NULL),
        ({"out": None}, NULL),
        ({"weights_bytes": code.weights_bytes - 1}, WEIGHTS_SHORT),
        ({"weights_bytes": 0}, WEIGHTS_SHORT),
        ({"arena_bytes": code.arena_bytes - 1}, ARENA_SHORT),
        ({"arena": called.arena.ctypes.data + 4}, MISALIGNED),
        ({"weights": called.weights.ctypes.data + 32}, MISALIGNED),
    ]


def test_the_checked_call_refuses_what_does_not_fit_and_runs_the_rest(library):
    called = Called(library)
    for wrong, status in wrong_arguments(called):
        assert called.run(**wrong) == status, wrong
        assert np.isnan(called.y[0]).all(), wrong
    assert called.run() == 0
    np.testing.assert_array_equal(called.y[0], library(called.x[0]))
    larger = {"weights_bytes": 2**40, "arena_bytes": 2**40}
    assert called.run(**larger) == 0


def test_the_checked_call_on_several_threads(library):
    called = Called(library)
    opened = called.code.opened
    if library.manifest.build.threads == 1:
        assert not hasattr(opened, "net_run_parallel_checked")
        return
    opened.net_pool_bytes.restype = ctypes.c_size_t
    memory = aligned_bytes(opened.net_pool_bytes())
    pool = ctypes.c_void_p(memory.ctypes.data)
    assert opened.net_pool_start(pool) == 0
    for wrong, status in wrong_arguments(called):
        given = called.arguments(**wrong)
        assert opened.net_run_parallel_checked(*given, opened.net_pool_run, pool) == status, wrong
    assert opened.net_run_parallel_checked(*called.arguments(), None, pool) == NULL
    assert np.isnan(called.y[0]).all()
    assert opened.net_run_parallel_checked(*called.arguments(), opened.net_pool_run, pool) == 0
    opened.net_pool_stop(pool)
    np.testing.assert_array_equal(called.y[0], library(called.x[0]))


def test_a_tensor_of_several_that_is_null(several):
    called = Called(several)
    for kind, arrays in (("in", called.x), ("out", called.y)):
        for missing in range(2):
            pointers = [None if i == missing else a.ctypes.data for i, a in enumerate(arrays)]
            assert called.run(**{kind: (ctypes.c_void_p * 2)(*pointers)}) == NULL
    assert called.run() == 0
    for y, expected in zip(called.y, several(*called.x), strict=True):
        np.testing.assert_array_equal(y, expected)


def test_webassembly_exports_them():
    wasmtime = pytest.importorskip("wasmtime")
    library = dw.compile(nn.Conv2d(3, 4, 3).eval(), (1, 3, 8, 8), target="wasm32")
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, library._artefact.shared)
    exports = wasmtime.Instance(store, module, []).exports(store)
    assert exports["net_inputs"](store) == exports["net_outputs"](store) == 1
    assert exports["net_input_bytes"](store, 0) == 4 * 3 * 8 * 8
    assert exports["net_output_type"](store, 0) == 4
    assert exports["net_threads"](store) == 1
    sizes = library.manifest.memory
    memory, start = exports["memory"], -(-exports["__heap_base"].value(store) // 64) * 64
    memory.grow(store, 4)
    arena = start + -(-sizes.weights_bytes // 64) * 64
    x = arena + -(-sizes.arena_bytes // 64) * 64
    y = x + 4096
    given = (start, sizes.weights_bytes, x, y, arena, sizes.arena_bytes)
    memory.write(store, library._artefact.weights.tobytes(), start)
    memory.write(store, np.ones((3, 8, 8), np.float32).tobytes(), x)
    run = exports["net_run_checked"]
    assert run(store, *given) == 0
    assert run(store, *given[:-1], sizes.arena_bytes - 1) == ARENA_SHORT
    assert run(store, start + 4, *given[1:]) == MISALIGNED
