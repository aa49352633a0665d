"""f32_winograd against its naive twin, the interpreter and an error bound, for every VL."""

from dataclasses import dataclass, replace
from functools import cache
from math import ceil

import numpy as np
import pytest
from kernel_harness import VECTORS, at_page_end, call, check_gcc, compile_kernel, pointer, share
from test_kernels_conv import (
    ACT,
    ACT_ADD_ACT,
    ADD,
    ADD_ACT,
    SIGNATURE,
    Data,
    call_guarded,
    draw,
)
from test_kernels_conv import Case as Convolution

from depthwise.compiler.lowering.packing import pack_bias, pack_conv, round_up
from depthwise.compiler.lowering.winograd_weights import (
    PAIRS,
    pack_winograd,
    scratch_floats,
    transform_weight,
    weight_transform,
)


@dataclass(frozen=True)
class Case(Convolution):
    """A convolution of stride 1, and how it is cut into tiles."""

    kernel: tuple[int, int] = (3, 3)
    points: tuple[int, int] = (6, 6)
    batch: int = 4

    @property
    def outputs(self) -> tuple[int, int]:
        """The outputs of a tile, down and across."""
        down, across = (n - r + 1 for n, r in zip(self.points, self.kernel, strict=True))
        return down, across

    @property
    def exact(self) -> bool:
        """Whether small whole numbers, with weights that G divides, stay exact to the end."""
        return max(self.points) <= 6 or (min(self.points) == 1 and max(self.points) == 8)


ONE = (1, 1, 1, 1)
CASES = {
    # whole tiles, and planes that end 1, 2 and 3 pixels into one
    "8x8": Case((8, 8), 8, 16, padding=ONE),
    "one pixel": Case((1, 1), 1, 1, padding=ONE, epilogue=ACT),
    "9x10": Case((9, 10), 3, 5, padding=ONE, epilogue=ADD),
    "11x7": Case((11, 7), 17, 31, padding=ONE, tile=(3, 1), epilogue=ADD_ACT, gaps=(3, 5)),
    "3x13": Case((3, 13), 16, 33, padding=ONE, tile=(2, 2), epilogue=ACT_ADD_ACT),
    "no border": Case((10, 9), 20, 48, tile=(4, 3), batch=5),
    "border on two sides": Case((7, 7), 9, 12, padding=(2, 0, 0, 2), epilogue=ACT),
    "images": Case((5, 6), 24, 40, padding=ONE, images=3, batch=7, tile=(3, 2), gaps=(0, 9)),
    "a batch of one": Case((6, 9), 5, 19, padding=ONE, batch=1, tile=(1, 1)),
    "in place": Case((9, 9), 16, 32, padding=ONE, epilogue=ADD_ACT, in_place=True, gaps=(1, 4)),
    "blocks": Case((6, 6), 4, 75, padding=ONE, tile=(2, 2), epilogue=ADD),
    "panels of 16": Case((9, 6), 4, 75, padding=ONE, tile=(2, 2), panel=16, epilogue=ADD),
    "panels of 16, one tile": Case((6, 9), 6, 70, padding=ONE, batch=1, tile=(1, 4), panel=16),
    # other tiles
    "4x4 points": Case((7, 9), 10, 18, padding=ONE, points=(4, 4), epilogue=ACT, batch=6),
    "4x6 points": Case((7, 7), 33, 20, padding=ONE, points=(4, 6), images=2, epilogue=ADD),
    "6x4 points": Case((5, 8), 7, 16, padding=ONE, points=(6, 4), tile=(3, 1)),
    "8x8 points": Case((13, 8), 12, 17, padding=ONE, points=(8, 8), epilogue=ADD_ACT),
    # other windows, along one axis or both
    "2x2": Case((7, 6), 6, 16, (2, 2), padding=(1, 0, 1, 0), points=(4, 6)),
    "5x5": Case((6, 7), 5, 17, (5, 5), padding=(2, 2, 2, 2), epilogue=ADD),
    "5x5, 8x8 points": Case((9, 7), 16, 20, (5, 5), padding=(2, 2, 2, 2), points=(8, 8)),
    "1x3": Case((3, 11), 18, 35, (1, 3), padding=(0, 0, 1, 1), points=(1, 6), epilogue=ACT),
    "3x1": Case((11, 3), 18, 35, (3, 1), padding=(1, 1, 0, 0), points=(6, 1), epilogue=ADD),
    "1x7": Case((2, 9), 7, 16, (1, 7), padding=(0, 0, 3, 3), points=(1, 8), images=2),
    "7x1": Case((9, 3), 19, 24, (7, 1), padding=(3, 3, 0, 0), points=(8, 1), epilogue=ADD_ACT),
    "1x7, 10 points": Case((3, 17), 16, 16, (1, 7), padding=(0, 0, 3, 3), points=(1, 10)),
    "7x1, 10 points": Case((17, 2), 5, 33, (7, 1), padding=(3, 3, 0, 0), points=(10, 1),
                           epilogue=ACT_ADD_ACT),
    "3x7": Case((5, 6), 4, 7, (3, 7), padding=(1, 1, 3, 3), points=(6, 8)),
}  # fmt: skip


