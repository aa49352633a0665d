"""f32_conv and f32_depthwise against their naive twins and the interpreter, for every VL."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from kernel_harness import (
    VECTORS,
    at_page_end,
    call,
    compile_by_gcc,
    compile_kernel,
    pointer,
    share,
)

from depthwise.compiler.lowering.packing import (
    conv_tile,
    default_tile,
    pack_bias,
    pack_conv,
    pack_conv_bias,
    pack_depthwise,
)
from depthwise.graph import ops
from depthwise.graph.interpret import evaluate
from depthwise.runtime.target import find_target

V4 = find_target("x86-64-v4")

UNTOUCHED = -77.25  # no result is this
Act = ops.Activation | None


@dataclass(frozen=True)
class Epilogue:
    """out = after(before(acc) + (add ? sum : 0)); all of these are exact on small integers."""

    before: Act = None
    add: bool = False
    after: Act = None

    def __str__(self) -> str:
        def literal(f: Act) -> str:
            if f is None:
                return "{ACT_NONE, 0, 0}"
            a, b = (*f.parameters, 0, 0)[:2]
            return f"{{ACT_{f.function.upper()}, {a}, {b}}}"

        return (
            f"(struct epilogue){{{literal(self.before)}, {int(self.add)}, {literal(self.after)}}}"
        )

    def __call__(self, acc: np.ndarray, other: np.ndarray) -> np.ndarray:
        y = acc if self.before is None else evaluate(self.before, acc)
        y = y + other if self.add else y
        return y if self.after is None else evaluate(self.after, y)


RELU6, LEAKY = ops.Activation("relu6"), ops.Activation("leaky_relu", (0.5,))
PLAIN, ACT = Epilogue(), Epilogue(before=RELU6)
ADD, ADD_ACT = Epilogue(add=True), Epilogue(add=True, after=ops.Activation("relu"))
ACT_ADD_ACT = Epilogue(LEAKY, True, ops.Activation("clamp", (-3.0, 40.0)))


@dataclass(frozen=True)
class Case:
    """One convolution, and how it lies in memory: gaps are floats after each pixel."""

    plane: tuple[int, int]
    channels: int
    outs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    images: int = 1
    epilogue: Epilogue = PLAIN
    tile: tuple[int, int] = (7, 2)
    depth: int = 1
    over_rows: int = 0
    panel: int = 0
    weights_outer: int = 0
    near: int = 0
    prefetch: tuple[int, int] = (0, 0)  # lines, and before how many channels of a tap
    gaps: tuple[int, int] = (0, 0)  # in, out
    in_place: bool = False  # the summand lies where the result goes
    unused: tuple[int, int, int, int] = (0, 0, 0, 0)  # taps of w above, below, left, right of these

    @property
    def op(self) -> ops.Conv2d:
        return ops.Conv2d(self.stride, ops.Padding(*self.padding), self.dilation, self.groups)

    @property
    def size(self) -> tuple[int, int]:
        """The rows and columns of the output."""
        pads = (sum(self.padding[:2]), sum(self.padding[2:]))
        axes = zip(self.plane, pads, self.kernel, self.stride, self.dilation, strict=True)
        height, width = ((n + p - d * (k - 1) - 1) // s + 1 for n, p, k, s, d in axes)
        return height, width

    @property
    def in_strides(self) -> tuple[int, int, int]:
        """The floats from one image, row and pixel of the padded input to the next."""
        top, bottom, left, right = self.padding
        pixel = self.channels + self.gaps[0]
        row = (self.plane[1] + left + right) * pixel
        return (self.plane[0] + top + bottom) * row, row, pixel

    @property
    def out_strides(self) -> tuple[int, int, int]:
        pixel = self.outs + self.gaps[1]
        row = self.size[1] * pixel + self.gaps[1]
        return self.size[0] * row + self.gaps[1], row, pixel

    @property
    def sum_strides(self) -> tuple[int, int, int]:
        if self.in_place:
            return self.out_strides
        return self.size[0] * self.size[1] * self.outs, self.size[1] * self.outs, self.outs


SAME3, SAME5 = (1, 1, 1, 1), (2, 2, 2, 2)

CONV = {
    # pointwise: channels of 1, primes, one below and above a tile; widths with every remainder
    "1x1 of 1": Case((1, 1), 1, 1),
    "1x1 prime": Case((3, 5), 7, 13, tile=(3, 1), epilogue=ACT),
    "1x1 below tile": Case((2, 6), 5, 31, epilogue=ADD),
    "1x1 tile": Case((2, 7), 5, 32, epilogue=ADD_ACT),
    "1x1 above tile": Case((2, 8), 5, 33, epilogue=ACT_ADD_ACT),
    "1x1 three blocks": Case((1, 29), 9, 75, tile=(14, 2), images=2, epilogue=ACT, gaps=(3, 5)),
    "1x1 panel": Case((1, 29), 9, 75, tile=(6, 3), images=2, weights_outer=1, prefetch=(5, 0),
                      gaps=(1, 2), epilogue=ADD),
    "1x1 wide tile": Case((1, 3), 17, 130, tile=(1, 8), weights_outer=1),
    "1x1 tall tile": Case((1, 35), 3, 5, tile=(16, 1), epilogue=ADD_ACT, gaps=(0, 7)),
    "1x1 strided": Case((7, 9), 6, 20, stride=(2, 3), images=3),
    "1x1 in place": Case((4, 5), 8, 24, epilogue=ADD_ACT, in_place=True, gaps=(0, 4)),
    "linear": Case((1, 5), 37, 41, tile=(4, 3), weights_outer=1, epilogue=ACT),
    # taps: all of them at negative offsets, some, none
    "3x3": Case((5, 8), 3, 16, (3, 3), padding=(1, 1, 1, 1), epilogue=ACT),
    "3x3 first layer": Case((11, 13), 3, 32, (3, 3), (2, 2), padding=(0, 1, 0, 1), tile=(7, 2)),
    "3x3 dilated": Case((9, 10), 4, 9, (3, 3), dilation=(2, 3), padding=(2, 2, 3, 3), images=2),
    "3x3 panel, gaps": Case((6, 7), 5, 40, (3, 3), padding=(1, 1, 1, 1), weights_outer=1,
                            prefetch=(1, 2), near=3, gaps=(2, 6), images=2, epilogue=ACT_ADD_ACT),
    "5x2 asymmetric": Case((8, 9), 2, 17, (5, 2), (3, 2), padding=(3, 1, 2, 0), tile=(2, 1)),
    "2x2 behind": Case((4, 4), 3, 8, (2, 2), padding=(2, 0, 2, 0), epilogue=ADD),
    "7x7": Case((9, 9), 3, 12, (7, 7), (2, 2), padding=(3, 3, 3, 3)),
    # groups: the last vector of one group must not touch the next
    "2 groups": Case((4, 5), 6, 34, (3, 3), padding=(1, 1, 1, 1), groups=2, epilogue=ADD_ACT),
    "8 groups of 4": Case((5, 6), 32, 32, (3, 3), padding=(1, 1, 1, 1), groups=8, weights_outer=1),
    "5 groups of 3 to 7": Case((3, 4), 15, 35, groups=5, images=2, gaps=(1, 1), epilogue=ACT),
    # depth: sums added across 2 or 4 lanes; one, two or three vectors left, pixels that share none
    "depth 2, below half": Case((2, 9), 4, 5, tile=(5, 1), depth=2, epilogue=ADD_ACT, gaps=(3, 5)),
    "depth 2, 8 of 16": Case((3, 7), 16, 8, tile=(16, 1), depth=2, gaps=(0, 8), epilogue=ACT),
    "depth 2, odd vectors": Case((2, 7), 6, 24, tile=(4, 3), depth=2, epilogue=ADD),
    "depth 2, blocks": Case((2, 9), 10, 75, tile=(3, 3), depth=2, images=2, epilogue=ACT_ADD_ACT,
                            gaps=(2, 1)),
    "depth 2, panel": Case((1, 11), 6, 52, tile=(2, 5), depth=2, weights_outer=1, epilogue=ADD),
    "depth 2, taps": Case((6, 7), 6, 20, (3, 3), (2, 1), padding=SAME3, tile=(3, 2), depth=2),
    "depth 2, groups": Case((3, 5), 8, 22, groups=2, tile=(4, 2), depth=2, in_place=True,
                            epilogue=ADD, gaps=(0, 3)),
    "depth 4, 8 outputs": Case((2, 7), 8, 8, tile=(5, 2), depth=4, epilogue=ADD_ACT, gaps=(0, 8)),
    "depth 4, 12 outputs": Case((2, 9), 12, 12, tile=(7, 3), depth=4, epilogue=ADD, gaps=(0, 12)),
    "depth 4, prime": Case((3, 9), 8, 13, tile=(6, 1), depth=4, images=2, epilogue=ACT_ADD_ACT),
    "depth 4, five vectors": Case((4, 7), 8, 20, tile=(5, 5), depth=4, epilogue=ADD_ACT,
                                  gaps=(4, 0), in_place=True),
    "depth 4, blocks": Case((2, 9), 4, 77, tile=(2, 6), depth=4, epilogue=ACT),
    "depth 4, panel": Case((1, 10), 8, 75, tile=(3, 4), depth=4, weights_outer=1, epilogue=ADD,
                           prefetch=(2, 4), near=8),
    "depth 4, taps and groups": Case((5, 6), 16, 18, (3, 2), padding=(1, 1, 1, 0), groups=2,
                                     tile=(4, 3), depth=4, epilogue=ADD),
    "depth 4, a lone pixel": Case((1, 1), 20, 3, tile=(1, 1), depth=4, epilogue=ACT),
    # panels that are a part of a tile, a tile, and several tiles with a part of one left
    "panels of 16": Case((2, 9), 10, 75, tile=(3, 2), panel=16, epilogue=ADD, gaps=(2, 1)),
    "panels of 16, four vectors": Case((1, 11), 6, 140, tile=(2, 4), panel=16, weights_outer=1),
    "panels of 16, taps": Case((6, 7), 6, 36, (3, 3), (2, 1), padding=SAME3, tile=(4, 1), panel=16,
                               images=2, epilogue=ACT),
    "panels of 16, groups": Case((3, 5), 8, 44, groups=2, tile=(4, 2), panel=16, in_place=True,
                                 epilogue=ADD, gaps=(0, 3)),
    # tiles over the ends of rows: at every place of a row, with and without pixels left
    "over rows": Case((7, 7), 5, 33, tile=(6, 2), over_rows=1, gaps=(3, 2), epilogue=ADD_ACT),
    "over rows, panel": Case((3, 7), 9, 40, tile=(6, 2), over_rows=1, weights_outer=1, images=2,
                             gaps=(1, 5), epilogue=ADD, in_place=True, prefetch=(1, 4), near=2),
    "over rows of a tile": Case((5, 4), 6, 20, tile=(4, 3), over_rows=1, gaps=(2, 0), images=2),
    "over rows, taps": Case((9, 10), 3, 18, (3, 3), (2, 2), padding=SAME3, tile=(3, 2), over_rows=1,
                            gaps=(0, 1), images=2, epilogue=ACT),
    "over rows, depth 2": Case((4, 7), 6, 64, tile=(5, 2), depth=2, over_rows=1, gaps=(2, 3),
                               epilogue=ADD_ACT),
    "over rows, groups": Case((3, 5), 8, 36, groups=2, tile=(4, 1), over_rows=1, gaps=(1, 3)),
    # weights of more taps than the call has
    "2x2 of 3x4": Case((5, 8), 6, 40, (2, 2), unused=(1, 0, 0, 2), epilogue=ADD_ACT),
    "1x1 of 3x3, panel": Case((3, 9), 5, 75, tile=(4, 3), weights_outer=1, images=2, near=2,
                              unused=(1, 1, 1, 1)),
    "3x2 of 4x3, depth 4": Case((6, 7), 8, 45, (3, 2), dilation=(2, 3), tile=(3, 6), depth=4,
                                unused=(0, 1, 1, 0), epilogue=ACT),
    "2x3 of 3x3, panels of 16": Case((6, 9), 8, 100, (2, 3), groups=2, tile=(3, 4), panel=16,
                                     unused=(1, 0, 0, 0), prefetch=(1, 2)),
    "multiplier 3": Case((5, 5), 4, 12, (3, 3), (2, 2), padding=(1, 1, 1, 1), groups=4),
}  # fmt: skip


def depthwise(plane, channels, kernel, stride=1, **options) -> Case:
    return Case(
        plane, channels, channels, (kernel, kernel), (stride, stride), groups=channels, **options
    )


DEPTHWISE = {
    "1 channel": depthwise((4, 4), 1, 3),
    "3x3": depthwise((7, 14), 16, 3, padding=SAME3, epilogue=ACT),
    "3x3 odd": depthwise((5, 11), 37, 3, padding=SAME3, images=2, epilogue=ADD_ACT),
    "3x3 eights": depthwise((4, 16), 33, 3, padding=SAME3, gaps=(3, 5), epilogue=ACT_ADD_ACT),
    "3x3 stride 2": depthwise((11, 17), 24, 3, 2, padding=SAME3, epilogue=ACT),
    "3x3 stride 2 below": depthwise((8, 8), 15, 3, 2, padding=(0, 1, 0, 1), gaps=(1, 0)),
    "3x3 in strips": depthwise((7, 58), 56, 3, padding=SAME3, epilogue=ACT),
    "3x3 stride 2 in strips": depthwise((5, 31), 68, 3, 2, padding=(1, 0, 1, 0), epilogue=ADD),
    "3x3 two tiles a vector": depthwise((5, 23), 24, 3, padding=SAME3, epilogue=ADD_ACT),
    "3x3 four tiles a vector": depthwise((5, 59), 36, 3, padding=SAME3, epilogue=ADD, in_place=True,
                                         gaps=(0, 1)),
    "3x3 half and quarter vectors": depthwise((3, 57), 11, 3, 2, padding=SAME3, images=2),
    "7x7 two tiles a vector": depthwise((4, 14), 6, 7, padding=(3, 3, 3, 3), epilogue=ACT),
    "3x3 dilated two tiles a vector": depthwise((6, 20), 8, 3, dilation=(2, 2)),
    "3x3 stride 3": depthwise((10, 25), 7, 3, 3, padding=SAME3, images=2),
    "3x3 in place": depthwise((6, 9), 19, 3, padding=SAME3, gaps=(0, 2), epilogue=ADD,
                              in_place=True),
    "5x5": depthwise((6, 9), 40, 5, padding=SAME5, epilogue=ACT),
    "5x5 stride 2": depthwise((9, 15), 17, 5, 2, padding=SAME5, epilogue=ADD),
    "7x7": depthwise((9, 10), 18, 7, padding=(3, 3, 3, 3), images=2, epilogue=ACT),
    "7x7 global": depthwise((7, 7), 65, 7),
    "17x17": depthwise((18, 19), 5, 17, padding=(3, 3, 3, 3)),
    "1x1": depthwise((3, 8), 31, 1, epilogue=ADD),
    "1x1 stride 9": depthwise((10, 64), 3, 1, 9),
    "7x7 stride 2": depthwise((13, 17), 17, 7, 2, padding=(3, 3, 3, 3), epilogue=ADD_ACT),
    "9x9 stride 5": depthwise((19, 40), 18, 9, 5),
    "3x3 dilated": depthwise((9, 12), 20, 3, dilation=(2, 2), padding=(2, 2, 2, 2), epilogue=ACT),
    "3x3 dilated down": replace(
        depthwise((9, 9), 12, 3, dilation=(3, 1), padding=(3, 3, 1, 1)), stride=(2, 1)
    ),
    "3x2 dilated across": replace(
        depthwise((8, 15), 36, 3, dilation=(1, 4), gaps=(4, 4)), kernel=(3, 2), stride=(1, 2)
    ),
    "1x5": replace(depthwise((4, 18), 48, 1, padding=(0, 0, 2, 2)), kernel=(1, 5)),
}  # fmt: skip

SIGNATURE = "const float *in, const float *w, const float *b, const float *sum, float *out"


def ints(*numbers: int) -> str:
    return ", ".join(map(str, numbers))


def conv_call(case: Case) -> str:
    """Return a function's body that calls f32_conv."""
    image, row, pixel = case.in_strides
    top, _, left, _ = case.padding
    R, S = case.kernel
    above, below, before, after = case.unused
    taps = [
        (r * case.dilation[0] - top) * row + (s * case.dilation[1] - left) * pixel
        for r in range(R)
        for s in range(S)
    ]
    return f"static const int taps[] = {{{ints(*taps)}}};\n" + call(
        "f32_conv", "in", "w", "b", "sum", "w", "out", images=case.images, rows=case.size[0],
        width=case.size[1], taps=R * S, channels=case.channels // case.groups,
        outs=case.outs // case.groups, groups=case.groups, tile_pixels=case.tile[0],
        tile_vectors=case.tile[1], over_rows=case.over_rows, tile_depth=case.depth,
        panel=case.panel, weights_outer=int(case.weights_outer), near_steps=case.near,
        prefetch_lines=case.prefetch[0], prefetch_steps=case.prefetch[1],
        in_=(image, row * case.stride[0], pixel * case.stride[1]),
        out=case.out_strides, sum=case.sum_strides, epilogue=case.epilogue, offsets="taps",
        w_taps=(R + above + below) * (S + before + after),
        w_first=above * (S + before + after) + before, w_run=S, w_skip=before + after,
    ) + ";"  # fmt: skip


