"""Counts, bytes and times in the unit that suits their size: nothing is ever rounded to zero."""

from collections.abc import Iterable
from dataclasses import dataclass

PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def in_units(count: float, unit: str = "") -> str:
    """Return a count with three digits and k, M or G: 300.77 M, 13.99 MB, 432 B."""
    for factor, prefix in PREFIXES:
        if count >= factor * 0.999995:  # what is rounded up to 1000.00 k is 1.00 M
            return f"{count / factor:.2f} {prefix}{unit}"
    return f"{count:.0f} {unit}".strip()


def in_seconds(seconds: float) -> str:
    """Return a time in seconds as a person says it: 1.25 s, 3.20 ms, 14.50 us, 80 ns."""
    for factor, unit in TIMES[:-1]:
        if seconds >= factor * 0.999995:
            return f"{seconds / factor:.2f} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


@dataclass(frozen=True)
class TimeUnit:
    """One unit for a whole column of times, and how many of it a second has."""

    name: str
    a_second: float

    def show(self, seconds: float) -> str:
        """Return a time's number in this unit; one that is not zero does not look so."""
        number = f"{seconds * self.a_second:.2f}"
        return "<0.01" if seconds > 0 and float(number) == 0 else number


def time_unit(seconds: Iterable[float]) -> TimeUnit:
    """Return milliseconds, or microseconds where the shortest would have no three digits."""
    shortest = min((time for time in seconds if time > 0), default=1.0)
    return TimeUnit("ms", 1e3) if shortest >= 1e-3 else TimeUnit("us", 1e6)


def in_percent(share: float) -> str:
    """Return a share with two digits after the point; one that is not zero does not look so."""
    return "<0.01" if 0 < share < 0.00005 else f"{100 * share:.2f}"


def in_ratio(ratio: float) -> str:
    """Return how many times as large: 2.77x, and 0.012x for what two digits would make zero."""
    return f"{ratio:.2f}x" if ratio >= 0.1 or not ratio else f"{ratio:.2g}x"
