"""Deformable convolution in C: against its naive twin, the interpreter and torchvision."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from kernel_harness import VECTORS, at_page_end, call, check_gcc, compile_kernel, pointer
from torchvision.ops import deform_conv2d

from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.fused_ops import Epilogue, Fused
from depthwise.compiler.lowering import conv  # noqa: F401  (it registers itself)
from depthwise.compiler.lowering.deform import STRIP_FLOATS
from depthwise.compiler.lowering.packing import pack_bias, pack_conv
from depthwise.compiler.planning import make_plan
from depthwise.graph import Graph, Node, Output, TensorType, ops
from depthwise.graph.graph import Constant
from depthwise.graph.infer import infer_shape
from depthwise.graph.interpret import evaluate
from depthwise.graph.ops import Padding
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import check_runs_here, find_target
from depthwise.toolchain.build import compile_c

EPS = 2.0**-24  # of a rounding to float32
HEADERS = "".join(f'#include "{name}.h"\n' for name in ("vector", "activation", "conv", "deform"))
PLAIN = "{{ACT_NONE, 0, 0}, 0, {ACT_NONE, 0, 0}}"
FULL = "{{ACT_RELU, 0, 0}, 1, {ACT_LEAKY_RELU, 0.5f, 0}}"


class Plane(NamedTuple):
    """A tensor as it lies in memory: channels last, with gaps between pixels and rows."""

    memory: np.ndarray
    strides: tuple[int, int, int]  # image, row, pixel
    shape: tuple[int, ...]

    def gaps(self):
        """Return memory that no element lies in."""
        outside = np.ones(self.memory.size, bool)
        outside[self._index().ravel()] = False
        return self.memory[outside]

    def values(self):
        return self.memory[self._index()]

    def _index(self):
        n, c, y, x = np.ogrid[tuple(slice(size) for size in self.shape)]
        image, row, pixel = self.strides
        return n * image + c + y * row + x * pixel


def lay(values, gap=0, filled=np.nan):
    """Lay (N, C, H, W) with `gap` floats after each pixel and row, right up to the memory's end."""
    n, c, h, w = values.shape
    pixel = c + gap
    row = w * pixel + gap
    plane = Plane(np.zeros(0), (h * row, row, pixel), values.shape)
    last = (n - 1) * h * row + (h - 1) * row + (w - 1) * pixel + c  # no gap after the last one
    memory = at_page_end(np.full(last, filled, np.float32))
    plane = plane._replace(memory=memory)
    memory[plane._index()] = values
    return plane


def numbers(*values):
    """Write integers as C arguments."""
    return ", ".join(str(int(value)) for value in values)


# ---------------------------------------------------------------- deformable convolution


