"""When sizes are measured, and when values are forgotten."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace

from depthwise.graph.exporters.torch.axes import OpenSize
from depthwise.graph.exporters.torch.network import NetworkStep, Operand, ValueOperand


def measured(inputs: Sequence[str], steps: Sequence[NetworkStep]) -> list[NetworkStep]:
    """Return the steps with those that measure sizes, each just after the value it is a size of."""
    operands = dict.fromkeys(operand for step in steps for operand in step.operands)
    wanted: dict[str, list[NetworkStep]] = defaultdict(list)
    for operand in operands:
        if isinstance(operand, ValueOperand) and isinstance(operand.name, OpenSize):
            wanted[operand.name.value].append(measuring(operand.name))
    found = [step for name in inputs for step in wanted[name]]
    for step in steps:
        found += [step, *wanted[str(step.result)]]
    return found


def measuring(size: OpenSize) -> NetworkStep:
    """Return the step that finds a size."""
    axis, divisor = size.axis, size.divisor
    if divisor == 1:
        return NetworkStep(size, lambda x: x.shape[axis], (ValueOperand(size.value),))
    return NetworkStep(size, lambda x: x.shape[axis] // divisor, (ValueOperand(size.value),))


def freed(steps: Sequence[NetworkStep], outputs: Iterable[Operand]) -> tuple[NetworkStep, ...]:
    """Return the steps, each of which forgets what nothing reads after it."""
    return tuple(reversed(list(_freed_backwards(steps, outputs))))


def _freed_backwards(
    steps: Sequence[NetworkStep], outputs: Iterable[Operand]
) -> Iterator[NetworkStep]:
    needed: set[Hashable] = {each.name for each in outputs if isinstance(each, ValueOperand)}
    for step in reversed(steps):
        names = {each.name for each in step.operands if isinstance(each, ValueOperand)}
        own = {step.result} - needed  # nothing reads it at all
        yield replace(step, done=(*(names - needed), *own))
        needed |= names
