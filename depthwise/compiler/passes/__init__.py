"""From graph to graph: each pass takes work away, and `PASSES` is their order.

A pass returns the graph itself where it finds nothing to do. `rewrite` is how they all edit.
"""

from collections.abc import Callable

from depthwise.compiler.passes.activation import fuse_activation
from depthwise.compiler.passes.affine import fold_affine
from depthwise.compiler.passes.batchnorm import fold_batchnorm
from depthwise.compiler.passes.constants import fold_constants
from depthwise.compiler.passes.dead_code import remove_dead_code
from depthwise.compiler.passes.residual import fuse_residual
from depthwise.graph import Graph

Pass = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    remove_dead_code,
    fold_constants,
    fold_batchnorm,
    fold_affine,
    fuse_activation,
    fuse_residual,
    fuse_activation,  # those behind a sum
)