@dataclass(frozen=True)
class Deform:
    """Channels, outs, planes and the strip of one deformable convolution."""

    channels: int
    outs: int
    size: tuple[int, int]
    strip: tuple[int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    offset_groups: int = 1
    tile: tuple[int, int] = (4, 2)
    images: int = 1
    masked: bool = False
    residual: bool = False
    weights_outer: int = 0
    gap: int = 0

    @property
    def op(self):
        pad_y, pad_x = self.padding
        padding = Padding(pad_y, pad_y, pad_x, pad_x)
        return ops.DeformConv2d(
            self.stride, padding, self.dilation, self.groups, self.offset_groups
        )


# fmt: off
DEFORMS = {
    "one channel":      Deform(1, 1, (3, 3), (1, 3)),
    "one pixel":        Deform(3, 2, (1, 1), (1, 1), padding=(1, 1)),
    "tail of 3":        Deform(3, 5, (6, 7), (1, 4), gap=3),
    "prime":            Deform(13, 17, (5, 5), (2, 5), images=2),
    "a vector":         Deform(16, 16, (4, 6), (3, 6), masked=True),
    "above a vector":   Deform(17, 33, (4, 5), (1, 3), masked=True, gap=1, images=2),
    "below a vector":   Deform(15, 15, (4, 4), (4, 4)),
    "stride":           Deform(8, 6, (9, 8), (1, 2), stride=(2, 3)),
    "dilation":         Deform(4, 4, (7, 9), (2, 9), padding=(2, 3), dilation=(2, 3)),
    "kernel 1 x 5":     Deform(5, 4, (3, 9), (3, 9), kernel=(1, 5), padding=(0, 2)),
    "kernel 2 x 1":     Deform(5, 4, (4, 4), (1, 4), kernel=(2, 1), padding=(0, 0)),
    "groups":           Deform(12, 9, (5, 6), (1, 5), groups=3, masked=True),
    "depthwise":        Deform(6, 6, (4, 5), (2, 5), groups=6),
    "offset groups":    Deform(20, 4, (5, 5), (1, 5), offset_groups=4, masked=True, images=2),
    "runs of a vector": Deform(32, 4, (3, 5), (3, 5), offset_groups=2),
    "all groups":       Deform(12, 8, (5, 5), (2, 5), groups=2, offset_groups=3, gap=2),
    "groups of groups": Deform(12, 8, (5, 5), (2, 5), groups=4, offset_groups=2, masked=True),
    "residual":         Deform(7, 19, (6, 5), (2, 5), residual=True, gap=1, images=2),
    "residual no gap":  Deform(7, 16, (5, 5), (3, 5), residual=True, tile=(6, 1)),
    "part of a row":    Deform(7, 19, (4, 9), (1, 4), residual=True, gap=1),
    "panel outer":      Deform(9, 40, (5, 5), (2, 5), weights_outer=1, residual=True, tile=(3, 2)),
}
# fmt: on
deform_cases = pytest.mark.parametrize("case", DEFORMS.values(), ids=DEFORMS)
vectors = pytest.mark.parametrize("vector", VECTORS)


def deform_data(case, integers, seed=0):
    """Return x, weight, bias, offsets, mask and what is added; some offsets point far outside."""
    draw = np.random.default_rng(seed)
    taps = case.kernel[0] * case.kernel[1]

    def values(*shape, step=1.0):
        if integers:
            return draw.integers(-4, 5, shape).astype(np.float32) * np.float32(step)
        return draw.standard_normal(shape, np.float32)

    x = values(case.images, case.channels, *case.size)
    weight = values(case.outs, case.channels // case.groups, *case.kernel)
    reach = [d * (k - 1) + 1 for d, k in zip(case.dilation, case.kernel, strict=True)]
    rows, width = (
        (n + 2 * p - r) // s + 1
        for n, p, r, s in zip(case.size, case.padding, reach, case.stride, strict=True)
    )
    positions = case.offset_groups * taps
    offsets = values(case.images, 2 * positions, rows, width, step=0.25)
    offsets *= draw.choice([1, 1, 1, 4, 100], offsets.shape).astype(np.float32)
    mask = values(case.images, positions, rows, width, step=0.5) if case.masked else None
    added = values(case.images, case.outs, rows, width) if case.residual else None
    return x, weight, values(case.outs), offsets, mask, added


def deform_source(case, planes):
    """Return a column's floats and the C that calls the kernel; planes: x, offsets, mask, sum, out.

    The strides of a plane that is not there are zero, its pointer is null.
    """
    strides = [plane.strides if plane else (0, 0, 0) for plane in planes]
    taps = case.kernel[0] * case.kernel[1]
    column = taps * case.channels + 3
    table = numbers(*(t * case.channels for t in range(taps)))
    pairs = {
        "kernel": case.kernel, "stride": case.stride, "pad": case.padding,
        "dilation": case.dilation,
    }  # fmt: skip
    names = ("in_", "offset", "mask", "sum", "out")
    run = call(
        "f32_deform_conv", "in", "w", "bias", "offsets", "mask" if case.masked else "0",
        "sum" if case.residual else "0", "columns", "out", images=case.images,
        rows=planes[-1].shape[2], width=planes[-1].shape[3], in_rows=case.size[0],
        in_width=case.size[1], channels=case.channels // case.groups,
        outs=case.outs // case.groups, groups=case.groups, offset_groups=case.offset_groups,
        **{f"{name}_{axis}": size for name, pair in pairs.items()
           for axis, size in zip("yx", pair, strict=True)},
        strip_rows=case.strip[0], strip_width=case.strip[1], tile_pixels=case.tile[0],
        tile_vectors=case.tile[1], weights_outer=int(case.weights_outer), column=column,
        epilogue="e", taps="taps", **dict(zip(names, strides, strict=True)),
    )  # fmt: skip
    return column, HEADERS + (
        f"static const int taps[{taps}] = {{{table}}};\n"
        "void run(const float *in, const float *w, const float *bias, const float *offsets,\n"
        "         const float *mask, const float *sum, float *columns, float *out) {\n"
        "    (void)mask, (void)sum;\n"
        f"    const struct epilogue e = {FULL if case.residual else PLAIN};\n"
        f"    {run};\n"
        "}\n"
    )


def run_deform(case, data, vector, naive):
    """Return the kernel's output; its gaps must stay untouched."""
    x, weight, bias, offsets, mask, added = data
    shape = (case.images, case.outs, *offsets.shape[2:])
    planes = [None if v is None else lay(v, case.gap) for v in (x, offsets, mask, added)]
    out = lay(np.full(shape, np.nan), case.gap, filled=7)
    column, source = deform_source(case, [*planes, out])
    w = at_page_end(pack_conv(weight, case.groups, vector, case.tile[1]))
    packed_bias = at_page_end(pack_bias(bias, case.groups, vector))
    strip = case.strip[0] * case.strip[1]
    columns = at_page_end(np.full(strip * column, np.nan, np.float32))
    library = compile_kernel(source, vector=vector, naive=naive)
    memories = [plane and plane.memory for plane in planes]
    arrays = [memories[0], w, packed_bias, *memories[1:], columns, out.memory]
    library.run(*(pointer(array) for array in arrays))
    assert (out.gaps() == 7).all()
    return out.values()


def expected_deform(case, data):
    x, weight, bias, offsets, mask, added = data
    y = evaluate(case.op, x, weight, bias, offsets, *([] if mask is None else [mask]))
    if added is None:
        return y
    y = np.maximum(y, 0) + added
    return np.where(y > 0, y, y * 0.5)


@vectors
@deform_cases
def test_deform_conv_on_quarters_is_exact(case, vector):
    data = deform_data(case, integers=True)
    expected = expected_deform(case, data)
    assert np.ptp(expected) > 0 or expected.size == 1
    np.testing.assert_array_equal(run_deform(case, data, vector, naive=True), expected)
    np.testing.assert_array_equal(run_deform(case, data, vector, naive=False), expected)


@vectors
@deform_cases
def test_deform_conv_on_random_data_rounds_as_its_sum_is_long(case, vector):
    data = deform_data(case, integers=False)
    expected = expected_deform(case, [v if v is None else v.astype(np.float64) for v in data])
    x, weight, bias, offsets, mask, added = data
    # a position of size p is off by p roundings, and its value by as many of two pixels' difference
    position = max(case.size) + 2 * np.abs(np.where(np.abs(offsets) < 20, offsets, 0)).max()
    largest = np.abs(x).max() * (1 if mask is None else np.abs(mask).max())
    sums = largest * np.abs(weight).sum((1, 2, 3)) + np.abs(bias)
    bound = EPS * (weight[0].size + 16 + 4 * position) * sums[:, None, None]
    bound = bound + 4 * EPS * (0 if added is None else np.abs(added))
    for naive in (True, False):
        error = np.abs(run_deform(case, data, vector, naive) - expected)
        assert (error <= bound).all(), (error / bound).max()


@vectors
def test_offsets_without_a_pixel_sample_zero(vector):
    case = replace(DEFORMS["tail of 3"], images=2)
    data = deform_data(case, integers=True)
    offsets = data[3]
    strange = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**31, -(2.0**31), 1e5], np.float32)
    offsets[:, ::2] = np.resize(strange, offsets[:, ::2].shape)
    expected = np.broadcast_to(data[2].reshape(1, -1, 1, 1), (2, 5, 6, 7))
    for naive in (True, False):
        np.testing.assert_array_equal(run_deform(case, data, vector, naive), expected)


