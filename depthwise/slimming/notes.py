"""What whoever slims is told beforehand, and at the end: what is left alone, risked, missed."""

from collections.abc import Collection, Iterator

from depthwise.graph import Graph
from depthwise.report.slimming_record import say_cost, say_untouched
from depthwise.slimming.channels.coupling import RETURNED
from depthwise.slimming.channels.groups import pinned_layers
from depthwise.slimming.layers.sites import left_alone
from depthwise.slimming.unknown import said, unknown_operators

NO_IMAGES = (
    "there are no images: some are made of what the BatchNorms remember of training, which tells "
    "less than a hundred images of its real use would; accuracy is not known, so look at it"
)
MET = 1.05  # times a limit in milliseconds: what takes longer misses it
LARGE = 1.5  # times as cheap: more is risky without images


def untouched(graph: Graph, frozen: Collection[str]) -> Iterator[str]:
    """Yield what of a network stays as it is, and why."""
    if unknown_operators(graph):
        yield (
            f"left as they are, for they are not known: {said(graph)}; no library can be made of "
            "such a network, so times are estimates, of all else; PyTorch runs and trains it"
        )
    yield from say_untouched(left_alone(graph, frozen), pinned_layers(graph), RETURNED)


def risk(ratio: float) -> Iterator[str]:
    """Yield what is risked by slimming without images to this share of the cost."""
    if ratio > LARGE:
        yield (
            f"{ratio:.1f} times as cheap without images is a risk: up to {LARGE:g} times is "
            "usual; give images (--data), best with labels and --recover"
        )


def missed(taken: float, limit: float) -> Iterator[str]:
    """Yield that a limit in milliseconds is not met, where it is not."""
    if taken > MET * limit:
        yield (
            f"the budget of {say_cost('milliseconds', limit)} is NOT MET: "
            f"{say_cost('milliseconds', taken)} after all corrections; a smaller budget, or a "
            "machine that does nothing else, may bring it there"
        )
