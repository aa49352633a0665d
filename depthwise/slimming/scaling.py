"""Estimates of damage, brought to scale: a few changes of each move are made, and measured.

To second order a network that is sure of its images hardly minds anything, so that estimates rank
the changes of a move well and are too low, by a factor that differs from move to move.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from depthwise.graph import Graph
from depthwise.progress import track
from depthwise.slimming.draft import Draft
from depthwise.slimming.offers import Offer

QUANTILES = 0.25, 0.5, 0.75  # of a move's offers, by their damage for what they are worth
WIDEST = 1000.0  # the largest factor, and the inverse of the smallest
NOISE = 1e-6  # nats an image, less than which no difference is told


def to_scale(
    draft: Draft, offers: Sequence[Offer], divergence: Callable[[Graph], float]
) -> list[Offer]:
    """Return the offers, the damages of each move times the factor by which some are off.

    The factor is the geometric mean over those that were made, and over that of all moves, which
    counts as one more: of few changes it is not known well.

    Args:
        draft: What the changes are of.
        offers: All of them.
        divergence: From a graph to how far its scores are from the original's, in nats an image.
    """
    before = divergence(draft.graph)
    found: dict[str, list[float]] = {}
    for offer in track(_samples(offers), "measuring changes"):
        change = offer.change
        done = divergence(change.apply(draft).graph) - before
        ratio = max(done, NOISE) / max(change.damage, NOISE)
        found.setdefault(change.move, []).append(math.log(min(WIDEST, max(1 / WIDEST, ratio))))
    factors = _factors(found)
    return [
        replace(offer, change=replace(offer.change, damage=offer.change.damage * factor))
        for offer in offers
        for factor in (factors.get(offer.change.move, 1.0),)
    ]


def _samples(offers: Sequence[Offer]) -> list[Offer]:
    """Return some of the offers of each move."""
    moves: dict[str, list[Offer]] = {}
    for offer in offers:
        if offer.change.damage > 0:
            moves.setdefault(offer.change.move, []).append(offer)
    chosen: list[Offer] = []
    for each in moves.values():
        each.sort(key=lambda offer: offer.change.damage / offer.worth)
        places = sorted({round(share * (len(each) - 1)) for share in QUANTILES})
        chosen += [each[place] for place in places]
    return chosen


def _factors(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the factor of each move, from the logarithms of its ratios."""
    if not found:
        return {}
    means = [sum(each) / len(each) for each in found.values()]
    usual = sum(means) / len(means)
    return {move: math.exp((sum(each) + usual) / (len(each) + 1)) for move, each in found.items()}
