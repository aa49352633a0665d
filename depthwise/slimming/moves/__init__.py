"""What can be done to a network: a move is a file with `changes`, which offers each change."""

from collections.abc import Callable, Iterator

from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.moves import (
    activations,
    blocks,
    bottleneck,
    channel_pair,
    channels,
    ghost,
    grouped,
    head,
    low_rank,
    resolution,
    separable,
    smaller_kernel,
    spatial_pair,
    squeeze,
)
from depthwise.slimming.statistics import Statistics

Move = Callable[[Draft, Statistics], Iterator[Change]]

MOVES: dict[str, Move] = {
    "channels": channels.changes,
    "low_rank": low_rank.changes,
    "channel_pair": channel_pair.changes,
    "bottleneck": bottleneck.changes,
    "ghost": ghost.changes,
    "grouped": grouped.changes,
    "separable": separable.changes,
    "smaller_kernel": smaller_kernel.changes,
    "spatial_pair": spatial_pair.changes,
    "blocks": blocks.changes,
    "squeeze": squeeze.changes,
    "activations": activations.changes,
    "head": head.changes,
    "resolution": resolution.changes,
}