@vectors
def test_pixels_outside_do_not_make_nan_of_infinity(vector):
    case = Deform(3, 1, (2, 2), (1, 2), kernel=(1, 1), padding=(0, 0))
    x, weight, bias, offsets, *rest = deform_data(case, integers=True)
    x[...], weight[...], bias[...] = np.inf, 1, 0
    offsets[:, 0], offsets[:, 1] = [[-0.5, -0.5], [0.5, 0.5]], [[-0.5, 0.5], [-0.5, 0.5]]
    for naive in (True, False):
        y = run_deform(case, (x, weight, bias, offsets, *rest), vector, naive)
        assert (y == np.inf).all()


def test_deform_conv_equals_torchvision():
    case = DEFORMS["groups of groups"]
    data = deform_data(case, integers=True)
    x, weight, bias, offsets, mask = (torch.from_numpy(v) for v in data[:5])
    y = deform_conv2d(x, offsets, weight, bias, case.stride, case.padding, case.dilation, mask)
    for naive in (True, False):
        np.testing.assert_array_equal(run_deform(case, data, 4, naive), y.numpy())


@vectors
def test_gcc_has_no_warning(vector):
    for case in (DEFORMS["all groups"], DEFORMS["residual"]):
        planes = [lay(np.zeros((1, 1, 5, 5)))] * 5
        check_gcc(deform_source(case, planes)[1], vector=vector)


