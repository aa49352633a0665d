"""The search: estimate, choose for a part of the way, apply, refit, measure; again until it is met.

Damages that are measured one at a time do not add up, for changes interact. So each round goes a
part of the way to the budget, all parts in the same ratio, and estimates everything anew on what
the round before left.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log

from depthwise.analysis.count import count_macs
from depthwise.graph import Graph
from depthwise.report.slimming_record import RoundRecord, StepRecord, say_cost
from depthwise.slimming.costs.prices import Prices
from depthwise.slimming.draft import Draft
from depthwise.slimming.floor import check_possible, say_largest
from depthwise.slimming.knapsack import Knapsack
from depthwise.slimming.moves import Move
from depthwise.slimming.offers import Offer, Shortfall, find_offers
from depthwise.slimming.scaling import to_scale
from depthwise.slimming.statistics import Statistics

PART = 0.75  # of a network's cost that a round leaves, at least
AIMS = 6  # choices by which a round comes close to its target
CLOSE = 0.01  # of what a round is to save, by which it may save more
WORSE = 4.0  # times as much damage as estimated: then a change is looked for that is to blame
LITTLE = 0.02  # nats an image, more than which nothing is worse than estimated
TRIES = 3  # at a round, of which the best is taken
STUCK = 0.002  # of the cost: a round that saves less leads nowhere
MOST_ROUNDS = 40


@dataclass(frozen=True, eq=False)
class Bench:
    """What a search works with: each callable is one of this package's, or a test's.

    Attributes:
        moves: What may be done, by name.
        prices: Of what a change saves, by the budget's measure.
        times: The same in milliseconds.
        statistics: From a draft to those of its layers on calibration images.
        refit: From a draft to one whose weights make up for errors.
        divergence: From a graph to how far its scores are from the original's on held-out images:
            on all of them, or, where asked, quickly on a few.
        asked: What the network may cost by the user's own words; 0 where nobody asked.
        pace: How many multiply-adds a millisecond counts for under a budget of these, so that
            time falls along with them; 0 where it does not count.
    """

    moves: Mapping[str, Move]
    prices: Prices
    times: Prices
    statistics: Callable[[Draft], Statistics]
    refit: Callable[[Draft], Draft]
    divergence: Callable[[Graph, bool], float]
    asked: float = 0.0
    pace: float = 0.0

    def cost(self, graph: Graph) -> float:
        """Return what a network costs, or what its time counts for, where that is more."""
        cost = self.prices.cost(graph)
        return max(cost, self.pace * self.times.cost(graph)) if self.pace else cost

    def missing(self, graph: Graph, target: float) -> Shortfall:
        """Return what a network has to save to cost as much as a target."""
        cost = self.prices.cost(graph) - target
        if not self.pace:
            return Shortfall(cost)
        return Shortfall(cost, self.times.cost(graph) - target / self.pace, self.pace)

    def offers(self, draft: Draft, target: float) -> list[Offer]:
        """Return all changes of a draft, each with what it is worth on the way to a target."""
        return find_offers(
            draft, self.statistics(draft), self.moves, self.prices, self.times,
            self.missing(draft.graph, target),
        )  # fmt: skip


def next_target(cost: float, limit: float) -> float:
    """Return what the next round is to reach: all rounds to the limit save the same share."""
    rounds = max(1, ceil(log(limit / cost) / log(PART) - 1e-9))
    return cost * (limit / cost) ** (1 / rounds)


def search(
    bench: Bench, draft: Draft, limit: float, done: Sequence[RoundRecord] = ()
) -> Iterator[tuple[Draft, RoundRecord]]:
    """Yield a draft after each round until it costs no more than `limit`.

    Args:
        bench: What to work with.
        draft: The network as it is, or after the rounds that are `done`.
        limit: What it may cost at most, by the measure of the bench's prices.
        done: Rounds of before.

    Raises:
        ValueError: The moves cannot make it so small.
    """
    for number in range(len(done) + 1, MOST_ROUNDS + 1):
        cost = bench.cost(draft.graph)  # anew: whoever takes the drafts may correct the prices
        if cost <= limit:
            return
        before = done[-1].divergence if done else 0.0
        made, found = make_round(bench, draft, next_target(cost, limit), number, before)
        if cost - bench.cost(made.graph) >= STUCK * cost:
            draft, done = made, (*done, found)
            yield draft, found
        elif bench.pace:  # nothing makes it as much faster as cheaper
            bench = replace(bench, pace=0.0)
        else:
            break
    cost = bench.cost(draft.graph)
    if cost > limit:
        raise ValueError(_why_not(bench, draft, cost, bench.asked or limit))


def is_near(cost: float, limit: float) -> bool:
    """Tell whether one more round leads from a cost to a limit."""
    return limit < cost <= limit / PART * (1 + 1e-9)


def make_round(
    bench: Bench, draft: Draft, target: float, number: int, before: float
) -> tuple[Draft, RoundRecord]:
    """Return the draft after changes that bring its cost to `target`, as far as there are any.

    Where it diverges much more than estimated, the changes to blame are undone, their places are
    banned for the round, and others are taken; the best of these tries is returned.

    Args:
        bench: What to work with.
        draft: The network before it.
        target: What it is to cost.
        number: Of the round.
        before: The divergence of the draft.
    """
    start = time.perf_counter()
    offers = bench.offers(draft, target)
    if number == 1:  # of later rounds, what was changed before tells more
        check_possible(draft.graph, bench.prices, offers, bench.asked)
    offers = worthwhile(bench, draft, offers)
    banned: list[str] = []
    best: tuple[float, Draft, Sequence[Offer]] | None = None
    for _ in range(TRIES):
        left = [offer for offer in offers if offer.change.place not in banned]
        changed, taken = aim(bench, draft, left, target)
        if not taken:
            break
        fitted = bench.refit(changed)
        divergence = bench.divergence(fitted.graph, False)
        if best is None or divergence < best[0]:
            best = divergence, fitted, taken
        estimated = sum(offer.change.damage for offer in taken)
        if divergence - before <= WORSE * estimated + LITTLE:
            break
        banned += blamed(bench, draft, taken)
    divergence, made, taken = best or (before, draft, ())
    costs = [bench.prices.cost(each.graph) for each in (draft, made)]
    record = RoundRecord(
        number=number, target=target, before=costs[0], after=costs[1],
        damage=sum(offer.change.damage for offer in taken), divergence=divergence,
        banned=tuple(p for p in banned if p not in {offer.change.place for offer in taken}),
        seconds=time.perf_counter() - start, steps=tuple(recorded(bench, taken, offers)),
    )  # fmt: skip
    return made, record


def worthwhile(bench: Bench, draft: Draft, offers: Iterable[Offer]) -> list[Offer]:
    """Return the offers that lead anywhere, the estimates of their damage to scale."""
    found = [offer for offer in offers if offer.worth > 0]
    return to_scale(draft, found, lambda graph: bench.divergence(graph, True))


def aim(
    bench: Bench, draft: Draft, offers: Sequence[Offer], target: float
) -> tuple[Draft, list[Offer]]:
    """Return the draft with changes that bring its cost to the target, and these changes.

    Savings do not quite add up, so that what is asked of the knapsack is corrected by what came of
    it. Where all changes together are too little, half of what they save is taken.
    """
    knapsack = Knapsack([offer.choice for offer in offers])
    cost = bench.cost(draft.graph)
    most, wanted = knapsack.most, cost - target
    if most < wanted:
        wanted, target = most / 2, cost - most / 2
    asked = wanted
    best: tuple[Draft, list[Offer], float] = draft, [], cost
    for _ in range(AIMS):
        places = knapsack.solve(asked) if asked > 0 else None
        if places is None:
            break
        changed, taken = apply_all(draft, [offers[place] for place in places])
        after = bench.cost(changed.graph)
        if _is_nearer(after, best[2], target):
            best = changed, taken, after
        saved = cost - after
        if saved <= 0 or 0 <= saved - wanted <= CLOSE * wanted:
            break
        asked = min(asked * wanted / saved * (1 + CLOSE / 2), most)
    return best[:2]


def _is_nearer(one: float, other: float, target: float) -> bool:
    """Tell whether a cost suits a target better: below it the nearer, else the lower."""
    if min(one, other) > target:
        return one < other
    return other > target or (one <= target and one > other)


def apply_all(draft: Draft, offers: Sequence[Offer]) -> tuple[Draft, list[Offer]]:
    """Return the draft after all changes, and those that were made: one may no longer fit."""
    taken = []
    for offer in offers:
        try:
            changed = offer.change.apply(draft)
        except ValueError:  # what it changes is another by now
            continue
        if draft.keeps_frozen(changed.graph):
            draft = changed
            taken.append(offer)
    return draft, taken


def blamed(bench: Bench, draft: Draft, taken: Sequence[Offer]) -> list[str]:
    """Return the places of changes that do much more damage alone than they were estimated to.

    The worst one where it is none of them.
    """
    before = bench.divergence(draft.graph, True)
    excess = {}
    for offer in taken:
        found = bench.divergence(offer.change.apply(draft).graph, True) - before
        excess[offer.change.place] = found - WORSE * offer.change.damage - LITTLE / len(taken)
    worst = sorted(excess, key=lambda place: -excess[place])
    return [place for place in worst[: -(-len(worst) // 3)] if excess[place] > 0] or worst[:1]


def recorded(bench: Bench, taken: Sequence[Offer], offers: Sequence[Offer]) -> Iterator[StepRecord]:
    """Yield what is kept of the changes that were taken, of all that were offered."""
    count = Counter(offer.change.place for offer in offers)
    for offer in taken:
        change = offer.change
        others = count[change.place] - 1
        why = f"{say_cost(bench.prices.measure, offer.saving)} for {change.damage:.2g} nats"
        yield StepRecord(
            move=change.move, place=change.place, words=change.words, damage=change.damage,
            saving=offer.saving, milliseconds=offer.milliseconds,
            why=f"{why}, before {others} other changes here" if others else why,
        )  # fmt: skip


def _why_not(bench: Bench, draft: Draft, cost: float, limit: float) -> str:
    """Return that a budget cannot be met, the smallest that can, and what holds it up."""
    measure = bench.prices.measure
    macs: Counter[str] = Counter()
    for node in draft.graph:
        macs[node.path or node.name] += count_macs(draft.graph, node) or 0
    return (
        f"a budget of {say_cost(measure, limit)} cannot be met by the moves "
        f"{', '.join(bench.moves)}: the smallest that can is {say_cost(measure, cost)}; most of "
        f"what is left is in {say_largest(macs)}, by MACs"
    )
