"""From graph to graph: each pass takes work away, and `PASSES` is their order.

A pass returns the graph itself where it finds nothing to do. `QUANTISED_PASSES` are those of
quantised networks. Preparations of images (`input`) and narrower types (`narrow`, `stored_weights`)
come after all of them, where they are asked for.
"""

from collections.abc import Callable

from depthwise.compiler.passes.activation import fuse_activation
from depthwise.compiler.passes.arithmetic import fuse_arithmetic
from depthwise.compiler.passes.broadcast import repeat_operands
from depthwise.compiler.passes.element_types import compute_in_float32
from depthwise.compiler.passes.flatten import fold_flatten
from depthwise.compiler.passes.residual import fuse_residual
from depthwise.compiler.passes.shuffle import fold_shuffle
from depthwise.graph import Graph
from depthwise.graph.passes.affine import fold_affine
from depthwise.graph.passes.batchnorm import fold_batchnorm
from depthwise.graph.passes.concat import nest_concat
from depthwise.graph.passes.constants import fold_constants
from depthwise.graph.passes.dead_code import remove_dead_code
from depthwise.graph.passes.identity import drop_identity
from depthwise.graph.passes.local_response_norm import recompose_local_response_norm
from depthwise.graph.passes.padding import fold_padding
from depthwise.graph.passes.taps import drop_padding_taps
from depthwise.quantization.integer import to_integers

Pass = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    remove_dead_code,
    fold_constants,  # in the types of the network
    compute_in_float32,
    recompose_local_response_norm,  # before drop_identity: an alpha of 1 is part of it
    drop_identity,
    nest_concat,
    fold_padding,
    drop_padding_taps,  # of padding, too, that was a step of its own
    fold_batchnorm,
    fold_affine,
    fold_flatten,
    fuse_activation,
    fuse_residual,
    fuse_activation,  # those after a sum
    fuse_arithmetic,
    fold_shuffle,  # an activation between convolution and shuffle is now within the former
)

# of quantised networks, of which few layers, if any, are left in float32
QUANTISED_PASSES: tuple[Pass, ...] = (
    remove_dead_code,
    to_integers,
    repeat_operands,
    fold_constants,
    compute_in_float32,
    remove_dead_code,
    drop_identity,
    nest_concat,
    fuse_activation,
    fuse_residual,
    fuse_activation,
)