def depthwise_call(case: Case, total: str = "0", total_strides: Sequence[int] = (0, 0)) -> str:
    """Return a function's body that calls f32_depthwise, which begins at the border."""
    image, row, pixel = case.in_strides
    top, _, left, _ = case.padding
    R, S = case.kernel
    return call(
        "f32_depthwise", f"in - {top * row + left * pixel}", "w", "b", "sum", total, "out",
        images=case.images, rows=case.size[0], width=case.size[1], channels=case.channels, R=R, S=S,
        in_=(image, row, pixel), stride_y=case.stride[0], stride_x=case.stride[1],
        dilation_y=case.dilation[0], dilation_x=case.dilation[1], out=case.out_strides,
        sum=case.sum_strides, w_tap=f"({case.channels} + VL - 1) / VL * VL",
        total_image=total_strides[0], total_row=total_strides[1], epilogue=case.epilogue,
    ) + ";"  # fmt: skip


CASES = {("conv", name): case for name, case in CONV.items()}
CASES |= {("depthwise", name): case for name, case in DEPTHWISE.items()}


def program(cases: dict[tuple[str, str], Case]) -> str:
    """Return C with one function a case."""
    headers = ("vector.h", "activation.h", "conv.h", "depthwise.h")
    lines = [f'#include "{header}"' for header in headers]
    for number, ((kernel, name), case) in enumerate(cases.items()):
        body = conv_call(case) if kernel == "conv" else depthwise_call(case)
        lines.append(f"void case_{number}({SIGNATURE});  /* {kernel}: {name} */")
        lines.append(f"void case_{number}({SIGNATURE}) {{\n{body}\n}}")
    return "\n".join(lines) + "\n"


