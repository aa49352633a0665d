"""The plan as text: a line a call, a line a buffer, and the sizes of memory."""

from collections.abc import Iterable
from math import prod

from depthwise.analysis.fitted import Column, FittedTable
from depthwise.analysis.tables import in_shape, render
from depthwise.analysis.units import in_units
from depthwise.compiler.fused_ops import Epilogue, in_words
from depthwise.compiler.lowering.calls import Argument, KernelCall
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.plan import Plan
from depthwise.compiler.schedule.partition import Group
from depthwise.escaping import counted, in_line
from depthwise.graph.ops import Activation

WIDE = 1000  # characters: a plan is read in an editor, or with `less -S`
STEPS = (
    Column("step"), Column("module", kind="word"), Column("kernel", kind="word"),
    Column("in", kind="word"), Column("out", kind="word"), Column("rows", kind="word"),
    Column("weights"), Column("reads", kind="word"), Column("writes", kind="word"),
    Column("how", kind="word"),
)  # fmt: skip
BUFFERS = (
    Column("buffer", kind="word"), Column("size"), Column("at"), Column("from step"),
    Column("to step"), Column("holds", kind="word"),
)  # fmt: skip
SHOWN = 3  # values of a buffer that are named


def show_plan(plan: Plan) -> str:
    """Return the kernel calls in order with their sizes, the buffers, and sizes of memory."""
    title = f"{len(plan.steps)} steps for {plan.target.name}, on {counted(plan.threads, 'thread')}"
    steps = FittedTable(STEPS, [_step(i, s, plan) for i, s in enumerate(plan.steps, 1)])
    chosen = [group for group in plan.groups if group.height or group.channels or group.remark]
    groups = [_show_group(group, plan) for group in chosen]
    last = (
        f"arena {_bytes(plan.arena.bytes)}, weights {_bytes(plan.weights.nbytes)}, "
        f"{plan.target.name}"
    )
    whom = f"tuned for {plan.constants.core}"
    parts = [title, whom, render(steps, WIDE), *groups, "", render(_buffers(plan), WIDE), "", last]
    return "\n".join(parts)


def _step(number: int, step: KernelCall, plan: Plan) -> tuple[str, ...]:
    read = [view for view in step.views if view not in step.written]
    values = [view for view in read if plan.buffers[view.buffer].space != "weights"]
    weights = sum(
        plan.buffers[p.buffer].element.bytes * prod(p.shape) for p in read if p not in values
    )
    how = [in_line(step.comment), *map(_say, step.arguments.values())]
    return (
        str(number), in_line(step.path or step.name), step.row.name,
        in_shape(values[0].shape) if values else "", in_shape(step.written[0].shape),
        _rows(step, plan), in_units(weights, "B") if weights else "", _names(values, plan),
        _names(step.written, plan), ", ".join(filter(None, how)),
    )  # fmt: skip


def _say(argument: Argument) -> str:
    """Return what an argument does to each element, in words; "" for all others."""
    match argument:
        case Activation():
            return in_words(argument)
        case Epilogue() if str(argument):
            return f"then {argument}"
    return ""


def _rows(step: KernelCall, plan: Plan) -> str:
    """Return how many rows of its value a step makes, where it is a band of them."""
    whole = plan.graph.type(step.name).shape if step.name else ()
    made = step.written[0].shape
    if len(whole) != 4 or len(made) != 4 or len(step.written) > 1:
        return ""
    rows = made[2] * made[3] // whole[3]  # pixels may lie in one row for the kernel
    return f"{rows} of {whole[2]}" if 0 < rows < whole[2] else ""


def _names(views: Iterable[TensorView], plan: Plan) -> str:
    return " ".join(dict.fromkeys(_name(view.buffer, plan) for view in views))


def _name(number: int, plan: Plan) -> str:
    buffer = plan.buffers[number]
    return f"b{number}" if buffer.space == "arena" else f"{buffer.space} {buffer.index}"


def _buffers(plan: Plan) -> FittedTable:
    """Return a row a buffer of the arena: where it lies, and from when to when it is needed."""
    needed: dict[int, list[int]] = {}
    for number, step in enumerate(plan.steps, 1):
        for view in step.views:
            needed.setdefault(view.buffer, []).append(number)
    held: dict[int, list[str]] = {}
    for value, view in plan.views.items():
        held.setdefault(view.buffer, []).append(value)
    rows = [
        (
            f"b{buffer}", in_units(plan.buffers[buffer].bytes, "B"),
            f"{plan.arena.offsets[buffer]:,}", str(numbers[0]), str(numbers[-1]),
            _say_held(held.get(buffer, [])),
        )
        for buffer, numbers in sorted(needed.items())
        if buffer in plan.arena.offsets
    ]  # fmt: skip
    return FittedTable(BUFFERS, rows)


def _say_held(values: list[str]) -> str:
    more = len(values) - SHOWN
    names = in_line(", ".join(values[:SHOWN])) or "a band or a slice, or what a step works in"
    return f"{names} and {more} more" if more > 0 else names


def _show_group(group: Group, plan: Plan) -> str:
    first, last = (plan.whole.steps[at] for at in (group.first, group.last))
    streamed = f"in bands of {group.height} rows" if group.height else "not streamed"
    if group.channels:
        streamed = f"in slices of {group.channels} channels"
    names = (in_line(step.path or step.name or "the input") for step in (first, last))
    return f"{' to '.join(names)} {streamed}{group.remark}"


def _bytes(count: int) -> str:
    return f"{in_units(count, 'B')} ({count:,} bytes)" if count >= 1000 else f"{count} bytes"
