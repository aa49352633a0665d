"""The search on a chain of convolutions, each of which may be left out, at known true damage."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.graph import Graph
from depthwise.graph.rewrite import GraphRewriter
from depthwise.report.slimming_record import RoundRecord
from depthwise.slimming import state
from depthwise.slimming.correction import Savings, hold_time, to_estimate
from depthwise.slimming.costs.prices import Prices
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.search import Bench, next_target, search
from depthwise.slimming.state import SearchProgress

LAYERS = 8


@pytest.fixture(scope="module")
def chain() -> Graph:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(LAYERS)))
    return dw.open(net, (1, 8, 8, 8)).graph


def leave_out(node: str, draft: Draft) -> Draft:
    edit = GraphRewriter(draft.graph)
    found = edit.node(node)
    assert found is not None
    edit.bypass(found, found.inputs[0])
    return Draft(edit.result(), draft.kept)


def make_bench(
    estimated: Mapping[str, float], true: Mapping[str, float], measure: str = "macs"
) -> Bench:
    """Return a bench that offers to leave out each layer, and measures the true damages' sum."""

    def changes(draft: Draft, _: object) -> Iterator[Change]:
        for node in draft.graph:
            apply = partial(leave_out, node.name)
            yield Change("leave_out", node.path, "nothing", estimated[node.path], apply)

    def divergence(graph: Graph, quickly: bool) -> float:  # noqa: ARG001
        left = {node.path for node in graph}
        return sum(damage for path, damage in true.items() if path not in left)

    prices = Prices(measure)  # type: ignore[arg-type]
    return Bench(
        {"leave_out": changes}, prices, Prices("milliseconds"), lambda _: {}, lambda d: d,
        divergence,
    )  # fmt: skip


RISING = {str(layer): 0.01 * (layer + 1) for layer in range(LAYERS)}


def run(bench: Bench, draft: Draft, limit: float) -> tuple[Draft, list[RoundRecord]]:
    rounds = []
    for each, found in search(bench, draft, limit):
        draft = each
        rounds.append(found)
    return draft, rounds


def test_the_budget_is_met_by_the_changes_that_do_the_least_damage(chain):
    bench = make_bench(RISING, RISING)
    cost = bench.prices.cost(chain)
    draft, rounds = run(bench, Draft(chain), cost / 2)
    assert {node.path for node in draft.graph} == {"4", "5", "6", "7"}
    assert rounds[-1].after == cost / 2
    assert len(rounds) > 1  # a part of the way at a time
    assert [step.place for each in rounds for step in each.steps] == ["0", "1", "2", "3"]
    assert rounds[-1].divergence == pytest.approx(0.1)
    step = rounds[0].steps[0]
    assert step.saving == cost / LAYERS
    assert step.milliseconds > 0
    assert "MACs for 0.01 nats" in step.why


def test_estimates_of_a_move_are_brought_to_the_scale_of_what_its_changes_do(chain):
    """One move says a tenth of what it does, and leaves out what matters more."""
    true = {str(layer): 0.01 if layer < 4 else 0.05 for layer in range(LAYERS)}
    said = {path: damage / (10 if path in "4567" else 1) for path, damage in true.items()}
    bench = make_bench(said, true)
    (offers,) = bench.moves.values()
    moves = {
        name: lambda d, k, own=own, name=name: (
            replace(c, move=name) for c in offers(d, k) if c.place in own
        )
        for name, own in (("honest", "0123"), ("rash", "4567"))
    }
    draft, rounds = run(replace(bench, moves=moves), Draft(chain), bench.prices.cost(chain) / 2)
    assert {node.path for node in draft.graph} == set("4567")
    assert all(step.move == "honest" for each in rounds for step in each.steps)


class Slow:
    """Times of a chain of which some layers take all, or of which everything takes as long."""

    def __init__(self, layers: str):
        self._layers = layers

    def cost(self, graph: Graph) -> float:
        return float(sum(node.path in self._layers for node in graph)) if self._layers else 4.0

    def saving(self, before: Graph, after: Graph) -> float:
        return self.cost(before) - self.cost(after)


@pytest.mark.parametrize(("layers", "left"), [("4567", "2367"), ("", "4567")])
def test_time_falls_along_with_multiply_adds_where_it_can(chain, layers, left):
    bench = make_bench(RISING, RISING)
    cost = bench.prices.cost(chain)
    paced = replace(bench, times=Slow(layers), pace=cost / 4)  # type: ignore[arg-type]
    draft, rounds = run(paced, Draft(chain), cost / 2)
    assert {node.path for node in draft.graph} == set(left)
    assert rounds[-1].after == cost / 2


def test_rounds_go_equal_shares_of_the_way():
    assert next_target(100.0, 80.0) == 80.0
    first = next_target(100.0, 25.0)
    assert first == pytest.approx(100 * 0.25 ** (1 / 5))
    assert next_target(first, 25.0) == pytest.approx(first * 0.25 ** (1 / 5))


def test_what_is_much_worse_than_estimated_is_undone_and_banned(chain):
    true = {**RISING, "0": 3.0}
    bench = make_bench(RISING, true)
    draft, rounds = run(bench, Draft(chain), bench.prices.cost(chain) * 0.9)
    assert {str(layer) for layer in range(LAYERS)} - {node.path for node in draft.graph} == {"1"}
    assert rounds[0].banned == ("0",)
    assert rounds[0].divergence == pytest.approx(0.02)


