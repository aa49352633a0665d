"""What a plan's steps write, found in the plan and looked at while it runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from depthwise.compiler.codegen.emit import emit_units
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.pipeline import UNITS, rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.verification.trace import Trace, find_index, find_pieces, without_sources
from depthwise.graph import capture, interpret
from depthwise.hardware.known_cores import CORES
from depthwise.runtime.target import find_target

NATIVE = find_target("native")
# an image of 2 x 3 pixels of 4 floats, 2 channels of it, in rows of 5 pixels
IMAGE = TensorView(2, 5, (1, 2, 2, 3), (40, 1, 20, 4))


class Mixed(nn.Module):
    """Streams, writes in place, concatenates, and enlarges in four phases."""

    def __init__(self):
        super().__init__()
        self.wide, self.plane = nn.Conv2d(4, 24, 1), nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.narrow, self.other = nn.Conv2d(24, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.larger, self.scores = nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Linear(3, 5)

    def forward(self, x):
        y = self.narrow(self.plane(self.wide(x).relu()).relu()) + x
        both = torch.cat((y, self.other(y).sigmoid()), 1)
        return self.scores(self.larger(both).mean((2, 3)))


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return rewrite(capture(Mixed().eval(), (1, 4, 20, 20)))


@pytest.mark.parametrize("options", [
    {"core": CORES["zen5"]}, {"core": CORES["sapphirerapids"]},  # which asks for weights ahead
    {"optimize": "memory"}, {"threads": 2}, {"optimize": "memory", "threads": 3},
])  # fmt: skip
def test_each_element_of_each_value_is_shown_as_the_interpreter_has_it(graph, options):
    plan = without_sources(make_plan(graph, NATIVE, **options))
    x = np.random.default_rng(0).standard_normal((1, 4, 20, 20), np.float32)
    expected = interpret(graph, x)
    written = {step.name for step in plan.whole.steps if step.name}
    trace = Trace(plan, written, UNITS, None)
    seen = {name: np.full(expected[name].shape, np.nan, np.float32) for name in trace.values}
    ended = set()

    def look(piece, found):
        assert piece.value not in ended
        ended.update([piece.value] if piece.last else [])
        seen[piece.value].reshape(piece.elements.shape)[piece.elements.index] = found

    trace([x], look)
    assert ended == trace.values == written - {node.name for node in graph if is_concat(node)}
    for name, value in seen.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


def is_concat(node):
    return type(node.op).__name__ == "Concat"


def test_streamed_and_divided_values_come_in_pieces(graph):
    plan = make_plan(graph, NATIVE, optimize="memory")
    pieces = [piece for found in find_pieces(plan).values() for piece, _ in found]
    relu = [piece for piece in pieces if piece.value == "relu"]
    assert len(relu) > 1
    assert [piece.last for piece in relu] == [False] * (len(relu) - 1) + [True]
    assert [piece.next for piece in pieces] == [piece.value for piece in pieces[1:]] + [""]


def test_an_error_while_looking_comes_through_c(graph):
    plan = make_plan(graph, NATIVE)
    trace = Trace(plan, {"relu"}, UNITS, None)

    def look(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trace([np.zeros((1, 4, 20, 20), np.float32)], look)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_librarys_own_kernels_are_looked_at_and_not_compiled_again(graph, threads):
    plan = make_plan(graph, NATIVE, threads=threads)
    main, *kernels = emit_units(plan, UNITS)
    noted, *others = emit_units(replace(plan, threads=1), UNITS, "net_note")
    assert kernels == others
    assert main != noted


@pytest.mark.parametrize(
    ("part", "index"),
    [
        (IMAGE, (slice(0, 1, 1), slice(0, 2, 1), slice(0, 2, 1), slice(0, 3, 1))),
        (IMAGE.part(2, 1, 1), (slice(0, 1, 1), slice(0, 2, 1), slice(1, 2, 1), slice(0, 3, 1))),
        (IMAGE.part(1, 1, 1), (slice(0, 1, 1), slice(1, 2, 1), slice(0, 2, 1), slice(0, 3, 1))),
        (  # every other pixel, from the second on
            TensorView(2, 9, (1, 2, 2, 1), (40, 1, 20, 8)),
            (slice(0, 1, 1), slice(0, 2, 1), slice(0, 2, 1), slice(1, 2, 1)),
        ),
        (
            TensorView(2, 5, (1, 2, 2, 2), (40, 1, 20, 8)),
            (slice(0, 1, 1), slice(0, 2, 1), slice(0, 2, 1), slice(0, 3, 2)),
        ),
        (TensorView(2, 0, (1, 2, 2, 3), (40, 1, 20, 4)), None),  # in the border
        (TensorView(2, 17, (1, 2, 2, 3), (40, 1, 20, 4)), None),  # beyond the row
        (TensorView(2, 5, (2, 2, 3), (1, 20, 4)), None),  # of another rank
        (TensorView(2, 5, (1, 2, 3, 2), (40, 1, 4, 20)), None),  # turned
    ],
)
def test_what_lies_in_a_part_of_a_place(part, index):
    assert find_index(part, IMAGE) == index