@cache
def library(vector: int, naive: bool):
    return compile_kernel(program(CASES), vector=vector, naive=naive)


@dataclass(frozen=True)
class Data:
    """x (N, C, H, W), weight (K, C / groups, R, S), bias (K), summand (N, K, H', W')."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    summand: np.ndarray

    def expected(self, case: Case, dtype: type = np.float32) -> np.ndarray:
        x, weight, bias, summand = (
            a.astype(dtype) for a in (self.x, self.weight, self.bias, self.summand)
        )
        return case.epilogue(evaluate(case.op, x, weight, bias), summand)


def draw(case: Case, sample) -> Data:
    """Return data whose elements sample(shape) gives."""
    C, K, N = case.channels, case.outs, case.images
    shapes = ((N, C, *case.plane), (K, C // case.groups, *case.kernel), (K,), (N, K, *case.size))
    return Data(*(sample(shape).astype(np.float32) for shape in shapes))


def lay_out(x: np.ndarray, strides: tuple[int, int, int], fill: float) -> np.ndarray:
    """Return x (N, C, H, W) channels last with these strides, `fill` in the gaps, as one axis."""
    shape = tuple(np.array(x.shape)[[0, 2, 3, 1]])
    steps = (*strides, 1)
    flat = np.full(
        sum((n - 1) * s for n, s in zip(shape, steps, strict=True)) + 1, fill, np.float32
    )
    np.lib.stride_tricks.as_strided(flat, shape, [4 * s for s in steps])[...] = x.transpose(
        0, 2, 3, 1
    )
    return flat


def call_guarded(case: Any, data: Data, call: Callable[..., Any]) -> np.ndarray:
    """Return what call(x, sum, out) writes, and check that it writes nowhere else.

    The three are pointers to memory laid out as the case says, which ends with its page.
    """
    top, bottom, left, right = case.padding
    padded = np.pad(data.x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    x = at_page_end(lay_out(padded, case.in_strides, np.nan))
    first = top * case.in_strides[1] + left * case.in_strides[2]
    empty = np.full_like(data.summand, UNTOUCHED)
    out = lay_out(data.summand if case.in_place else empty, case.out_strides, UNTOUCHED)
    out = at_page_end(np.concatenate([np.full(32, UNTOUCHED, np.float32), out]))
    summand = None
    if case.epilogue.add and not case.in_place:
        summand = at_page_end(lay_out(data.summand, case.sum_strides, np.nan))
    sum_at = pointer(out, 32) if case.in_place else pointer(summand)
    call(pointer(x, first), sum_at, pointer(out, 32))
    n, k, height, width = data.summand.shape
    steps = [4 * s for s in (*case.out_strides, 1)]
    view = np.lib.stride_tricks.as_strided(out[32:], (n, height, width, k), steps)
    result = view.transpose(0, 3, 1, 2).copy()
    view[...] = UNTOUCHED
    assert (out == UNTOUCHED).all(), "written outside of the output"
    return result


def run(key: tuple[str, str], data: Data, vector: int, naive: bool) -> np.ndarray:
    """Return what the kernel makes of the data."""
    number = list(CASES).index(key)
    return run_by(getattr(library(vector, naive), f"case_{number}"), key, data, vector)


def run_by(function: Any, key: tuple[str, str], data: Data, vector: int) -> np.ndarray:
    """Return what a compiled case makes of the data."""
    case = CASES[key]
    if key[0] == "conv":
        layout = (vector, case.tile[1], case.depth) if not case.panel else (case.panel, 1, 1)
        layout = case.groups, *layout
        around = ((0, 0), (0, 0), case.unused[:2], case.unused[2:])
        weight = pack_conv(np.pad(data.weight, around, constant_values=np.nan), *layout)
        bias = pack_conv_bias(data.bias, *layout)
    else:
        weight, bias = pack_depthwise(data.weight, vector), pack_bias(data.bias, 1, vector)
    w, b = at_page_end(weight), at_page_end(bias)
    return call_guarded(
        case, data, lambda x, added, out: function(x, pointer(w), pointer(b), added, out)
    )


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("key", CASES, ids=" ".join)
def test_integers_are_exact(key, vector):
    rng = np.random.default_rng(1)
    data = draw(CASES[key], lambda shape: rng.integers(-4, 5, shape))
    expected = data.expected(CASES[key])
    assert np.array_equal(run(key, data, vector, naive=True), expected)
    assert np.array_equal(run(key, data, vector, naive=False), expected)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("key", CASES, ids=" ".join)
def test_floats_are_within_the_bound(key, vector):
    """n roundings of a sum of n terms: at most n · eps · the sum of the absolute values."""
    case = CASES[key]
    rng = np.random.default_rng(2)
    data = draw(case, rng.standard_normal)
    sizes = Data(*(np.abs(a) for a in (data.x, data.weight, data.bias, data.summand)))
    total = replace(case, epilogue=ADD)
    terms = data.weight[0].size + 4
    bound = terms * np.finfo(np.float32).eps * sizes.expected(total, np.float64)
    error = np.abs(run(key, data, vector, naive=False) - data.expected(case, np.float64))
    assert (error <= bound).all(), (error / bound).max()


def check_by_gcc(cases: dict[tuple[str, str], Case], vector: int) -> None:
    """Check that gcc has nothing to say of the cases, and what it makes of them."""
    built = compile_by_gcc(program(cases), vector=vector)
    rng = np.random.default_rng(1)
    for number, (key, case) in enumerate(cases.items()):
        data = draw(case, lambda shape: rng.integers(-4, 5, shape))
        found = run_by(getattr(built, f"case_{number}"), key, data, vector)
        assert np.array_equal(found, data.expected(case)), key


@pytest.mark.parametrize("vector", VECTORS)
def test_integers_are_exact_by_gcc(vector):
    check_by_gcc(share(CASES, vector), vector)


@pytest.mark.slow
@pytest.mark.parametrize("vector", VECTORS)
def test_integers_of_any_case_are_exact_by_gcc(vector):
    check_by_gcc(CASES, vector)


def test_pack_conv_lays_channels_side_by_side():
    weight = np.arange(10.0, 34).reshape(6, 4, 1, 1)  # of output k and channel c: 10 + 4 k + c
    packed = pack_conv(weight, groups=1, lanes=4, vectors=3, depth=2).reshape(2, 3, 4)
    pairs = packed.reshape(2, 3, 2, 2)[..., 0]
    outs = (pairs[0] - 10) / 4
    # two vectors are added across: output o lies in vector o % 2, group o / 2; one vector is left
    assert outs.tolist() == [[0, 2], [1, 3], [4, 5]]
    assert np.array_equal(pairs[1], pairs[0] + 2)
    assert np.array_equal(packed[..., 1::2], packed[..., ::2] + 1)


def test_pack_conv_bias_stands_beside_zeros():
    packed = pack_conv_bias(np.arange(1.0, 4), groups=1, lanes=8, vectors=1, depth=4)
    assert packed.reshape(2, 2, 4)[..., 0].tolist() == [[1, 2], [3, 0]]
    assert not packed.reshape(2, 2, 4)[..., 1:].any()


def test_pack_conv_puts_blocks_of_outputs_last():
    weight = np.arange(1, 1 + 5 * 2 * 1 * 2).reshape(5, 2, 1, 2).astype(np.float32)
    packed = pack_conv(weight, groups=1, lanes=2, vectors=2)
    block = packed[: 2 * 2 * 4].reshape(2, 2, 4)  # tap, c, k
    assert np.array_equal(block, weight[:4, :, 0, :].transpose(2, 1, 0))
    last = packed[2 * 2 * 4 :].reshape(2, 2, 2)
    assert np.array_equal(last[..., 0], weight[4, :, 0, :].T)
    assert not last[..., 1].any()


def test_pack_names_what_does_not_fit():
    with pytest.raises(ValueError, match="7 output channels in 2 groups"):
        pack_conv(np.zeros((7, 1, 1, 1)), 2, 4, 1)
    with pytest.raises(ValueError, match="6 input channels, 4 at once"):
        pack_conv(np.zeros((4, 6, 1, 1)), 1, 8, 1, 4)
    with pytest.raises(ValueError, match=r"\(4, 2, 3, 3\).*depthwise"):
        pack_depthwise(np.zeros((4, 2, 3, 3)), 4)


@pytest.mark.parametrize("width", [1, 2, 7, 13, 14, 49, 112, 3136])
@pytest.mark.parametrize("outs", [1, 4, 24, 144, 1000])
@pytest.mark.parametrize(("lanes", "registers"), [(16, 32), (8, 16), (4, 32), (4, 16)])
def test_default_tile_fits_registers_row_and_outputs(lanes, registers, width, outs):
    pixels, vectors = default_tile(lanes, registers, width, outs)
    assert 1 <= pixels <= min(width, 16)
    assert 1 <= vectors <= -(-outs // lanes)
    assert pixels * vectors + vectors + 1 < registers


def test_default_tile_leaves_no_remainder_where_it_can():
    assert default_tile(16, 32, 196, 512) == (6, 4)
    assert default_tile(16, 32, 7, 48) == (7, 3)
    assert default_tile(16, 32, 3136, 32) == (14, 2)
    assert default_tile(8, 16, 112, 32)[1] in (2, 4)
    assert default_tile(16, 32, 1, 1000)[1] == 8  # a lone pixel needs vectors to hide the latency


@pytest.mark.parametrize("channels", [3, 6, 16, 72])
@pytest.mark.parametrize("outs", [1, 8, 12, 20, 24, 36, 64])
@pytest.mark.parametrize(
    "target", [V4, find_target("x86-64-v3"), find_target("aarch64")], ids=lambda t: t.name
)
def test_conv_tile_fits_registers_and_channels(target, outs, channels):
    (pixels, vectors, depth), _ = conv_tile(target, 56, outs, channels, 1)
    assert vectors <= -(-outs * depth // target.lanes)
    assert pixels * vectors + vectors + 1 < target.registers
    assert channels % depth == 0
    assert depth == 1 or target.lanes > 4


def test_conv_tile_goes_deep_for_few_outputs():
    depths = {
        (channels, outs): conv_tile(V4, 56, outs, channels, 1)[0][2]
        for channels, outs in [(16, 8), (72, 12), (60, 20), (24, 36), (512, 512), (3, 24)]
    }
    assert list(depths.values()) == [2, 4, 4, 2, 1, 1]