def winograd_call(case: Case) -> str:
    """Return a function's body that calls f32_winograd, which begins at the border."""
    image, row, pixel = case.in_strides
    top, _, left, _ = case.padding
    return call(
        "f32_winograd", f"in - {top * row + left * pixel}", "w", "b", "sum", "scratch", "out",
        images=case.images, rows=case.size[0], width=case.size[1], channels=case.channels,
        outs=case.outs, points_y=case.points[0], points_x=case.points[1], taps_y=case.kernel[0],
        taps_x=case.kernel[1], tile_pixels=case.tile[0], tile_vectors=case.tile[1],
        panel=case.panel, batch=case.batch, in_=(image, row, pixel), out=case.out_strides,
        sum=case.sum_strides, epilogue=case.epilogue,
    ) + ";"  # fmt: skip


def program(cases: dict[str, Case]) -> str:
    """Return C with one function a case."""
    lines = [f'#include "{header}.h"' for header in ("vector", "activation", "winograd")]
    signature = SIGNATURE.replace("float *out", "float *scratch, float *out")
    for number, (name, case) in enumerate(cases.items()):
        lines.append(f"void case_{number}({signature});  /* {name} */")
        lines.append(f"void case_{number}({signature}) {{\n{winograd_call(case)}\n}}")
    return "\n".join(lines) + "\n"


@cache
def library(vector: int, naive: bool):
    return compile_kernel(program(CASES), vector=vector, naive=naive)


def run(name: str, data: Data, packed: np.ndarray, vector: int, naive: bool) -> np.ndarray:
    """Return what the kernel makes of x and packed weights."""
    case, number = CASES[name], list(CASES).index(name)
    function = getattr(library(vector, naive), f"case_{number}")
    w, b = at_page_end(packed), at_page_end(pack_bias(data.bias, 1, laid(case, vector)[0]))
    floats = scratch_floats(case.points, case.channels, vector, case.tile[1], case.batch)
    scratch = pointer(at_page_end(np.full(floats, np.nan, np.float32)))
    return call_guarded(
        case, data, lambda x, added, out: function(x, pointer(w), pointer(b), added, scratch, out)
    )


def laid(case: Case, vector: int) -> tuple[int, int]:
    """Return the lanes and the vectors of a block, as the weights are packed."""
    return (case.panel, 1) if case.panel else (vector, case.tile[1])


def divisor(points: int) -> int:
    """Return by what weights must divide for G w to be a fraction of a power of two."""
    return {1: 1, 4: 1, 6: 9, 8: 45}[points]


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.exact])
def test_integers_are_exact(name, vector):
    case, rng = CASES[name], np.random.default_rng(1)
    data = draw(case, lambda shape: rng.integers(-1, 2, shape))
    # a tile reads some 6 pixels that are not 0: points such as 3/2 take 14 of the 24 bits for
    # fractions that cancel in the end
    some = rng.random(data.x.shape) < 6 / (case.channels * case.points[0] * case.points[1])
    data = replace(data, x=(data.x * some).astype(np.float32))
    scale = divisor(case.points[0]) * divisor(case.points[1])
    data = replace(data, weight=data.weight * scale)
    packed = pack_winograd(data.weight, case.points, *laid(case, vector))
    expected = data.expected(case)
    assert np.array_equal(run(name, data, packed, vector, naive=True), expected)
    assert np.array_equal(run(name, data, packed, vector, naive=False), expected)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("name", CASES)
def test_single_products_are_those_of_the_twin(name, vector):
    """One pixel a tile and one point a filter: each output is one product, of at most 24 bits."""
    case, rng = CASES[name], np.random.default_rng(3)
    data = draw(case, lambda shape: rng.integers(-2, 3, shape))
    kept = np.zeros(case.plane)
    kept[rng.integers(10) % case.plane[0] :: 10, rng.integers(10) % case.plane[1] :: 10] = 1
    data = replace(data, x=(data.x * kept).astype(np.float32))
    spectrum = np.zeros((case.outs, case.channels, *case.points), np.float32)
    flat = spectrum.reshape(case.outs, -1)
    flat[np.arange(case.outs), rng.integers(flat.shape[1], size=case.outs)] = 1
    packed = pack_conv(spectrum, 1, *laid(case, vector))
    found = run(name, data, packed, vector, naive=False)
    assert np.array_equal(found, run(name, data, packed, vector, naive=True))


