"""What slimming says and refuses: budgets out of reach, other networks than classifiers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.report.slimming_record import RecoveryRecord, say_untouched
from depthwise.slimming.correction import hold_time
from depthwise.slimming.costs.figures import figures_of
from depthwise.slimming.costs.prices import Prices
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.floor import check_possible
from depthwise.slimming.offers import Offer
from depthwise.slimming.search import Bench
from depthwise.slimming.state import SearchProgress
from depthwise.training.calibration_data import CalibrationData, gather
from depthwise.training.framing import choose_framing

ELSEWHERE = dw.CompileOptions("aarch64")  # so that nothing is timed


def graph_of(net: nn.Module, *shape: int):
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    return dw.open(net.eval(), shape).graph


def offer(*weights: str) -> Offer:
    change = Change("any", "any", "", 0.0, lambda draft: draft)
    return Offer(change, 1.0, 1.0, 1.0, frozenset((name, 0) for name in weights))


@pytest.fixture(scope="module")
def pair():
    return graph_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)), 1, 3, 10, 10)


@pytest.mark.parametrize(("measure", "alone"), [
    ("macs", 64 * 27 * 8), ("parameters", 27 * 8 + 8), ("weight_bytes", 4 * (27 * 8 + 8)),
])  # fmt: skip
def test_what_no_offer_touches_is_the_least(pair, measure, alone):
    prices = Prices(measure)
    check_possible(pair, prices, [offer("1.weight")], alone)
    with pytest.raises(ValueError, match=r"layers that no move changes .* most of it in 0 \(100%"):
        check_possible(pair, prices, [offer("1.weight")], alone - 1)
    check_possible(pair, prices, [offer("0.weight", "1.weight")], 1)


def test_what_no_offer_touches_takes_time(pair):
    prices = Prices("milliseconds")
    alone = prices.by_path(pair)["0"]
    check_possible(pair, prices, [offer("1.weight")], 1.01 * alone)
    with pytest.raises(ValueError, match="cannot be met: layers that no move changes"):
        check_possible(pair, prices, [offer("1.weight")], 0.99 * alone)


def halved(limit: float, asked: float, graph) -> tuple[Bench, SearchProgress]:
    """Return a bench without any changes, and a search that met its estimate."""
    prices = Prices("milliseconds")
    prices.scale = limit / prices.cost(graph)
    bench = Bench({}, prices, prices, lambda _: {}, lambda d: d, lambda *_: 0.0, asked=asked)
    draft = Draft(graph)
    return bench, SearchProgress((), draft, draft)


def test_a_new_measurement_is_told_and_the_users_own_limit_named(pair):
    """Not the limit that the correction aims at, which is a percent below."""
    told: list[str] = []
    bench, progress = halved(2.0, 2.0, pair)
    with pytest.raises(ValueError, match=r"a budget of 2\.00 ms cannot be met"):
        list(hold_time(bench, progress, 2.0, lambda _: 2.6, told.append))
    assert told == [
        "compiled, it takes 2.60 ms where 2.00 ms was estimated: not enough yet, so estimates are "
        "scaled by that, and round 1 follows"
    ]


def data_of(*shape: int) -> CalibrationData:
    images = torch.randn(12, *shape, generator=torch.Generator().manual_seed(1))
    return CalibrationData("12 images", images, images)


def test_segmentation_agrees_in_pixels():
    """By counting the pixels of which both name the same class."""
    one, other = (nn.Conv2d(3, 4, 1) for _ in range(2))
    first, second = graph_of(one, 1, 3, 6, 6), dw.open(other.eval(), (1, 3, 6, 6)).graph
    data = data_of(3, 6, 6)
    found = figures_of(second, first, Prices("milliseconds"), data)
    with torch.no_grad():
        same = (one(data.held).argmax(1) == other(data.held).argmax(1)).double().mean()
    assert found.compared == "pixels"
    assert found.agreement == pytest.approx(float(same))
    assert 0 < found.agreement < 1
    assert found.names == "the same class, of all pixels"


def test_values_agree_in_their_variance():
    """Scaled about its mean by 0.9, a value has all but a hundredth of its variance in common."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    graph, data = graph_of(net, 1, 3, 6, 6), data_of(3, 6, 6)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight.mul_(0.9)
        other[0].bias.mul_(0.9).add_(0.1 * net(data.held).mean())
    found = figures_of(dw.open(other, (1, 3, 6, 6)).graph, graph, Prices("milliseconds"), data)
    assert (found.compared, found.agreement) == ("values", pytest.approx(0.99, abs=1e-6))


def test_classes_and_mimicking_need_scores():
    graph = graph_of(nn.Conv2d(3, 4, 1), 1, 3, 6, 6)
    images = np.zeros((20, 3, 6, 6), np.float32)
    with pytest.raises(ValueError, match="no vector of scores of classes: give the images alone"):
        gather((images, np.zeros(20, int)), graph, None, 20)
    options = dw.SlimmingOptions(mimic=1.0, build=ELSEWHERE)
    with pytest.raises(ValueError, match="one vector of scores is taken"):
        dw.slim(graph, None, "50%", images, options=options)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, image, depth):
        return self.conv(image) + depth


@pytest.mark.parametrize("shape", [None, (1, 3, 6, 6), ((1, 3, 6, 6), (1, 4, 6, 6))])
def test_a_module_of_two_inputs_is_refused_by_name(shape):
    with pytest.raises(ValueError, match="Pair takes image and depth: a network is slimmed that"):
        dw.slim(Pair(), shape, "50%", np.zeros((20, 3, 6, 6), np.float32))


def test_random_weights_tell_nothing_of_how_images_are_prepared():
    graph = graph_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 1, 3, 24, 24)
    random = np.random.default_rng(0)
    images = [(random.integers(0, 256, (24, 24, 3), np.uint8), f"{i}") for i in range(20)]
    _, notes = choose_framing(graph, None, images)
    assert notes[0].endswith("as usual")


def test_what_is_left_alone_is_told_in_a_sentence():
    many = {f"l{i}": "it is shared" for i in range(9)}
    told = list(say_untouched(many, {"head": "returned", "x": "Sort reads it"}, "returned"))
    assert told == [
        f"left alone: {', '.join(f'l{i} (it is shared)' for i in range(6))} and 3 more",
        "keep all channels that they give: x (Sort reads it)",
    ]
    assert not list(say_untouched({}, {"head": "returned"}, "returned"))


def test_a_recovery_says_which_weights_are_kept():
    better = RecoveryRecord(seconds=60, before=0.9, after=0.925, kept=True)
    worse = RecoveryRecord(seconds=60, before=0.9, after=0.85, kept=False)
    assert str(better) == (
        "recovery, 60.00 s: 90.00% to 92.50% of the validation images named rightly"
    )
    assert str(worse).endswith("85.00% of the validation images named rightly: no better, so the "
                               "weights of before are kept")  # fmt: skip