def test_a_budget_that_cannot_be_met_names_the_smallest_that_can(chain):
    true = dict.fromkeys(RISING, 0.0)
    bench = make_bench(true, true)
    last = next(reversed(chain.nodes)).path
    offers = bench.moves["leave_out"]
    kept = {"leave_out": lambda d, k: (c for c in offers(d, k) if c.place not in ("0", last))}
    bench = Bench(kept, bench.prices, bench.times, bench.statistics, bench.refit, bench.divergence)
    cost = bench.prices.cost(chain)
    smallest = f"{2 * cost / LAYERS / 1e3:.2f} k MACs"
    with pytest.raises(ValueError, match=rf"smallest that can is {smallest}.*0 \(50%\)"):
        run(bench, Draft(chain), cost / 8)


def test_a_search_goes_on_where_it_was_killed(chain, tmp_path):
    bench = make_bench(RISING, RISING)
    limit = bench.prices.cost(chain) / 4
    whole, rounds = run(bench, Draft(chain), limit)
    start = Draft(chain)
    progress = SearchProgress((), start, start)
    for draft, found in search(bench, start, limit):
        made = replace(draft, kept={"0.cheap": np.array([2, 0])}, parts={"0.cheap": "0"})
        progress = progress.then(made, found, (1.5, -0.25))
        state.keep(tmp_path, "key", progress)
        if found.number == 2:
            break
    assert state.read(tmp_path, "another key", start) is None
    again = state.read(tmp_path, "key", start)
    assert again is not None
    assert [each.number for each in again.rounds] == [1, 2]
    assert again.line == (1.5, -0.25)
    assert again.draft.parts == {"0.cheap": "0"}
    np.testing.assert_array_equal(again.draft.kept["0.cheap"], [2, 0])
    assert len(again.before.graph.nodes) > len(again.draft.graph.nodes)
    rest = list(search(bench, again.draft, limit, again.rounds))
    assert [found.number for _, found in rest] == [each.number for each in rounds[2:]]
    assert {n.path for n in rest[-1][0].graph} == {n.path for n in whole.graph}
    assert rest[-1][1].divergence == pytest.approx(rounds[-1].divergence)
    (tmp_path / state.FOLDER / "002.safetensors").write_bytes(b"damaged")
    earlier = state.read(tmp_path, "key", start)
    assert earlier is not None
    assert len(earlier.rounds) == 1
    state.forget(tmp_path)
    assert not (tmp_path / state.FOLDER).exists()


def test_a_round_is_made_again_between_those_that_were_too_fast_and_too_slow():
    one, other = Savings(32.0, 46.0), Savings(18.0, 23.0)
    assert to_estimate([], 10.0) == 10.0
    assert to_estimate([one], 23.0) == pytest.approx(16.0)  # of the way from nothing, half
    assert to_estimate([one, other], 34.5) == pytest.approx(25.0)
    assert to_estimate([other], 34.5) == pytest.approx(27.0)  # as much more as was saved more
    assert to_estimate([Savings(5.0, -1.0)], 10.0) == 10.0  # what saved nothing tells nothing


@pytest.mark.parametrize("more", [1.4, 0.7])
def test_the_first_whole_result_holds_the_budget_within_a_twentieth(more):
    """Where each change saves more than it was estimated to, or less: a few of 80 layers."""
    torch.manual_seed(0)
    count = 10 * LAYERS
    net = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(count)))
    graph = dw.open(net, (1, 8, 8, 8)).graph
    rising = {str(layer): 0.01 * (layer + 1) for layer in range(count)}
    bench = make_bench(rising, rising, "milliseconds")
    known, measured = Prices("milliseconds"), []
    cost = known.cost(graph)
    bench.prices.hold(graph, cost)

    def time_of(draft: Graph) -> float:
        measured.append(cost - more * (cost - known.cost(draft)))
        return measured[-1]

    limit, start, told = 0.5 * cost, Draft(graph), []
    list(hold_time(bench, SearchProgress((), start, start), limit, time_of, told.append))
    assert 0.95 * limit <= measured[-1] <= 1.02 * limit
    assert len(measured) == len(told) + 1  # nothing to correct
    assert all(said.endswith("the last round starts from that") for said in told)


@pytest.mark.parametrize("slower", [1.6, 0.4])
def test_measured_times_hold_the_budget(chain, slower):
    """Where estimates are wrong, by a factor that grows as the network shrinks."""
    bench = make_bench(RISING, RISING, "milliseconds")
    prices = Prices("milliseconds")
    cost = prices.cost(chain)

    def time_of(graph: Graph) -> float:
        return prices.cost(graph) * (1 if len(graph.nodes) == LAYERS else slower)

    limit = 0.6 * cost
    draft, rounds = run(bench, Draft(chain), limit)
    progress = SearchProgress(tuple(rounds), draft, Draft(chain))
    for better in hold_time(bench, progress, limit, time_of):
        progress = better
    taken = time_of(progress.draft.graph)
    assert taken <= 1.02 * limit
    one_more = time_of(chain) / LAYERS * slower
    assert taken + one_more > 0.93 * limit or len(progress.rounds[-1].steps) <= 1
