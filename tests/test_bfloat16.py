"""Networks in bfloat16: how it is rounded and summed up, where weights lie, and what AMX needs."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from narrow_networks import Block, needs, small_network
from quantised_networks import small_network as small_quantised_network
from torch import nn

import depthwise as dw
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.lowering.narrow import find_pitch, pack_pairs, pack_tiles
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.verification.references import simulator
from depthwise.compiler.verification.references.simulator import (
    Summed,
    round_to_bfloat16,
    sum_steps,
)
from depthwise.graph import Graph
from depthwise.graph.dtypes import BFLOAT16
from depthwise.runtime.target import AMX, find_target
from depthwise.toolchain.build import compile_c

SUMMED = Summed(BFLOAT16)


@pytest.fixture(scope="module")
def narrow() -> Graph:
    return rewrite(small_network(), precision="bfloat16")


# ------------------------------------------------------------------------------ the definition


def test_sums_are_in_the_order_of_the_definition():
    draw = np.random.default_rng(2)
    pixels, taps = (
        BFLOAT16.round(draw.standard_normal(shape).astype(np.float32))
        for shape in ((3, 2, 70), (2, 70, 5))
    )
    bias = draw.standard_normal(5).astype(np.float32)
    for p, k in product(range(3), range(5)):
        acc = bias[k]
        for t, step in product(range(2), range(0, 70, 32)):
            even = odd = np.float32(0)
            for c in range(step, min(step + 32, 70), 2):
                even = even + pixels[p, t, c] * taps[t, c, k]
                odd = odd + pixels[p, t, c + 1] * taps[t, c + 1, k]
            acc = acc + (even + odd)
        assert sum_steps(pixels, taps, bias, SUMMED)[p, k] == acc


@pytest.mark.parametrize(
    ("pixels", "taps", "channels", "outs"),
    [(1, 1, 1280, 10), (64, 1, 96, 24), (130, 9, 48, 33), (70, 3, 12, 1), (5, 2, 1, 3)],
)
def test_products_of_matrices_give_the_sums_in_order(pixels, taps, channels, outs, monkeypatch):
    draw = np.random.default_rng(4)
    x, weights = (
        BFLOAT16.round(draw.standard_normal(shape).astype(np.float32))
        for shape in ((pixels, taps, channels), (taps, channels, outs))
    )
    bias = draw.standard_normal(outs).astype(np.float32)
    found = sum_steps(x, weights, bias, SUMMED)
    monkeypatch.setattr(simulator, "_is_in_order", lambda *_: False)
    np.testing.assert_array_equal(found, sum_steps(x, weights, bias, SUMMED))


def test_products_of_matrices_in_another_order_are_found_out(monkeypatch):
    in_order = simulator._is_in_order.__wrapped__
    assert in_order(16, 40)
    matmul = np.matmul

    def backwards(x, weights, out):
        return matmul(x[..., ::-1].copy(), weights[::-1].copy(), out=out)

    monkeypatch.setattr(np, "matmul", backwards)
    assert not in_order(16, 40)
    assert not in_order(3, 1)


def test_numbers_are_rounded_as_pytorch_rounds_them():
    bits = np.random.default_rng(3).integers(0, 2**32, 100_000, np.uint32)
    numbers = bits.view(np.float32)
    numbers = numbers[np.abs(numbers) >= 2.0**-126]  # neither NaN nor below the normal numbers
    expected = torch.from_numpy(numbers).bfloat16().float().numpy()
    np.testing.assert_array_equal(round_to_bfloat16(numbers), expected)
    for other in ([], [np.nan, np.inf, -np.inf]):  # which are rounded another way
        below = np.nextafter(np.float32(2**-126), np.float32(0))  # which bits would round to it
        small = np.array([1e-40, -1e-40, 0.0, -below, *other], np.float32)
        rounded = round_to_bfloat16(small)
        assert (rounded[:4] == 0).all()
        assert list(np.signbit(rounded[:4])) == [False, True, False, True]
        np.testing.assert_array_equal(rounded[4:], small[4:])
    bits = np.array([0x7F7FFFFF, 0x3F808000, 0x3F818000], np.uint32).view(np.float32)
    np.testing.assert_array_equal(
        round_to_bfloat16(bits), np.array([np.inf, 1.0, 1.015625], np.float32)
    )


@pytest.mark.parametrize(("outs", "channels"), [(64, 32), (40, 6), (33, 70), (8, 96)])
def test_weights_lie_where_the_kernel_reads_them(outs: int, channels: int):
    weight = 1.0 + np.arange(outs * channels * 4).reshape(outs, channels, 2, 2)
    depth, steps = min(32, channels), -(-channels // 32)
    packed = pack_tiles(weight, min(32, channels)).reshape(-1, 4, steps, 2, depth // 2, 16, 2)
    for k, c, tap in product(range(outs), range(channels), range(4)):
        step = c // 32
        at = c - max(0, min(32 * step, channels - 32))
        found = packed[k // 32, tap, step, k // 16 % 2, at // 2, k % 16, at % 2]
        assert found == weight[k, c, tap // 2, tap % 2]
    assert packed.astype(bool).sum() == weight.size  # each once, zeros else


def test_channels_lie_in_pairs():
    packed = pack_pairs(np.arange(1.0, 11).reshape(10, 1, 1, 1), 8)
    assert list(packed) == [1, 3, 5, 7, 2, 4, 6, 8, 9, 0, 0, 0, 10, 0, 0, 0]


def test_tiles_pass_over_rows_where_that_takes_fewer():
    assert find_pitch(7, 7, 9 * 40, 40) == 9  # 61 pixels in 4 tiles, by rows 7
    assert find_pitch(4, 16, 18 * 40, 40) == 0
    assert find_pitch(1, 49, 0, 40) == 0
    assert find_pitch(7, 7, 9 * 40 + 8, 40) == 0  # rows that begin between pixels


# -------------------------------------------------------------------------- networks, end to end


@pytest.fixture(scope="module")
def block() -> nn.Module:
    torch.manual_seed(0)
    return Block().eval()


def test_weights_take_half_of_the_memory():
    net = nn.Sequential(nn.Conv2d(64, 128, 1), nn.ReLU(), nn.Conv2d(128, 256, 1))
    whole, half = (
        make_plan(rewrite(dw.open(net, (1, 64, 9, 9)).graph, precision=p), AMX).weights.nbytes
        for p in ("float32", "bfloat16")
    )
    # biases are float32, and tiles are full; Winograd's weights, of larger windows, are more
    assert 0.5 * whole < half < 0.52 * whole


def test_float32_is_what_it_was(block: nn.Module):
    graph = dw.open(block, (1, 3, 36, 40)).graph
    assert "bf16" not in emit(make_plan(rewrite(graph), find_target("x86-64-v4")))
    assert CompileOptions().chosen.tiles is False


# ------------------------------------------------------------------------ what the system refuses

REFUSED = """
import ctypes, sys
from depthwise.runtime.library import Code

