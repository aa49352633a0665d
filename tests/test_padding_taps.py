"""Dilated convolutions whose taps reach the input from some outputs alone, or from none."""

from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from other_constants import PLACE, changed
from test_compile import settle
from torch import nn

import depthwise as dw
from depthwise.compiler.lowering.areas import border_of_areas, find_areas
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.partition import Optimize
from depthwise.compiler.verification.oracle import check_plan
from depthwise.compiler.work import Arguments
from depthwise.graph import Graph, capture, interpret, ops
from depthwise.graph.ops import Padding
from depthwise.graph.passes.taps import drop_padding_taps
from depthwise.runtime.target import find_target

# height, width, kernel, stride, padding, dilation, groups
ALONE = ((14, 14, 3, 1, 36, 36, 1), (6, 5, 3, 1, 9, 9, 16), (5, 3, 5, 1, 6, 3, 2))
DIVIDED = (
    (28, 26, 3, 1, 12, 12, 1), (19, 17, 3, 1, 11, 11, 2), (40, 44, 5, 1, 30, 15, 1),
    (50, 52, 3, 2, 24, 24, 1), (20, 21, 3, 1, 13, 10, 1),
)  # fmt: skip


def conv_of(case: tuple[int, ...], outs: int = 16) -> nn.Module:
    torch.manual_seed(0)
    _, _, kernel, stride, padding, dilation, groups = case
    conv = nn.Conv2d(16, outs, kernel, stride, padding, dilation, groups)
    net = nn.Sequential(nn.Conv2d(3, 16, 1), conv, nn.ReLU(), nn.Conv2d(outs, 8, 1)).eval()
    settle(net)
    return net


def captured(case: tuple[int, ...], images: int = 1) -> Graph:
    return capture(conv_of(case), (images, 3, *case[:2]))


def reaching(length: int, outputs: int, case: tuple[int, ...]) -> int:
    """Return the pairs of an output and a tap that read a pixel, not padding, along an axis."""
    _, _, kernel, stride, padding, dilation, _ = case
    reads = (
        y * stride - padding + tap * dilation for y, tap in product(range(outputs), range(kernel))
    )
    return sum(0 <= read < length for read in reads)


def dilated(plan: Plan) -> list[Arguments]:
    """Return the arguments of the calls of the dilated convolution, in the plan and whole."""
    return [step.arguments for step in plan.whole.steps if step.path == "1"]


