"""Sums of products over labelled axes, as products of matrices batch by batch."""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

from depthwise.graph import ops
from depthwise.graph.builder import Value

Emit = Callable[..., Value]


class Labelled(NamedTuple):
    """A value, and a letter for each of its axes."""

    value: Value
    labels: str

    @property
    def sizes(self) -> dict[str, int]:
        """How many elements there are along each label."""
        return dict(zip(self.labels, self.value.shape, strict=True))


def takes_diagonal(equation: str) -> bool:
    """Tell whether an equation has a label twice in one term."""
    labels = [
        [letter for letter in term if letter.isalpha()]
        for side in equation.split("->") for term in side.split(",")
    ]  # fmt: skip
    return any(len(set(term)) < len(term) for term in labels)


def einsum(emit: Emit, equation: str, operands: Sequence[Value]) -> Value:
    """Return what an equation such as "bij,bjk->bik" says of operands.

    It takes no diagonal. Raises ValueError for operands that do not fit.
    """
    terms, result = parse(equation, [value.rank for value in operands])
    parts = [Labelled(*pair) for pair in zip(operands, terms, strict=True)]
    full = {label: max(p.sizes[label] for p in parts if label in p.labels)
            for part in parts for label in part.labels}  # fmt: skip
    parts = [_without_repeated(emit, part, full) for part in parts]
    while len(parts) > 1:
        first, second, *rest = parts
        needed = set(result).union(*(part.labels for part in rest))
        parts = [_contract(emit, first, second, needed), *rest]
    x = _sum_out(emit, parts[0], set(result))
    return _permuted(emit, x.value, [x.labels.index(label) for label in result])


def parse(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Return the labels of each operand's axes and of the result's.

    An ellipsis stands for the axes that have no label: they are given some, aligned at the last.
    """
    left, arrow, result = equation.replace(" ", "").partition("->")
    free = [chr(ord("α") + i) for i in range(24)]
    hidden = [rank - len(term.replace("...", "")) if "..." in term else 0
              for term, rank in zip(left.split(","), ranks, strict=True)]  # fmt: skip
    most = max(hidden)
    terms = [term.replace("...", "".join(free[most - count : most]))
             for term, count in zip(left.split(","), hidden, strict=True)]  # fmt: skip
    left, result = ",".join(terms), result.replace("...", "".join(free[:most]))
    if [len(term) for term in terms] != ranks:
        raise ValueError(f"the equation {equation!r} is not for operands of {ranks} axes")
    if not arrow:
        once = sorted(c for c in set(left) - {","} if left.count(c) == 1 and c not in free)
        result = "".join([*free[:most], *once])
    return terms, result


def _permuted(emit: Emit, x: Value, axes: Sequence[int]) -> Value:
    return x if list(axes) == sorted(axes) else emit(ops.Permute(tuple(axes)), x)


def _reshaped(emit: Emit, x: Value, *shape: int) -> Value:
    return x if shape == x.shape else emit(ops.Reshape(shape), x)


def _without_repeated(emit: Emit, x: Labelled, full: dict[str, int]) -> Labelled:
    """Drop the axes of one element that other operands have more of: they are repeated."""
    labels = "".join(c for c in x.labels if x.sizes[c] == full[c])
    if any(x.sizes[c] not in (1, full[c]) for c in x.labels):
        raise ValueError(f"{x.value.shape} does not fit the other operands' {full}")
    return Labelled(_reshaped(emit, x.value, *(full[c] for c in labels)), labels)


def _sum_out(emit: Emit, x: Labelled, needed: set[str]) -> Labelled:
    """Sum over the axes that nothing needs any more."""
    axes = tuple(axis for axis, label in enumerate(x.labels) if label not in needed)
    value = emit(ops.Reduce("sum", axes, keep=False), x.value) if axes else x.value
    return Labelled(value, "".join(c for c in x.labels if c in needed))


def _contract(emit: Emit, first: Labelled, second: Labelled, needed: set[str]) -> Labelled:
    """Return the product of two operands as one of matrices, batch by batch."""
    x = _sum_out(emit, first, needed | set(second.labels))
    y = _sum_out(emit, second, needed | set(first.labels))
    batch = [c for c in x.labels if c in y.labels and c in needed]
    inner = [c for c in x.labels if c in y.labels and c not in needed]
    rows = [c for c in x.labels if c not in y.labels]
    columns = [c for c in y.labels if c not in x.labels]
    sizes = x.sizes | y.sizes

    def matrices(part: Labelled, *groups: list[str]) -> Value:
        order = [part.labels.index(c) for group in groups for c in group]
        shape = [prod(sizes[c] for c in group) for group in groups[1:]]
        moved = _permuted(emit, part.value, order)
        return _reshaped(emit, moved, *(sizes[c] for c in groups[0]), *shape)

    product = emit(
        ops.MatMul(), matrices(x, batch, rows, inner), matrices(y, batch, inner, columns)
    )
    labels = "".join([*batch, *rows, *columns])
    return Labelled(_reshaped(emit, product, *(sizes[c] for c in labels)), labels)
