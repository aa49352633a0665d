"""A network as it is before it is quantised: BatchNorms in the weights, arithmetic in layers."""

from depthwise.graph import Graph
from depthwise.graph.passes.affine import fold_affine
from depthwise.graph.passes.batchnorm import fold_batchnorm
from depthwise.graph.passes.constants import fold_constants
from depthwise.graph.passes.dead_code import remove_dead_code
from depthwise.graph.passes.identity import drop_identity
from depthwise.graph.passes.local_response_norm import recompose_local_response_norm
from depthwise.graph.passes.padding import fold_padding

SIMPLIFYING = (
    remove_dead_code, fold_constants, recompose_local_response_norm, drop_identity, fold_padding,
)  # fmt: skip
FOLDING = (fold_batchnorm, fold_affine)


def prepare(graph: Graph) -> Graph:
    """Return the network with its BatchNorms folded: what is quantised is what is computed."""
    return fold(simplify(graph))


def simplify(graph: Graph) -> Graph:
    """Return the network without what changes nothing, its BatchNorms as they are."""
    for each in SIMPLIFYING:
        graph = each(graph)
    return graph


def fold(graph: Graph) -> Graph:
    """Return a network that was simplified with its BatchNorms in the weights before them."""
    for each in FOLDING:
        graph = each(graph)
    return graph
