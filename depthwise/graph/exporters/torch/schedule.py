"""When sizes are measured, and when values are forgotten."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from depthwise.graph.exporters.torch.axes import Size
from depthwise.graph.exporters.torch.network import Computed, Operand, Step


def measured(inputs: Sequence[str], steps: Sequence[Step]) -> list[Step]:
    """Return the steps with those that measure sizes, each just after the value it is a size of."""
    read = {
        operand.name for step in steps for operand in step.operands if type(operand) is Computed
    }
    wanted: dict[str, dict[Size, None]] = defaultdict(dict)
    for size in read:
        if isinstance(size, Size):
            wanted[size.value][replace(size, divisor=1, captured=0)] = None
    whole = {size: replace(size, divisor=1, captured=0) for size in read if isinstance(size, Size)}
    found: list[Step] = []
    for name in (*inputs, *steps):
        if isinstance(name, Step):
            found.append(name)
        value = name.result if isinstance(name, Step) else name
        for size in wanted.get(value, ()):  # type: ignore[call-overload]
            found.append(Step(size, size_along(size.axis), (Computed(value),)))
            parts = (part for part, own in whole.items() if own == size)
            found.extend(Step(part, share(part.divisor), (Computed(size),)) for part in parts)
    return found


def size_along(axis: int) -> Callable[[Tensor], int]:
    """Return what measures a tensor along an axis."""
    return lambda x: x.shape[axis]


def share(divisor: int) -> Callable[[int], int]:
    """Return what divides a size."""
    return (lambda size: size) if divisor == 1 else (lambda size: size // divisor)


def freed(steps: Sequence[Step], outputs: Iterable[Operand]) -> tuple[Step, ...]:
    """Return the steps, each of which forgets what nothing reads after it."""
    return tuple(reversed(list(_freed_backwards(steps, outputs))))


def _freed_backwards(steps: Sequence[Step], outputs: Iterable[Operand]) -> Iterator[Step]:
    needed: set[Hashable] = {each.name for each in outputs if isinstance(each, Computed)}
    for step in reversed(steps):
        names = {each.name for each in step.operands if isinstance(each, Computed)}
        own = {step.result} - needed  # nothing reads it at all
        yield replace(step, done=(*(names - needed), *own))
        needed |= names
