"""u8_quantized_conv and its twin, byte by byte, on every kind of CPU."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pytest
from byte_kernels import MACHINES, UNTOUCHED, ByteCall, Machine, lay_out, requantized, run

from depthwise.compiler.byte_epilogue import ByteEpilogue
from depthwise.compiler.lowering.packing_u8 import pack_conv_u8, pad_outputs

PLAIN = ByteEpilogue()
RELU6 = ByteEpilogue(zero=3, low=3, high=201)
ABOUT = ByteEpilogue(zero=131)
ADD = ByteEpilogue(zero=120, sum_zero=77, sum_scale=0.731)
ADD_RELU = ByteEpilogue(zero=9, low=9, high=255, sum_zero=140, sum_scale=1.37)


@dataclass(frozen=True)
class Case:
    """A convolution, and how it lies in memory: gaps are bytes after each pixel and each row."""

    plane: tuple[int, int]  # of the output
    channels: int
    outs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    images: int = 1
    requantize: ByteEpilogue = PLAIN
    tile: int = 6
    weights_outer: int = 0
    tiles: int = 0
    gaps: tuple[int, int] = (0, 0)  # in, out
    row_gaps: tuple[int, int] = (0, 0)
    in_place: bool = False
    extreme: bool = False  # bytes of 255 and weights of 127 and -127 alone
    real: bool = False  # the results stay floats
    prefetch_lines: int = 0


CASES = {
    "1x1 of 1": Case((1, 1), 1, 1),
    "1x1 prime": Case((3, 5), 7, 13, requantize=ABOUT),
    "1x1 below a vector": Case((2, 9), 8, 3, requantize=RELU6, gaps=(0, 3)),
    "1x1 a vector": Case((2, 7), 12, 16, requantize=ADD),
    "1x1 a panel": Case((3, 7), 20, 32, requantize=ADD_RELU, in_place=True),
    "1x1 above a panel": Case((1, 29), 16, 33, images=2, requantize=RELU6, gaps=(3, 5)),
    "1x1 three panels": Case((1, 17), 24, 75, requantize=ABOUT, weights_outer=1, tile=4),
    "1x1 in place": Case((4, 5), 8, 24, requantize=ADD, in_place=True, gaps=(0, 4)),
    "1x1 strided": Case((3, 4), 12, 20, stride=(2, 3), images=2),
    "linear": Case((1, 3), 37, 41, weights_outer=1),
    "first layer": Case((5, 6), 3, 32, (3, 3), (2, 2), requantize=RELU6),
    "3x3": Case((5, 8), 8, 18, (3, 3), requantize=ABOUT, images=2),
    "3x3 gaps": Case((6, 7), 5, 40, (3, 3), gaps=(2, 6), row_gaps=(7, 9), weights_outer=1),
    "1x1 extreme": Case((2, 8), 64, 34, extreme=True, requantize=ABOUT),
    "3x3 extreme": Case((2, 8), 32, 8, (3, 3), extreme=True),
    "1x1 of whole vectors": Case((3, 13), 68, 40, requantize=ADD, gaps=(5, 0)),
    "3x3 of whole vectors": Case((2, 7), 72, 34, (3, 3), requantize=RELU6, weights_outer=1),
    "1x1 of more than there is room for": Case((1, 6), 4100, 5, requantize=ABOUT),
    "linear to floats": Case((1, 3), 36, 41, real=True),
    "tiles to floats": Case((1, 19), 64, 45, tiles=1, real=True),
    # by the tiles of AMX: fewer, as many and more pixels than one; every end of channels
    "tiles, 16 pixels": Case((1, 16), 64, 32, tiles=1),
    "tiles, 7 pixels": Case((1, 7), 64, 32, tiles=1, requantize=ABOUT),
    "tiles, 17 pixels of 4": Case((1, 17), 4, 32, tiles=1, requantize=ADD),
    "tiles, 32 pixels of 24": Case((4, 8), 24, 144, tiles=1, requantize=RELU6),
    "tiles, 33 of 68": Case((3, 11), 68, 40, tiles=1, requantize=ADD_RELU, in_place=True),
    "tiles, 49 of 160": Case((7, 7), 160, 96, tiles=1, requantize=ABOUT, weights_outer=1),
    "tiles, 100 of 128": Case((10, 10), 128, 65, tiles=1, gaps=(16, 3), requantize=ADD),
    "tiles, rows apart": Case((6, 9), 20, 33, tiles=1, row_gaps=(12, 9), requantize=ADD),
    "tiles, rows apart by pixels": Case((5, 7), 16, 48, tiles=1, row_gaps=(32, 96), images=2),
    "tiles, 3x3": Case((5, 14), 32, 64, (3, 3), tiles=1, requantize=RELU6, images=2),
    "tiles, 3x3 strided": Case((5, 20), 72, 16, (3, 3), (2, 2), tiles=1, weights_outer=1),
    "tiles, 1x1 strided": Case((3, 19), 68, 36, stride=(2, 2), tiles=1, requantize=ABOUT),
    "tiles, extreme": Case((3, 16), 128, 32, tiles=1, extreme=True, requantize=ABOUT),
    "tiles, asking for weights": Case((7, 7), 160, 96, tiles=1, weights_outer=1, prefetch_lines=3),
    "tiles, few and long": Case((2, 3), 192, 70, (2, 2), tiles=1, requantize=ADD),
}  # fmt: skip


def make_call(name: str, case: Case, vector: int) -> ByteCall:
    """Return the call of a case, with numbers of its own and what NumPy makes of them."""
    random = np.random.default_rng(crc32(name.encode()))
    (rows, width), (R, S), (down, across) = case.plane, case.kernel, case.stride
    C, K, N = case.channels, case.outs, case.images
    shape = (N, (rows - 1) * down + R, (width - 1) * across + S, C)
    x = random.integers(0, 256, shape, np.uint8)
    weight = random.integers(-127, 128, (K, R * S, C), np.int8)
    bias = random.integers(-3000, 3000, K).astype(np.int32)
    scale = (random.uniform(0.3, 3, K) / (60 * np.sqrt(C * R * S))).astype(np.float32)
    if case.extreme:
        x[...] = 255
        weight[...] = random.choice([-127, 127], (K, 1, 1))
        scale[...] = random.uniform(0.5, 1, K) / (260 * C * R * S)
    summand = random.integers(0, 256, (N, rows, width, K), np.uint8)
    acc = np.broadcast_to(bias, (N, rows, width, K)).astype(np.int32)
    for t, (r, s) in enumerate((r, s) for r in range(R) for s in range(S)):
        seen = x[:, r : r + (rows - 1) * down + 1 : down, s : s + (width - 1) * across + 1 : across]
        acc = acc + seen.astype(np.int32) @ weight[:, t].astype(np.int32).T
    result = requantized(case.requantize, acc, scale, summand)
    panel = 2 * vector
    laid_in, in_strides = lay_out(x, case.gaps[0], case.row_gaps[0])
    expected, out_strides = lay_out(result, case.gaps[1], case.row_gaps[1])
    before = lay_out(summand, case.gaps[1], case.row_gaps[1])[0]
    sum_strides = out_strides
    if not case.in_place:
        before[...] = UNTOUCHED
        sum_strides = (rows * width * K, width * K, K)
    offsets = [r * in_strides[1] + s * in_strides[2] for r in range(R) for s in range(S)]
    members = {
        "images": N, "rows": rows, "width": width, "taps": R * S, "channels": C, "outs": K,
        "tile_pixels": min(case.tile, 6 if vector < 16 else 99), "panel": panel,
        "tiles": case.tiles, "weights_outer": case.weights_outer,
        "prefetch_lines": case.prefetch_lines,
        "pitch": pitch_of(case, in_strides),
        "in_image": in_strides[0], "in_row": in_strides[1] * down,
        "in_pixel": in_strides[2] * across,
        **dict(zip(("out_image", "out_row", "out_pixel"), out_strides, strict=True)),
        **dict(zip(("sum_image", "sum_row", "sum_pixel"), sum_strides, strict=True)),
        "requantize": case.requantize, "offsets": np.array(offsets),
    }  # fmt: skip
    arrays = {
        "in": laid_in, "w": pack_conv_u8(weight, panel, tiles=bool(case.tiles)),
        "bias": pad_outputs(bias, panel), "scale": pad_outputs(scale, panel),
        "sum": summand if case.requantize.add else None, "real": None,
        "next": np.zeros(64, np.int8) if case.prefetch_lines else None,
    }  # fmt: skip
    written = "out"
    if case.real:
        before = np.full(result.shape, -77.0, np.float32)
        expected = (acc.astype(np.float32) * scale).astype(np.float32)
        written, arrays["out"] = "real", None
    return ByteCall(
        name, "u8_quantized_conv", members, arrays, before, expected, written,
        in_place="sum" if case.in_place else "",
    )  # fmt: skip


def pitch_of(case: Case, strides: tuple[int, int, int]) -> int:
    """Return how many pixels apart rows are, where tiles can pass over their ends."""
    row, pixel = strides[1] * case.stride[0], strides[2] * case.stride[1]
    return row // pixel if case.tiles and case.plane[0] > 1 and row % pixel == 0 else 0


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_bytes_are_right(machine: Machine):
    calls = [make_call(name, case, machine.vector) for name, case in CASES.items()]
    assert run(calls, machine) == []