# ---------------------------------------------------------------- its lowering

TARGETS = ("x86-64-v4", "x86-64-v3", "x86-64-v2")
# fmt: off
LOWERED = {
    "several rows a strip":  Deform(5, 7, (9, 11), (0, 0), images=2, masked=True),
    "part of a row a strip": Deform(96, 20, (3, 70), (0, 0), residual=True),
    "a tile a strip":        Deform(4096, 3, (1, 20), (0, 0)),
    "columns off 2 KB":      Deform(512, 40, (4, 4), (0, 0), groups=4, offset_groups=2),
    "stride and dilation":   Deform(6, 4, (12, 15), (0, 0), stride=(2, 3), dilation=(3, 2)),
    "all inputs":            Deform(12, 9, (8, 9), (0, 0), groups=3, masked=True, residual=True),
}
# fmt: on


def one_node(op, inputs, constants=()):
    """Return the graph of an operator on named arrays; those in `constants` it holds itself."""
    held = {name: Constant(TensorType(inputs[name].shape), inputs[name]) for name in constants}
    outer = {name: TensorType(v.shape) for name, v in inputs.items() if name not in held}
    shape = infer_shape(op, *(v.shape for v in inputs.values()))
    node = Node("y", op, tuple(inputs), TensorType(shape), "")
    return Graph(outer, held, (node,), (Output("", "y"),))


def deform_graph(case, data):
    names = ("x", "weight", "bias", "offsets", "mask", "residual")
    inputs = {name: v for name, v in zip(names, data, strict=True) if v is not None}
    after = ops.Activation("leaky_relu", (0.5,))
    fused = Fused(case.op, Epilogue(ops.Activation("relu"), add=True, after=after))
    return one_node(fused if case.residual else case.op, inputs, ("weight", "bias"))


def run_plan(graph, inputs, name):
    """Compile a graph for the target of that name, and return its only output; skips elsewhere."""
    target = find_target(name)
    try:
        check_runs_here(target)
    except ValueError as error:
        pytest.skip(str(error))
    plan = make_plan(graph, target)
    code = Code(compile_c(emit(plan), target))
    y = np.full(graph.type(graph.outputs[0].value).shape, np.nan, np.float32)
    arena = aligned_bytes(plan.arena.bytes)
    arena[:] = 0xFF  # NaN
    code.run(align_copy(plan.weights), [np.ascontiguousarray(x) for x in inputs], [y], arena)
    return y


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", LOWERED.values(), ids=LOWERED)
def test_lowered_deform_conv_is_exact(case, target):
    data = deform_data(case, integers=True)
    inputs = [v for i, v in enumerate(data) if v is not None and i not in (1, 2)]
    y = run_plan(deform_graph(case, data), inputs, target)
    np.testing.assert_array_equal(y, expected_deform(case, data))


@pytest.mark.parametrize("case", LOWERED.values(), ids=LOWERED)
def test_strips_fill_their_scratch_and_little_more(case):
    plan = make_plan(deform_graph(case, deform_data(case, integers=True)), find_target("aarch64"))
    (step,) = (step for step in plan.steps if step.kernel == "f32_deform_conv")
    names = ("rows", "width", "strip_rows", "strip_width", "tile_pixels", "column")
    rows, width, strip_rows, strip_width, pixels, column = map(step.arguments.get, names)
    assert column % 512
    buffer = plan.buffers[step.arguments["columns"].buffer]
    assert buffer.elements == strip_rows * strip_width * column
    if strip_rows * width * column <= STRIP_FLOATS:
        assert strip_width == width
        assert strip_rows == rows or (strip_rows + 1) * width * column > STRIP_FLOATS
    else:
        assert strip_rows == 1
        assert strip_width % pixels == 0 or strip_width == width
        assert (strip_width - pixels) * column < STRIP_FLOATS
