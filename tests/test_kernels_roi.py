"""Deformable pooling and local response normalisation in C: against naive twins and oracles."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from kernel_harness import at_page_end, call, check_gcc, compile_kernel, pointer
from test_kernels_deform import EPS, TARGETS, lay, one_node, run_plan, vectors

from depthwise.compiler.lowering.packing import round_up
from depthwise.graph import ops
from depthwise.graph.interpret import evaluate
from depthwise.graph.ops import LocalResponseNorm
from depthwise.layers import deform_roi_pool


class Roi(NamedTuple):
    """Channels, planes and bins of one pooling."""

    channels: int
    size: tuple[int, int]
    boxes: int
    bins: int
    samples: int
    gap: int = 0


# fmt: off
ROIS = {
    "one of all":     Roi(1, (1, 1), 1, 1, 1),
    "tail of 5":      Roi(5, (6, 7), 4, 2, 2, gap=3),
    "a vector":       Roi(16, (9, 5), 3, 4, 2),
    "above a vector": Roi(17, (5, 9), 3, 2, 4, gap=1),
    "many samples":   Roi(3, (8, 8), 2, 1, 4),
}
THIRDS = {
    "seven bins":     Roi(33, (14, 13), 5, 7, 2),
    "three samples":  Roi(15, (10, 12), 4, 3, 3, gap=2),
}
# fmt: on
SCALE, GAMMA, IMAGES = 0.25, 0.125, 2


def roi_data(case, integers, seed=0):
    """Return features, boxes and offsets; some boxes reach outside, one is inverted."""
    draw = np.random.default_rng(seed)
    height, width = (n / SCALE for n in case.size)
    if integers:
        features = draw.integers(-4, 5, (IMAGES, case.channels, *case.size)).astype(np.float32)
        offsets = draw.integers(-8, 9, (case.boxes, 2, case.bins, case.bins)).astype(np.float32)
    else:
        features = draw.standard_normal((IMAGES, case.channels, *case.size), np.float32)
        offsets = draw.standard_normal((case.boxes, 2, case.bins, case.bins), np.float32)
    boxes = draw.uniform(-0.3, 1.3, (case.boxes, 5)) * [0, width, height, width, height]
    boxes = np.round(boxes) if integers else boxes
    boxes[:, 0] = np.arange(case.boxes) % IMAGES
    return features, boxes.astype(np.float32), offsets


def roi_source(case, x, offsets, out):
    run = call(
        "f32_deform_roi_pool", "in", "boxes", "offsets", "out", boxes_count=case.boxes,
        images=IMAGES, channels=case.channels, in_rows=case.size[0], in_width=case.size[1],
        bins=case.bins, samples=case.samples, scale=f"{SCALE}f", gamma=f"{GAMMA}f",
        in_=x.strides, offset=offsets.strides, out=out.strides,
    )  # fmt: skip
    return '#include "vector.h"\n#include "roi.h"\n' + (
        "void run(const float *in, const float *boxes, const float *offsets, float *out) {\n"
        f"    {run};\n"
        "}\n"
    )


def run_roi(case, data, vector, naive):
    """Return the kernel's output; its gaps must stay untouched."""
    features, boxes, offsets = data
    x, o = lay(features, case.gap), lay(offsets)
    shape = (case.boxes, case.channels, case.bins, case.bins)
    out = lay(np.full(shape, np.nan), case.gap, filled=7)
    library = compile_kernel(roi_source(case, x, o, out), vector=vector, naive=naive)
    library.run(*map(pointer, (x.memory, at_page_end(boxes), o.memory, out.memory)))
    assert (out.gaps() == 7).all()
    return out.values()


def roi_op(case):
    return ops.DeformRoIPool(case.bins, SCALE, case.samples, GAMMA)


@vectors
@pytest.mark.parametrize("case", ROIS.values(), ids=ROIS)
def test_deform_roi_pool_on_integers_is_exact(case, vector):
    data = roi_data(case, integers=True)
    expected = evaluate(roi_op(case), *data)
    for naive in (True, False):
        np.testing.assert_array_equal(run_roi(case, data, vector, naive), expected)


@vectors
@pytest.mark.parametrize("case", [*ROIS.values(), *THIRDS.values()], ids=[*ROIS, *THIRDS])
def test_deform_roi_pool_on_random_data(case, vector):
    data = roi_data(case, integers=False)
    expected = evaluate(roi_op(case), *(v.astype(np.float64) for v in data))
    features, boxes, _ = data
    # positions take up to 8 roundings of numbers as large as the boxes, scaled
    position = 8 * np.abs(boxes).max() * SCALE * (1 + 4 * GAMMA)
    bound = EPS * (4 * case.samples**2 + 8 + 4 * position) * np.abs(features).max()
    for naive in (True, False):
        error = np.abs(run_roi(case, data, vector, naive) - expected)
        assert error.max() <= bound, error.max() / bound


