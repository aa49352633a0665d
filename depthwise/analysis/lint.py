"""Where a network's design goes wrong, read from its graph before it is trained."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from depthwise.analysis.finding import Finding, merge_equal
from depthwise.analysis.lint_channels import (
    bias_before_norm,
    bottleneck_activation,
    channel_multiple,
    gate_without_plane,
    group_size,
)
from depthwise.analysis.lint_planes import (
    asymmetric_padding,
    checkerboard,
    gridding,
    small_field,
    small_field_for_object,
)
from depthwise.graph import NO_KWARGS, Graph
from depthwise.sources.opening import describe

if TYPE_CHECKING:
    from depthwise.sources.opening import Network

Rule = Callable[[Graph], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    checkerboard,
    gridding,
    small_field,
    gate_without_plane,
    bottleneck_activation,
    channel_multiple,
    group_size,
    bias_before_norm,
    asymmetric_padding,
)


def lint(
    net: "Network", *shapes: Any, kwargs: Mapping[str, Any] = NO_KWARGS,
    object_size: int | None = None,
) -> list[Finding]:  # fmt: skip
    """Find mistakes in a network's design, before it is trained.

    Args:
        net: Whatever `dw.open` takes; it may be on the meta device, and is not changed.
        *shapes: The shape of each input, (N, C, H, W); left out, the network's usual ones.
        kwargs: Those of arguments that are given by name, as `dw.open` takes.
        object_size: In pixels of the input: also warn where the network does not see that much at
            once.

    Returns:
        What each rule found, warnings first; where a rule finds much, equal findings are one.

    Raises:
        ValueError: A network or shapes that cannot be used.
    """
    return lint_graph(describe(net, *shapes, kwargs=kwargs).traced, object_size)


def lint_graph(graph: Graph, object_size: int | None = None) -> list[Finding]:
    """Return what every rule finds in a graph, warnings first; equal findings are put together."""
    if object_size is not None and object_size < 1:
        raise ValueError(f"object_size={object_size}: give the object's size in pixels, 1 or more")
    findings = [finding for rule in RULES for finding in rule(graph)]
    if object_size is not None:
        findings += small_field_for_object(graph, object_size)
    return merge_equal(findings)