@pytest.mark.parametrize("case", ALONE)
def test_taps_that_read_padding_alone_are_left_out(case):
    graph = captured(case)
    found = drop_padding_taps(graph)
    (conv,) = (node for node in found if node.path == "1" and isinstance(node.op, ops.Conv2d))
    size, _, kernel, _, _, dilation, _ = case
    reach = min(kernel // 2, (size - 1) // dilation)  # taps on each side that reach a pixel
    assert found.type(conv.inputs[1]).shape[2] == 1 + 2 * reach < kernel
    assert isinstance(conv.op, ops.Conv2d)
    assert conv.op.padding.top == conv.op.padding.bottom == reach * dilation
    x = np.random.default_rng(0).standard_normal((1, 3, *case[:2]), np.float32)
    (output,) = graph.outputs
    np.testing.assert_allclose(
        interpret(found, x)[output.value], interpret(graph, x)[output.value], rtol=1e-5, atol=1e-6
    )
    assert drop_padding_taps(found) is found


def test_taps_without_finite_weights_stay():
    """Zero times what is no number is no number."""
    net = conv_of(ALONE[0])
    with torch.no_grad():
        net.get_parameter("1.weight")[0, 0, 0, 0] = torch.inf
    graph = capture(net, (1, 3, 14, 14))
    assert drop_padding_taps(graph) is graph


def test_taps_whose_place_is_no_padding_stay():
    """The first of two reads above the image, 5 pixels of which are padding: less cannot be."""
    net = nn.Conv2d(3, 8, (2, 1), padding=(5, 0), dilation=(8, 1))
    graph = capture(net.eval(), (1, 3, 2, 9))
    (output,) = graph.outputs
    found, x = drop_padding_taps(graph), torch.randn(1, 3, 2, 9)
    convs = [node.op for node in found if isinstance(node.op, ops.Conv2d)]
    assert all(min(op.padding) >= 0 for op in convs)
    expected = net(x).detach().numpy()
    np.testing.assert_allclose(interpret(found, x.numpy())[output.value], expected, atol=1e-6)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("case", DIVIDED)
def test_areas_multiply_what_is_read_and_have_no_border(case, images):
    graph = rewrite(captured(case, images))
    ways: tuple[tuple[str, Optimize, int], ...] = (
        ("aarch64", "speed", 1), ("x86-64", "memory", 3)
    )  # fmt: skip
    for target, optimize, threads in ways:
        plan = make_plan(graph, find_target(target), optimize, threads)
        check_plan(plan)
        outputs = plan.graph.outputs[0].value
        height, width = plan.graph.type(outputs).shape[2:]
        names = ("images", "rows", "width", "taps", "channels", "outs", "groups")
        done = sum(prod(call[name] for name in names) for call in dilated(plan))
        pairs = reaching(case[0], height, case) * reaching(case[1], width, case)
        assert done == images * pairs * 16 * 16 // case[-1]
        assert all(step.kernel != "f32_fill_border" for step in plan.steps)


def test_areas_cover_each_output_once():
    for case in DIVIDED:
        graph = captured(case)
        (node,) = (node for node in graph if node.path == "1" and isinstance(node.op, ops.Conv2d))
        x, weight = (graph.type(name).shape for name in node.inputs[:2])
        assert isinstance(node.op, ops.Conv2d)
        shapes = (node.op, x, weight, node.type.shape)
        areas = find_areas(*shapes)
        covered = np.zeros(node.type.shape[2:], int)
        for rows, columns in areas:
            covered[rows.start : rows.stop, columns.start : columns.stop] += 1
        assert (covered == 1).all()
        assert len(areas) > 1
        assert border_of_areas(*shapes) == Padding(0, 0, 0, 0)


def test_few_padded_pixels_are_not_worth_their_weights():
    op = ops.Conv2d((1, 1), Padding(2, 2, 2, 2), (2, 2), 1)
    shapes = (op, (1, 16, 56, 56), (16, 16, 3, 3), (1, 16, 56, 56))
    assert len(find_areas(*shapes)) == 1
    assert border_of_areas(*shapes) == op.padding


@pytest.mark.parametrize("windows", [2_000, 20_000, 200_000])
def test_areas_are_streamed_and_divided(windows, monkeypatch):
    """With thresholds so low that what is small is streamed and divided, too."""
    monkeypatch.setattr(PLACE, changed(cold=0, windows=windows, meeting=1.0))
    ways: tuple[tuple[Optimize, int], ...] = (("speed", 1), ("memory", 1), ("speed", 3))
    for case in DIVIDED[:2]:
        graph = rewrite(captured(case))
        for optimize, threads in ways:
            check_plan(make_plan(graph, find_target("aarch64"), optimize, threads))


def test_areas_in_bfloat16_are_equal_to_the_simulator():
    """Their kernel takes no part of the taps of its weights: each area has its own."""
    case = DIVIDED[0]
    library = dw.compile(conv_of(case), (1, 3, *case[:2]), precision="bfloat16")
    proof = library.manifest.verification
    assert proof
    assert proof.reference == "the simulator"
    assert proof.error < 1e-2  # one rounding of the outputs


@pytest.mark.parametrize("threads", [1, 2])
def test_the_library_computes_the_same(threads):
    class Pyramid(nn.Module):
        """Rates side by side, as DeepLab has them; the last adds to what it reads."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, padding=1)
            self.rates = nn.ModuleList(nn.Conv2d(16, 16, 3, 1, d, d) for d in (3, 9, 15, 36))

        def forward(self, x):
            x = self.stem(x)
            return torch.cat([rate(x).relu() + x for rate in self.rates], 1).mean((2, 3))

    torch.manual_seed(0)
    net = Pyramid().eval()
    library = dw.compile(net, (1, 3, 21, 18), threads=threads)
    x = torch.randn(1, 3, 21, 18)
    with torch.no_grad():
        np.testing.assert_allclose(library(x.numpy()), net(x).numpy(), rtol=1e-4, atol=1e-5)