@vectors
def test_boxes_of_no_image_pool_to_nan_and_strange_ones_to_zero(vector):
    case = Roi(5, (4, 4), 6, 2, 2)
    features, boxes, offsets = roi_data(case, integers=True)
    boxes[:4, 0] = [-1, IMAGES, np.nan, 1e30]
    boxes[4, 1:], boxes[5, 1:] = np.nan, [1e30, 1e30, 2e30, 2e30]
    for naive in (True, False):
        y = run_roi(case, (features, boxes, offsets), vector, naive)
        assert np.isnan(y[:4]).all()
        assert (y[4:] == 0).all()


def test_deform_roi_pool_equals_the_layer():
    case = ROIS["tail of 5"]
    data = roi_data(case, integers=True)
    tensors = [torch.from_numpy(v) for v in data]
    expected = deform_roi_pool(*tensors, case.bins, SCALE, case.samples, GAMMA).numpy()
    for naive in (True, False):
        np.testing.assert_array_equal(run_roi(case, data, 4, naive), expected)


@pytest.mark.parametrize("target", TARGETS)
def test_lowered_deform_roi_pool_is_exact(target):
    case = ROIS["above a vector"]
    features, boxes, offsets = data = roi_data(case, integers=True)
    graph = one_node(roi_op(case), {"x": features, "boxes": boxes, "offsets": offsets})
    np.testing.assert_array_equal(run_plan(graph, data, target), evaluate(roi_op(case), *data))


# ---------------------------------------------------------------- local response normalisation


class Response(NamedTuple):
    """The channels of one normalisation, and the gap after each pixel."""

    op: LocalResponseNorm
    channels: int
    gap: int = 0


# fmt: off
RESPONSES = {
    #                                                size alpha power bias
    "AlexNet's":         Response(LocalResponseNorm(5,   5e-4, 0.75, 2.0), 96),
    "torch's":           Response(LocalResponseNorm(5,   1e-4, 0.75, 1.0), 17, gap=3),
    "one channel":       Response(LocalResponseNorm(3,   1.0,  0.75, 1.0), 1),
    "even window":       Response(LocalResponseNorm(4,   1.0,  0.5,  0.5), 15, gap=1),
    "window of 1":       Response(LocalResponseNorm(1,   2.0,  1.0,  1.0), 16),
    "wide window":       Response(LocalResponseNorm(21,  2.0,  0.75, 1.0), 7),
    "negative exponent": Response(LocalResponseNorm(2,   0.5,  -0.3, 3.0), 33),
    "large exponent":    Response(LocalResponseNorm(3,   0.5,  2.0,  1.5), 5),
}
# fmt: on


STRIP = 2  # pixels of a row of 5


def response_data(case):
    return np.random.default_rng(0).standard_normal((2, case.channels, 3, 5), np.float32) * 3


def response_bound(op, y):
    """Return how far y may be off: the base sums `size` terms, exp and log round 16 times."""
    return EPS * ((op.size + 8) * (1 + abs(op.power)) + 16) * np.abs(y)


def response_source(op, x, out):
    images, channels, rows, width = x.shape
    run = call(
        "f32_local_response_norm", "in", "squares", "out", images=images, rows=rows, width=width,
        channels=channels, size=op.size, strip=STRIP, alpha=f"{op.alpha!r}f",
        power=f"{op.power!r}f", bias=f"{op.bias!r}f", in_=x.strides, out=out.strides,
    )  # fmt: skip
    return "".join(f'#include "{name}.h"\n' for name in ("vector", "activation", "lrn")) + (
        f"void run(const float *in, float *squares, float *out) {{\n    {run};\n}}\n"
    )


def run_response(case, values, vector, naive, in_place):
    """Return the kernel's output; its gaps must stay untouched."""
    out = lay(values if in_place else np.full(values.shape, np.nan), case.gap, filled=7)
    x = out if in_place else lay(values, case.gap)
    line = round_up(case.channels, vector) + case.op.size - 1
    squares = np.full(STRIP * line, np.nan, np.float32)
    library = compile_kernel(response_source(case.op, x, out), vector=vector, naive=naive)
    library.run(*map(pointer, (x.memory, at_page_end(squares), out.memory)))
    assert (out.gaps() == 7).all()
    return out.values()


@vectors
@pytest.mark.parametrize("case", RESPONSES.values(), ids=RESPONSES)
def test_local_response_norm_equals_torchs(case, vector):
    x, op = response_data(case), case.op
    expected = torch.nn.functional.local_response_norm(
        torch.from_numpy(x).double(), op.size, op.alpha, op.power, op.bias
    ).numpy()
    for naive in (True, False):
        for in_place in (False, True):
            error = np.abs(run_response(case, x, vector, naive, in_place) - expected)
            assert (error <= response_bound(op, expected)).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["torch's", "even window"])
def test_lowered_local_response_norm(name, target):
    case = RESPONSES[name]
    x = response_data(case)
    expected = evaluate(case.op, x.astype(np.float64))
    y = run_plan(one_node(case.op, {"x": x}), [x], target)
    assert (np.abs(y - expected) <= response_bound(case.op, expected)).all()


@vectors
def test_gcc_has_no_warning(vector):
    plane = lay(np.zeros((1, 17, 4, 4)))
    check_gcc(roi_source(ROIS["above a vector"], plane, plane, plane), vector=vector)
    for case in RESPONSES.values():
        check_gcc(response_source(case.op, plane, plane), vector=vector)
