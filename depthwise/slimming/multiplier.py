"""A width multiplier in the place of a search: all layers narrowed alike, in one round.

What MobileNets call alpha (arXiv:1704.04861, section 3.2), with the weights of the full width: each
group keeps a share of its channels, the most important ones, and weights are refitted.
"""

import time
from collections.abc import Iterator

from depthwise.report.slimming_record import RoundRecord
from depthwise.slimming.channels.groups import find_groups
from depthwise.slimming.channels.pools import UnitPool
from depthwise.slimming.channels.widths import units_of_width
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.moves.channels import group_changes
from depthwise.slimming.offers import Shortfall, find_offers
from depthwise.slimming.search import Bench, apply_all, recorded
from depthwise.slimming.statistics import Statistics

NAME = "width"


def narrow_once(bench: Bench, draft: Draft, alpha: float) -> tuple[Draft, RoundRecord]:
    """Return the draft with a share of the channels of each group, refitted, and what came of it.

    Layers that are frozen keep their channels, and so does what is coupled to them.

    Args:
        bench: What to work with.
        draft: The network as it is.
        alpha: The share, above 0 and below 1.

    Raises:
        ValueError: No layer has channels that can be cut so.
    """

    def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
        def offered(pool: UnitPool, _: float) -> list[int]:
            return [count for count in (units_of_width(pool, alpha),) if count < len(pool[0])]

        for group in find_groups(draft.graph).groups.values():
            yield from group_changes(draft, group, known, NAME, offered)

    start, before = time.perf_counter(), bench.cost(draft.graph)
    offers = find_offers(
        draft,
        bench.statistics(draft),
        {NAME: changes},
        bench.prices,
        bench.times,
        Shortfall(before),
    )
    changed, taken = apply_all(draft, offers)
    if not taken:
        raise ValueError(f"a width of {alpha:g} cuts nothing: no layer has channels that may go")
    made = bench.refit(changed)
    after = bench.prices.cost(made.graph)
    record = RoundRecord(
        number=1, target=after, before=bench.prices.cost(draft.graph), after=after,
        damage=sum(offer.change.damage for offer in taken),
        divergence=bench.divergence(made.graph, False), seconds=time.perf_counter() - start,
        steps=tuple(recorded(bench, taken, offers)),
    )  # fmt: skip
    return made, record