class Stack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("bytes", ctypes.c_size_t)]

small = ctypes.create_string_buffer(2048)  # no room for tiles: Linux then lends none
system = ctypes.CDLL(None)
assert system.sigaltstack(ctypes.byref(Stack(ctypes.addressof(small), 0, 2048)), None) == 0
shared = ctypes.CDLL(sys.argv[1])
print(shared.net_tiles(), shared.net_run(None, None, None, None))
try:
    Code(open(sys.argv[1], "rb").read())
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("graph", "bits"),
    [
        (lambda narrow: narrow, "1u << 24 | 1u << 22"),
        (lambda _: rewrite(small_quantised_network()), "1u << 24 | 1u << 25"),
    ],
    ids=["bfloat16", "int8"],
)
def test_cpuid_is_asked_for_what_the_kernels_multiply(narrow: Graph, graph, bits: str):
    text = emit(make_plan(graph(narrow), AMX))
    assert f"#define NET_AMX ({bits})\n" in text


def test_refused_tiles_are_an_error_and_stop_no_program(narrow: Graph):
    needs(AMX.name)
    path = compile_c(emit(make_plan(narrow, AMX)), AMX)
    command = [sys.executable, "-c", REFUSED, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    assert first == "0 5"  # NET_CPU
    assert "the system does not lend to this process" in second
