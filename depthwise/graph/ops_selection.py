"""More operators, as in ops: what is largest along an axis and where, and running sums."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ArgReduce:
    """Input x; where along `axis` its largest or smallest element lies, the first of equal ones.

    A NaN is the largest and the smallest.
    """

    function: Literal["max", "min"]
    axis: int
    keep: bool


@dataclass(frozen=True)
class TopK:
    """Input x; its `count` largest or smallest along `axis` in order, or the places they come from.

    Of equal ones the first comes first. A NaN is larger than all other numbers.
    """

    axis: int
    count: int
    largest: bool
    result: Literal["values", "indices"]


@dataclass(frozen=True)
class Cumulate:
    """Input x; each element combined with all before it along `axis`."""

    function: Literal["sum", "product", "max", "min"]
    axis: int
