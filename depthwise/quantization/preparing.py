"""A network as it is before it is quantised: BatchNorms in the weights, arithmetic in layers."""

from depthwise.graph import Graph
from depthwise.graph.passes.affine import fold_affine
from depthwise.graph.passes.batchnorm import fold_batchnorm
from depthwise.graph.passes.constants import fold_constants
from depthwise.graph.passes.dead_code import remove_dead_code
from depthwise.graph.passes.identity import drop_identity
from depthwise.graph.passes.local_response_norm import recompose_local_response_norm
from depthwise.graph.passes.padding import fold_padding

PASSES = (
    remove_dead_code, fold_constants, recompose_local_response_norm, drop_identity, fold_padding,
    fold_batchnorm, fold_affine,
)  # fmt: skip


def prepare(graph: Graph) -> Graph:
    """Return the network with its BatchNorms folded: what is quantised is what is computed."""
    for each in PASSES:
        graph = each(graph)
    return graph
