"""What changes save: of what is counted exactly, of the time as the compiled whole would."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.analysis import cost_of_graph
from depthwise.graph import Constant, Graph
from depthwise.slimming.channels.cut import cut
from depthwise.slimming.channels.groups import find_groups
from depthwise.slimming.costs.prices import Prices
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.offers import Shortfall, find_offers, used


class Net(nn.Module):
    """Two convolutions in a residual block, one before and one after it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.first = nn.Conv2d(32, 48, 3, padding=1)
        self.norm = nn.BatchNorm2d(48)
        self.second = nn.Conv2d(48, 32, 3, padding=1)
        self.last = nn.Conv2d(32, 32, 1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.second(torch.relu(self.norm(self.first(x))))
        return self.last(torch.relu(x))


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    return dw.open(Net().eval(), (1, 3, 24, 24)).graph


def narrowed(graph: Graph, place: str, left: int) -> Graph:
    group = next(g for g in find_groups(graph).groups.values() if g.place == place)
    return cut(Draft(graph), group, np.arange(left)).graph


@pytest.mark.parametrize(("measure", "count"), [
    ("macs", lambda cost: cost.macs), ("parameters", lambda cost: cost.params),
    ("weight_bytes", lambda cost: cost.weight_bytes),
])  # fmt: skip
def test_what_is_counted_is_saved_exactly(graph, measure, count):
    after = narrowed(graph, "first", 20)
    prices = Prices(measure)
    expected = count(cost_of_graph(graph)) - count(cost_of_graph(after))
    assert prices.saving(graph, after) == expected > 0
    assert prices.cost(graph) == count(cost_of_graph(graph))


@pytest.mark.parametrize(("place", "left"), [("first", 16), ("first", 32), ("stem", 16)])
def test_time_saved_is_as_of_the_whole(graph, place, left):
    """A change is priced by the layers around it, within a tenth of what two plans differ by."""
    after = narrowed(graph, place, left)
    prices = Prices("milliseconds")
    saved = prices.saving(graph, after)
    whole = Prices("milliseconds")
    assert saved == pytest.approx(whole.cost(graph) - whole.cost(after), rel=0.1)
    assert saved > 0


def a_chain(side: int, channels: int, *layers: nn.Module) -> Graph:
    net = nn.Sequential(*(each for _ in range(12) for each in (*layers, nn.ReLU())))
    return dw.open(net.eval(), (1, channels, side, side)).graph


@pytest.mark.parametrize(("side", "channels", "measured"), [(16, 32, 1.37), (32, 16, 1.31)])
def test_small_factors_save_less_time_than_multiply_adds(side, channels, measured):
    """Of twelve 3x3 convolutions and pairs of half the channels, on a Xeon (Sapphire Rapids)."""
    half = channels // 2
    whole = a_chain(side, channels, nn.Conv2d(channels, channels, 3, padding=1))
    pairs = a_chain(
        side, channels, nn.Conv2d(channels, half, (3, 1), padding=(1, 0), bias=False),
        nn.Conv2d(half, channels, (1, 3), padding=(0, 1)),
    )  # fmt: skip
    options = dw.CompileOptions("x86-64-v4", tune_for="sapphirerapids")
    prices = Prices("milliseconds", options)
    assert prices.cost(whole) / prices.cost(pairs) == pytest.approx(measured, rel=0.1)


def test_three_of_32_channels_save_no_time(graph):
    """Of what the network returns: vectors are as many as before, and nothing reads the channels.

    So it is never offered under a budget of time, however little damage it does.
    """
    weight = graph.constants["last.weight"]
    bias = graph.constants["last.bias"]

    def without(left: int) -> Graph:
        cut_ = {
            name: replace(c, data=c.data[:left], type=replace(c.type, shape=c.data[:left].shape))
            for name, c in (("last.weight", weight), ("last.bias", bias))
        }  # fmt: skip
        nodes = tuple(
            replace(n, type=replace(n.type, shape=(1, left, 24, 24))) if n.path == "last" else n
            for n in graph
        )
        return replace(graph, constants={**graph.constants, **cut_}, nodes=nodes)

    def changes(_draft: Draft, _known: object):
        for left in (29, 16):
            made = Draft(without(left))
            yield Change("few", "last", f"32 to {left}", 0.0, lambda _, made=made: made)

    times = Prices("milliseconds")
    assert times.saving(graph, without(29)) == 0.0
    offers = find_offers(Draft(graph), {}, {"few": changes}, times, times, Shortfall(1.0))
    assert [offer.change.words for offer in offers] == ["32 to 16"]
    both = Shortfall(1.0, 1.0, 1.0)
    counted = find_offers(Draft(graph), {}, {"few": changes}, Prices("macs"), times, both)
    assert [each.change.words for each in counted if each.worth > 0] == [
        "32 to 16"
    ]  # nor of multiply-adds


def test_a_change_is_worth_the_lesser_of_the_shares_that_are_missing():
    missing = Shortfall(cost=100.0, milliseconds=2.0, unit=60.0)
    assert missing.most == 120
    assert missing.worth(saving=50.0, milliseconds=0.5) == 0.25 * 120
    assert missing.worth(saving=10.0, milliseconds=0.5) == 0.1 * 120
    assert missing.worth(saving=50.0, milliseconds=0.0) == 0
    fast = Shortfall(cost=100.0, milliseconds=-1.0, unit=60.0)
    assert fast.worth(saving=50.0, milliseconds=0.0) == 50  # of time there is nothing missing


def test_estimates_follow_the_line_through_what_was_measured(graph):
    """A saving counts as much as those before have saved, not as little as all has shrunk."""
    times, small, smaller = (
        Prices("milliseconds"), narrowed(graph, "first", 16), narrowed(graph, "first", 8),
    )  # fmt: skip
    known = [times.cost(each) for each in (graph, small, smaller)]
    modules = times.by_path(graph)
    times.hold(graph, 2 * known[0])
    assert times.cost(small) == pytest.approx(2 * known[1])
    for more in (1.5, 1.25):  # measured again after another round
        measured = 2 * (known[0] - more * (known[0] - known[1]))
        times.hold(small, measured)
        assert times.cost(small) == pytest.approx(measured)
        assert times.cost(graph) == pytest.approx(2 * known[0])
        expected = measured - 2 * more * (known[1] - known[2])
        assert times.cost(smaller) == pytest.approx(expected)
        assert times.saving(graph, small) == pytest.approx(
            2 * more * (known[0] - known[1]), rel=0.1
        )
    assert times.by_path(graph) == pytest.approx({p: 2 * each for p, each in modules.items()})
    times.hold(small, 2 * known[0])  # as slow as before: a saving counts half of what it did
    assert times.line == pytest.approx((1.0, 2 * known[0] - known[1]))


def test_arena_of_a_peak_is_lowered_by_what_lowers_it(graph):
    prices = Prices("arena_bytes")
    assert prices.saving(graph, narrowed(graph, "first", 24)) > 0
    assert prices.cost(graph) >= 4 * 24 * 24 * (32 + 48)


def test_cuts_of_either_side_of_a_weight_may_be_taken_together(graph):
    inner, outer = narrowed(graph, "first", 16), narrowed(graph, "stem", 16)
    one, other = used(graph, inner), used(graph, outer)
    assert ("first.weight", 0) in one
    assert ("first.weight", 1) in other
    assert not one & other
    assert used(graph, narrowed(graph, "first", 24)) == one


def test_an_order_of_channels_uses_up_nothing(graph):
    """Ghost modules order those of their neighbours, which other changes may cut in one round."""
    inner = narrowed(graph, "first", 24)

    def with_last(change: Callable[[np.ndarray], np.ndarray]) -> Graph:
        known = inner.constants["last.weight"]
        new = Constant(known.type, np.ascontiguousarray(change(known.data)), known.trainable)
        return replace(inner, constants={**inner.constants, "last.weight": new})

    assert used(graph, with_last(lambda data: data[::-1])) == used(graph, inner)
    for change in (lambda data: data + 1, np.negative):
        assert ("last.weight", 0) in used(graph, with_last(change))
