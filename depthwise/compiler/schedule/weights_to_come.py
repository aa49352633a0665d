"""Weights to come: which cache lines of them a convolution asks for while it computes.

Weights lie in the order in which layers read them, so that what comes next lies behind what is
read now. `f32_conv` asks for some of its lines from tile to tile; they are near when it is their
turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from depthwise.compiler.lowering.algorithms import (
    ASKING, BUSY, FLOATS, Direct, prefetch_lines,
)  # fmt: skip
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.packing import round_up
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.schedule.threads import Parts


@dataclass(frozen=True)
class Request:
    """As f32_conv takes it: `lines` before every `steps` channels, `count` in all."""

    lines: int
    steps: int
    count: int


def ask_for_weights(regions: Sequence[Parts], lanes: int) -> list[Parts]:
    """Return the regions with the weights that each convolution asks for.

    A thread has caches of its own: it knows up to where it has asked.
    """
    asked = [0] * max(map(len, regions), default=0)  # floats of the weights, for each thread
    found = []
    for region in regions:
        parts = []
        for thread, part in enumerate(region):
            steps = []
            for step in part:
                made, asked[thread] = _asking(step, asked[thread], lanes)
                steps.append(made)
            parts.append(tuple(steps))
        found.append(tuple(parts))
    return found


def _asking(step: KernelCall, asked: int, lanes: int) -> tuple[KernelCall, int]:
    """Return a step with what it asks for, and up to where weights were asked for then."""
    if step.kernel != "f32_conv":
        return step, asked
    a, layer = step.arguments, step.layer
    assert layer
    if layer.pixels < BUSY:
        return step, asked
    depth, w, bias = a["tile_depth"], a["w"], a["bias"]
    end = bias.offset + a["groups"] * round_up(a["outs"], lanes // depth) * depth
    if not ASKING.own:
        direct = Direct(a["tile_pixels"], a["tile_vectors"], bool(a["weights_outer"]), depth)
        lines = prefetch_lines(layer, direct, lanes)
        first = end
        made = step.with_arguments(prefetch_lines=lines, next=_place(end))
        return (made if lines else step), end
    panel = a["taps"] * a["channels"] * a["tile_vectors"] * lanes // depth
    first = max(asked, w.offset + panel if a["weights_outer"] else end)
    request = _request(step, (end + ASKING.ahead // 4 - first) // FLOATS, lanes)
    if request is None:
        return step, max(asked, end)
    made = step.with_arguments(
        prefetch_lines=request.lines, prefetch_steps=request.steps, next=_place(first)
    )
    return made, first + request.count * FLOATS


def _request(step: KernelCall, wanted: int, lanes: int) -> Request | None:
    a = step.arguments
    depth = a["tile_depth"]
    vectors = ceil(a["outs"] * depth / lanes)
    terms = a["channels"] // depth
    tiles = a["images"] * a["rows"] * ceil(a["width"] / a["tile_pixels"]) * a["groups"]
    tiles *= ceil(vectors / a["tile_vectors"])
    steps = tiles * a["taps"] * terms
    work = a["images"] * a["rows"] * a["width"] * vectors * a["groups"] * a["taps"] * terms
    count = min(wanted, work // ASKING.per_line)
    if count <= 0:
        return None
    requests = []
    for lines in (1, 2, 3, 4, 6, 8):
        every = min(max(1, steps * lines // count), terms)
        total = tiles * a["taps"] * ceil(terms / every) * lines
        requests.append(Request(lines, every * depth, total))
    best = min(requests, key=lambda r: (abs(r.count - count), r.lines))
    return best if best.count < 2 * count else None


def _place(offset: int) -> TensorView:
    """Return where weights lie that nothing is read of."""
    return TensorView(0, offset, (0,), (1,))