def magnitude(case: Case, data: Data) -> np.ndarray:
    """Return |A'| (|B| |d| |B'| * |w|) |A| + |bias| + |summand|: what roundings are relative to."""
    down, across = (before(n) for n in case.points)
    after_y, after_x = (after(n, m) for n, m in zip(case.points, case.outputs, strict=True))
    weight = np.abs(transform_weight(data.weight, case.points))
    (my, mx), (height, width) = case.outputs, case.size
    tiles_y, tiles_x = ceil(height / my), ceil(width / mx)
    top, bottom, left, right = case.padding
    bottom += tiles_y * my - height
    right += tiles_x * mx - width
    x = np.abs(np.pad(data.x.astype(float), ((0, 0), (0, 0), (top, bottom), (left, right))))
    total = np.zeros((case.images, case.outs, tiles_y * my, tiles_x * mx))
    for y in range(0, tiles_y * my, my):
        for s in range(0, tiles_x * mx, mx):
            d = x[:, :, y : y + case.points[0], s : s + case.points[1]]
            v = np.einsum("ir,ncrs,js->ncij", down, d, across)
            m = np.einsum("ncij,kcij->nkij", v, weight)
            total[:, :, y : y + my, s : s + mx] = np.einsum("yi,nkij,xj->nkyx", after_y, m, after_x)
    biased = total[:, :, :height, :width] + np.abs(data.bias)[:, None, None]
    return biased + np.abs(data.summand)


def finite(points: int) -> list[float]:
    return [0.0, *(float(sign * a) for a in PAIRS[points] for sign in (1, -1))]


def before(points: int) -> np.ndarray:
    """Return |B|, from products of (x - a_j)."""
    if points == 1:
        return np.ones((1, 1))
    at = finite(points)
    rows = [np.poly([a for a in at if a != left])[::-1] for left in (*at, np.inf)]
    return np.abs([[*row, *[0] * (points - len(row))] for row in rows])


def after(points: int, outputs: int) -> np.ndarray:
    """Return |A'|: powers of the points, and infinity's column."""
    if points == 1:
        return np.ones((1, 1))
    powers = [[*(a**y for a in finite(points)), y == outputs - 1] for y in range(outputs)]
    return np.abs(np.array(powers, float))


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("name", CASES)
def test_floats_are_within_the_bound(name, vector):
    """A term passes at most so many roundings: both transforms down and across, and the sum.

    Each multiplies it by at most 1 + eps / 2; the weights bring one more.
    """
    case, rng = CASES[name], np.random.default_rng(2)
    data = draw(case, rng.standard_normal)
    packed = pack_winograd(data.weight, case.points, *laid(case, vector))
    roundings = case.channels + 2 * sum(case.points) + sum(case.outputs) + 6
    bound = roundings * np.finfo(np.float32).eps / 2 * magnitude(case, data)
    expected = data.expected(case, np.float64)
    for naive in (True, False):
        error = np.abs(run(name, data, packed, vector, naive=naive) - expected)
        assert (error <= bound).all(), (error / bound).max()


@pytest.mark.parametrize("vector", VECTORS)
def test_gcc_has_nothing_to_say(vector):
    check_gcc(program(share(CASES, vector)), vector=vector)


@pytest.mark.slow
@pytest.mark.parametrize("vector", VECTORS)
def test_gcc_has_nothing_to_say_of_any_case(vector):
    check_gcc(program(CASES), vector=vector)


@pytest.mark.parametrize("points", PAIRS)
def test_the_weights_transform_inverts_the_others(points):
    """With r taps a tile of one output is a dot product: A' (G w * B d) = w . d."""
    G, divisors = weight_transform(points, points)
    at = finite(points)
    rows = [np.poly([a for a in at if a != left])[::-1] for left in (*at, np.inf)]
    B = np.array([[*row, *[0] * (points - len(row))] for row in rows])
    np.testing.assert_allclose((G.T / divisors) @ B, np.eye(points), atol=1e-9)


def test_pack_winograd_rounds_up_outputs_with_zeros():
    packed = pack_winograd(np.ones((5, 2, 3, 3), np.float32), (6, 4), 4, 1)
    assert packed.size == round_up(5, 4) * 2 * 24
    assert not packed.reshape(2, 24, 2, 4)[1, ..., 1:].any()
