"""Where a network ends earlier than its author let it: at a value, or at what a module returns."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from depthwise.errors import nearest
from depthwise.escaping import in_line


class Computed(NamedTuple):
    """A value on its way: its name, the path of the module that computes it, and what it reads."""

    value: str
    path: str
    reads: Collection[str]


def find_end(until: str, steps: Iterable[Computed], returned: Collection[str]) -> tuple[str, ...]:
    """Return the values that a network returns which ends with `until`.

    That is a value itself, or the path of a module, whose values are those that are read outside
    of it, or returned, in order. Raises ValueError for a name that is neither.
    """
    steps = list(steps)
    if any(step.value == until for step in steps):
        return (until,)
    inside = [step for step in steps if until and f"{step.path}.".startswith(f"{until}.")]
    if not inside:
        raise ValueError(
            f"until={in_line(until)!r}: no value and no module of the network has that name: "
            f"{in_line(nearest(until, known_ends(steps)))}"
        )
    made = {step.value for step in inside}
    read = {name for step in steps if step.value not in made for name in step.reads}
    return tuple(step.value for step in inside if step.value in read or step.value in returned)


def known_ends(steps: Iterable[Computed]) -> set[str]:
    """Return the names of all values and all modules."""
    steps = list(steps)
    return {step.value for step in steps} | {
        ".".join(parts[:count])
        for parts in (step.path.split(".") for step in steps if step.path)
        for count in range(1, len(parts) + 1)
    }
