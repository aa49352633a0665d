"""The plan as text: a line a call, then the arena."""

from depthwise.compiler.partition import Group
from depthwise.compiler.places import Argument, Place, Table
from depthwise.compiler.plan import Plan
from depthwise.spelling import in_line


def show_plan(plan: Plan) -> str:
    """Return the kernel calls in order, with their literals and places, and the sizes of memory."""
    lines = [
        f"{step.kernel:<20} {' '.join(_show(a, plan) for a in step.arguments)}"
        f"{'  ' + in_line(step.comment) if step.comment else ''}  # {in_line(step.path)}"
        for step in plan.steps
    ]
    lines += [_show_group(group, plan) for group in plan.groups if group.height or group.remark]
    weights = plan.weights.nbytes
    lines.append(f"arena {plan.arena.bytes} bytes, weights {weights} bytes, {plan.target.name}")
    return "\n".join(lines)


def _show_group(group: Group, plan: Plan) -> str:
    first, last = (in_line(plan.whole.steps[at].path) for at in (group.first, group.last))
    streamed = f"in bands of {group.height} rows" if group.height else "not streamed"
    return f"{first} to {last} {streamed}{group.remark}"


def _show(argument: Argument, plan: Plan) -> str:
    match argument:
        case Place(buffer, offset):
            space = plan.buffers[buffer].space
            start = plan.arena.offsets.get(buffer, 0) // 4
            return f"{space}[{start + offset}]"
        case Table(values):
            return "{" + ",".join(map(str, values)) + "}"
        case int() | float():
            return f"{argument:g}"
        case None:
            return "-"
        case _:
            return str(argument)
