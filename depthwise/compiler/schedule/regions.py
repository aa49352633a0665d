"""Regions: the calls of a plan, streamed where that was chosen, and divided among threads."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from depthwise.compiler.constants import Constants
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import Buffer, TensorView
from depthwise.compiler.schedule.partition import Group
from depthwise.compiler.schedule.steps import Steps
from depthwise.compiler.schedule.threads import Divider, Parts, Shares, divide, stream_parts


def make_regions(
    whole: Steps, groups: Sequence[Group], threads: int, constants: Constants, buffers: list[Buffer]
) -> list[Parts]:
    """Return the calls of each group streamed or one by one, divided among threads.

    Windows of streamed groups are appended to `buffers`, which start with those of `whole`.
    """

    def add_window(elements: int) -> int:
        buffers.append(Buffer("arena", elements))
        return len(buffers) - 1

    divider = Divider(buffers, threads, constants)
    items: list[list[Shares]] = []
    for group in groups:
        chain = whole.chain(group.first, group.last) if group.height else None
        parts = chain and stream_parts(chain, group.height, threads, add_window)
        if chain and parts:
            items.append([divider.chain(chain, parts)])
        else:
            alone = whole.steps[group.first : group.last + 1]
            items += [list(divider.options(step)) for step in alone]
    return divide(items, threads, constants)


def separate_scratch(regions: Sequence[Parts], buffers: list[Buffer]) -> list[Parts]:
    """Return the regions with scratch memory of its own for each part of a call.

    Parts of one call share its buffers until here; theirs are appended to `buffers`.
    """

    def own(view: TensorView) -> TensorView:
        buffers.append(replace(buffers[view.buffer], elements=prod(view.shape)))
        return replace(view, buffer=len(buffers) - 1)

    def with_own(step: KernelCall) -> KernelCall:
        if step.origin is None or not step.row.scratch:
            return step
        return step.with_arguments(**{n: own(step.arguments[n]) for n in step.row.scratch})

    return [tuple(tuple(map(with_own, part)) for part in region) for region in regions]
