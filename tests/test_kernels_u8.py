"""Kernels of bytes beside the convolution, and their twins, byte by byte on every kind of CPU."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pytest
from byte_kernels import MACHINES, UNTOUCHED, ByteCall, Machine, lay_out, requantized, run

from depthwise.compiler.byte_epilogue import ByteEpilogue
from depthwise.graph import ops
from depthwise.graph.interpret import evaluate
from depthwise.quantization.integer_ops import IntegerMean, Requantize

ABOUT = ByteEpilogue(zero=131)
RELU6 = ByteEpilogue(zero=3, low=3, high=201)
ADD = ByteEpilogue(zero=120, sum_zero=77, sum_scale=0.731)
UP = ("image", "row", "pixel")


def strides(name: str, given: tuple[int, int, int]) -> dict[str, int]:
    return {f"{name}_{axis}": stride for axis, stride in zip(UP, given, strict=True)}


def sizes(shape: tuple[int, int, int, int]) -> dict[str, int]:
    """Return what kernels take for (N, H, W, C)."""
    return dict(zip(("images", "rows", "width", "channels"), shape, strict=True))


def untouched(like: np.ndarray, gap: int = 0, row_gap: int = 0) -> np.ndarray:
    return lay_out(np.full_like(like, UNTOUCHED), gap, row_gap)[0]


# ----------------------------------------------------------------------------- channel by channel


@dataclass(frozen=True)
class Depthwise:
    """A depthwise convolution; gaps are bytes after each pixel."""

    plane: tuple[int, int]  # of the output
    channels: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    images: int = 1
    then: ByteEpilogue = ABOUT
    gaps: tuple[int, int] = (0, 0)
    extreme: bool = False


DEPTHWISE = {
    "1 channel": Depthwise((4, 4), 1),
    "3x3": Depthwise((5, 14), 16, then=RELU6),
    "3x3 eights": Depthwise((4, 16), 33, gaps=(3, 5)),
    "3x3 odd": Depthwise((5, 11), 37, images=2),
    "3x3 above a line": Depthwise((3, 9), 67, then=RELU6),
    "3x3 stride 2": Depthwise((5, 8), 24, stride=(2, 2), then=RELU6),
    "3x3 extreme": Depthwise((3, 7), 20, extreme=True),
    "5x5": Depthwise((6, 9), 20),
    "5x5 stride 2": Depthwise((4, 7), 17, (5, 5), (2, 2)),
    "5x5 extreme": Depthwise((3, 7), 20, (5, 5), extreme=True),
    "7x7": Depthwise((4, 8), 18, (7, 7), images=2),
    "3x3 stride 3": Depthwise((3, 9), 7, stride=(3, 3)),
    "3x3 dilated": Depthwise((5, 9), 20, dilation=(2, 2)),
    "3x2 dilated across": Depthwise((4, 8), 36, (3, 2), (1, 2), (1, 4), gaps=(4, 4)),
    "1x1": Depthwise((3, 8), 31, (1, 1)),
    "1x1 stride 3": Depthwise((3, 8), 5, (1, 1), (3, 3)),
    "11x11": Depthwise((2, 5), 9, (11, 11)),
    # woven: whole vectors of channels and what is left, rows that share a vector, odd planes
    "woven": Depthwise((4, 8), 64, then=RELU6),
    "woven odd": Depthwise((7, 7), 130, images=2, gaps=(3, 6)),
    "woven rows": Depthwise((9, 12), 8, gaps=(0, 5)),
    "woven rows of 24": Depthwise((6, 5), 24, images=2, then=RELU6),
    "woven of three": Depthwise((3, 4), 12),
    "woven stride 2": Depthwise((7, 14), 96, stride=(2, 2), then=RELU6),
    "woven across": Depthwise((4, 9), 72, (3, 5), (1, 2)),
    "woven down": Depthwise((5, 9), 66, (5, 3), (2, 1), gaps=(1, 2)),
    "woven 5x5": Depthwise((7, 9), 120, (5, 5), images=2),
    "woven 5x5 stride 2": Depthwise((7, 7), 40, (5, 5), (2, 2)),
    "woven 7x7 stride 2": Depthwise((3, 5), 70, (7, 7), (2, 2), extreme=True),
    "woven column": Depthwise((5, 1), 64, (3, 1)),
    "woven row": Depthwise((1, 17), 80, (1, 3), extreme=True),
}  # fmt: skip


def depthwise_call(name: str, case: Depthwise, vector: int) -> ByteCall:  # noqa: ARG001
    random = np.random.default_rng(crc32(name.encode()))
    (rows, width), (R, S), C, N = case.plane, case.kernel, case.channels, case.images
    (down, across), (apart_y, apart_x) = case.stride, case.dilation
    height = (rows - 1) * down + (R - 1) * apart_y + 1
    wide = (width - 1) * across + (S - 1) * apart_x + 1
    x = random.integers(0, 256, (N, height, wide, C), np.uint8)
    weight = random.integers(-127, 128, (R * S, C), np.int8)
    bias = random.integers(-3000, 3000, C).astype(np.int32)
    scale = (random.uniform(0.3, 3, C) / (60 * np.sqrt(R * S))).astype(np.float32)
    if case.extreme:
        x[...], weight[...] = 255, random.choice([-127, 127], C)
        scale[...] = random.uniform(0.5, 1, C) / (260 * R * S)
    acc = np.broadcast_to(bias, (N, rows, width, C)).astype(np.int32)
    for t, (r, s) in enumerate((r * apart_y, s * apart_x) for r in range(R) for s in range(S)):
        seen = x[:, r : r + (rows - 1) * down + 1 : down, s : s + (width - 1) * across + 1 : across]
        acc = acc + seen.astype(np.int32) * weight[t].astype(np.int32)
    result = requantized(case.then, acc, scale)
    laid, in_strides = lay_out(x, case.gaps[0], 0)
    expected, out_strides = lay_out(result, case.gaps[1], 0)
    members = {
        **sizes(result.shape), "R": R, "S": S, **strides("in", in_strides), "stride_y": down,
        "stride_x": across, "dilation_y": apart_y, "dilation_x": apart_x,
        **strides("out", out_strides), "w_tap": C, "requantize": case.then,
    }  # fmt: skip
    arrays = {"in": laid, "w": weight, "bias": bias, "scale": scale}
    before = untouched(result, case.gaps[1])
    return ByteCall(name, "u8_quantized_depthwise", members, arrays, before, expected)


# ------------------------------------------------------------------------------ element by element


def draw(name: str, shape: tuple[int, ...]) -> tuple[np.random.Generator, np.ndarray]:
    random = np.random.default_rng(crc32(name.encode()))
    return random, random.integers(0, 256, shape, np.uint8)


def quantize_call(name: str, channels: int, planes: bool, pixel: int) -> ByteCall:
    """Return floats, ties and what is no number among them, to bytes; in planes or side by side."""
    random = np.random.default_rng(crc32(name.encode()))
    N, H, W = 2, 3, 35
    x = (random.standard_normal((N, H, W, channels)) * 60).astype(np.float32)
    x.reshape(-1)[:9] = [0.25, 0.75, -0.25, 1e30, -1e30, np.inf, -np.inf, np.nan, 0.5]
    scale, zero = np.float32(0.5), 77
    with np.errstate(invalid="ignore"):
        steps = np.nan_to_num(np.rint(x / scale) + zero, nan=0.0, posinf=1e9, neginf=-1e9)
    result = steps.clip(0, 255).astype(np.uint8)
    rest = pixel - channels if channels <= 4 and pixel == 4 else 0
    filled = np.concatenate([result, np.zeros((N, H, W, rest), np.uint8)], 3)
    expected, out_strides = lay_out(filled, pixel - channels - rest, 0)
    laid = x.transpose(0, 3, 1, 2) if planes else x
    in_strides = {"in_image": H * W * channels}
    in_strides |= (
        {"in_channel": H * W, "in_row": W, "in_pixel": 1}
        if planes
        else {"in_channel": 1, "in_row": W * channels, "in_pixel": channels}
    )
    members = {
        **sizes(x.shape), **in_strides, **strides("out", out_strides), "zero": zero, "scale": "0.5f"
    }  # fmt: skip
    before = untouched(filled, pixel - channels - rest)
    return ByteCall(name, "u8_quantize", members, {"in": laid.copy()}, before, expected)


def ties_call(name: str, step: float) -> ByteCall:
    """Return floats about which a division decides: next to the middle between two bytes."""
    scale, zero = np.float32(step), 77
    halves = (np.arange(-100, 201, dtype=np.float32)[:288] + np.float32(0.5)) * scale
    bits = halves.view(np.int32)[:, None] + np.arange(-3, 4, dtype=np.int32)
    x = np.ascontiguousarray(bits).view(np.float32).reshape(1, 9, 32, 7)
    steps = np.rint(x / scale) + zero
    result = steps.clip(0, 255).astype(np.uint8)
    members = {
        **sizes(x.shape), "in_channel": 1, **strides("in", lay_out(result, 0, 0)[1]),
        **strides("out", lay_out(result, 0, 0)[1]), "zero": zero, "scale": f"{float(scale)!r}f",
    }  # fmt: skip
    # all in one pixel, so that vectors take them
    members |= {"width": 1, "channels": 32 * 7, "in_pixel": 32 * 7, "out_pixel": 32 * 7}
    return ByteCall(name, "u8_quantize", members, {"in": x}, untouched(result), result)


def dequantize_call(name: str) -> ByteCall:
    _, x = draw(name, (3, 37))
    expected = (x.astype(np.float32) - 77) * np.float32(0.37)
    n, step = (1, 1, 1, 1, 3, 37), (0, 0, 0, 0, 37, 1)
    members = {
        "n": n, "x_stride": step, "y_stride": step, "zero": 77,
        "scale": f"{float(np.float32(0.37))!r}f",
    }  # fmt: skip
    before = np.full_like(expected, -77)
    return ByteCall(name, "u8_dequantize", members, {"x": x}, before, expected, "y")


def lookup_call(
    name: str, shape: tuple[int, ...], gap: int = 0, row_gap: int = 0, in_place: bool = False
) -> ByteCall:
    random, x = draw(name, shape)
    table = random.permutation(256).astype(np.uint8)
    expected, out = lay_out(table[x], gap, row_gap)
    members = {**sizes(x.shape), **strides("in", lay_out(x, 0, 0)[1]), **strides("out", out)}
    arrays = {"in": x, "table": table}
    before = x if in_place else untouched(x, gap, row_gap)
    place = "in" if in_place else ""
    return ByteCall(name, "u8_lookup", members, arrays, before, expected, in_place=place)


def rescale_call(name: str, then: ByteEpilogue, gap: int) -> ByteCall:
    random, x = draw(name, (2, 3, 7, 21))
    other = random.integers(0, 256, x.shape, np.uint8)
    result = requantized(then, x.astype(np.int32) - 99, np.float32(1.23), other)
    expected, out = lay_out(result, gap, 0)
    packed = lay_out(x, 0, 0)[1]
    members = {
        **sizes(x.shape), **strides("in", packed), **strides("sum", packed), **strides("out", out),
        "in_zero": 99, "scale": f"{float(np.float32(1.23))!r}f", "requantize": then,
    }  # fmt: skip
    arrays = {"in": x, "sum": other if then.add else None}
    return ByteCall(name, "u8_rescale", members, arrays, untouched(result, gap), expected)


def multiply_call(name: str, gate: bool, channels: int = 21, zero: int = 7) -> ByteCall:
    random, x = draw(name, (2, 3, 5, channels))
    shape = (2, 1, 1, channels) if gate else x.shape
    factor = random.integers(0, 256, shape, np.uint8)
    x[..., 0], factor[..., 0] = 255 - zero // 2, 0
    acc = (x.astype(np.int32) - zero) * (factor.astype(np.int32) - 3)
    result = requantized(ABOUT, acc, np.float32(0.0051))
    packed = lay_out(x, 0, 0)[1]
    members = {
        **sizes(x.shape), **strides("in", packed),
        **strides("factor", (channels, 0, 0) if gate else packed), **strides("out", packed),
        "in_zero": zero, "factor_zero": 3, "scale": f"{float(np.float32(0.0051))!r}f",
        "requantize": ABOUT,
    }  # fmt: skip
    arrays = {"in": x, "factor": factor}
    return ByteCall(name, "u8_quantized_multiply", members, arrays, untouched(result), result)


def mean_call(name: str, real: bool) -> ByteCall:
    _, x = draw(name, (2, 7, 5, 37))
    acc = (x.astype(np.int32) - 40).sum((1, 2), dtype=np.int32)
    scale = np.float32(1 / 33)
    result = acc.astype(np.float32) * scale if real else requantized(ABOUT, acc, scale)
    members = {
        **sizes(x.shape), **strides("in", lay_out(x, 0, 0)[1]), "out_image": 37, "in_zero": 40,
        "scale": f"{float(scale)!r}f", "requantize": ABOUT,
    }  # fmt: skip
    before = np.full_like(result, 77)
    arrays = {"in": x, "out": None, "real": None}
    where = "real" if real else "out"
    return ByteCall(name, "u8_quantized_mean", members, arrays, before, result, where)


AROUND = ops.Padding(1, 1, 1, 1)
AVG_POOLS = {
    "means": ops.AvgPool2d((3, 3), (1, 1), AROUND, False, True, None),
    "means of what is inside": ops.AvgPool2d((3, 2), (2, 3), AROUND, False, False, None),
    "means by twos": ops.AvgPool2d((2, 2), (2, 2), ops.Padding(0, 0, 0, 0), False, False, None),
    "means over a rest": ops.AvgPool2d((3, 3), (2, 2), AROUND, True, True, None),
    "means by a divisor": ops.AvgPool2d((3, 3), (2, 2), AROUND, False, True, 5),
}


def avg_pool_call(name: str, case: ops.AvgPool2d, real: bool = False) -> ByteCall:
    """Return windows that hang over an odd plane of the 37 channels of 2 images."""
    _, x = draw(name, (2, 7, 10, 37))
    op = IntegerMean(case, 40, 0.37, None if real else Requantize(ABOUT.zero))
    result = evaluate(op, x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    laid, out = lay_out(result, 0 if real else 3, 0)
    expected = np.ascontiguousarray(result) if real else laid
    counts = np.arange(1, np.prod(case.kernel) + 1)
    scale = np.float64(0.37) / (np.full_like(counts, case.divisor) if case.divisor else counts)
    members = {
        "images": 2, "channels": 37, "height": 7, "width": 10, "out_height": result.shape[1],
        "out_width": result.shape[2], "kernel_y": case.kernel[0], "kernel_x": case.kernel[1],
        "stride_y": case.stride[0], "stride_x": case.stride[1], **case.padding._asdict(),
        "count_padding": int(case.count_padding), **strides("in", lay_out(x, 0, 0)[1]),
        **strides("out", out), "in_zero": 40, "requantize": ABOUT,
    }  # fmt: skip
    table = np.concatenate([[0], scale]).astype(np.float32)
    before = np.full_like(expected, 77) if real else untouched(result, 3)
    arrays = {"in": x, "scale": table, "out": None, "real": None}
    where = "real" if real else "out"
    return ByteCall(name, "u8_quantized_avg_pool", members, arrays, before, expected, where)


# ----------------------------------------------------------------------------------- moving bytes


def copy_call(name: str, order: tuple[int, ...]) -> ByteCall:
    _, x = draw(name, (3, 4, 5, 6))
    steps = {axis: int(np.prod(x.shape[axis + 1 :])) for axis in range(4)}
    result = np.ascontiguousarray(x.transpose(order))
    n = (1, 1, *result.shape)
    made = (0, 0, *(int(np.prod(result.shape[axis + 1 :])) for axis in range(4)))
    members = {"n": n, "x_stride": (0, 0, *(steps[axis] for axis in order)), "y_stride": made}
    return ByteCall(name, "u8_copy", members, {"x": x}, untouched(result), result, "y")


def fill_call(name: str) -> ByteCall:
    before = np.full((3, 11), UNTOUCHED, np.uint8)
    expected = before.copy()
    expected[:, :9] = 131
    members = {"n": (1, 1, 3), "count": 9, "y_stride": (0, 0, 11), "value": 131}
    return ByteCall(name, "u8_fill_bytes", members, {}, before, expected, "y")


def surround_call(name: str) -> ByteCall:
    _, before = draw(name, (2, 8, 9, 5))
    expected = np.full_like(before, 131)
    expected[:, 1:6, 3:8] = before[:, 1:6, 3:8]
    members = {
        "images": 2, "rows": 5, "width": 5, "channels": 5, "top": 1, "bottom": 2, "left": 3,
        "right": 1, "value": 131,
    }  # fmt: skip
    return ByteCall(name, "u8_surround", members, {}, before, expected, "y")


def max_pool_call(name: str, stride: int) -> ByteCall:
    _, x = draw(name, (2, 7, 9, 21))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, width = (7 - 1) // stride + 1, (9 - 1) // stride + 1
    windows = [
        padded[
            :, r : r + (rows - 1) * stride + 1 : stride, s : s + (width - 1) * stride + 1 : stride
        ]
        for r in range(3)
        for s in range(3)
    ]
    result = np.max(windows, 0)
    out = lay_out(result, 0, 0)[1]
    members = {
        "images": 2, "channels": 21, "height": 7, "width": 9, "out_height": rows,
        "out_width": width, "kernel_y": 3, "kernel_x": 3, "stride_y": stride, "stride_x": stride,
        "top": 1, "left": 1, "dilation_y": 1, "dilation_x": 1,
        **strides("in", lay_out(x, 0, 0)[1]), **strides("out", out),
    }  # fmt: skip
    return ByteCall(name, "u8_max_pool", members, {"in": x}, untouched(result), result)


def calls(vector: int) -> list[ByteCall]:
    """Return every case."""
    return [
        *(depthwise_call(name, case, vector) for name, case in DEPTHWISE.items()),
        quantize_call("planes of 3", 3, True, 4), quantize_call("planes of 2", 2, True, 4),
        quantize_call("planes of 5", 5, True, 8), quantize_call("pixels of 3", 3, False, 4),
        quantize_call("pixels of 37", 37, False, 37), dequantize_call("to floats"),
        ties_call("ties", 0.0171), ties_call("ties of small steps", 1e-26),
        lookup_call("lookup", (2, 3, 7, 21), 3, 5),
        lookup_call("lookup, rows", (2, 3, 9, 17), 0, 7),
        lookup_call("lookup in place", (1, 2, 5, 26), in_place=True),
        lookup_call("lookup of whole vectors", (1, 4, 16, 64)),
        lookup_call("lookup of runs", (1, 3, 5, 67), 3),
        lookup_call("lookup of runs in place", (2, 3, 9, 33), in_place=True),
        rescale_call("rescale", RELU6, 0), rescale_call("sum", ADD, 0),
        rescale_call("sum apart", ADD, 5), multiply_call("gate", True),
        multiply_call("gate of 64", True, 64, 255), multiply_call("gate of 150", True, 150, 0),
        multiply_call("product", False), mean_call("mean", False), mean_call("real mean", True),
        *(avg_pool_call(name, case) for name, case in AVG_POOLS.items()),
        avg_pool_call("real means", AVG_POOLS["means"], real=True),
        copy_call("copy", (0, 1, 2, 3)), copy_call("transposed", (0, 2, 3, 1)), fill_call("fill"),
        surround_call("surround"), max_pool_call("max", 1), max_pool_call("max by twos", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_bytes_are_right(machine: Machine):
    assert run(calls(machine.vector), machine) == []
