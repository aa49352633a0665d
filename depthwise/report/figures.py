"""Numbers and paths in a page: each number carries its value as report.json has it."""

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from depthwise.analysis.units import in_seconds, in_units
from depthwise.escaping import in_line


def number(value: float, digits: int = 0, unit: str = "") -> Markup:
    """Return a number to `digits` decimal places; one that is not zero is not shown so."""
    return _mark(value, f"{_rounded(value, digits)} {unit}".strip())


def duration(milliseconds: float) -> Markup:
    """Return a time in the unit that suits it."""
    return _mark(milliseconds, in_seconds(1e-3 * milliseconds).replace("us", "µs"))


def units(value: float, unit: str = "") -> Markup:
    """Return a count with k, M or G."""
    return _mark(value, in_units(value, unit))


def percent(value: float, digits: int = 0) -> Markup:
    """Return a share as percent."""
    return _mark(value, f"{_rounded(100 * value, digits)} %")


def share(value: float | None) -> Markup:
    """Return a share as percent; a dash where there is none."""
    return Markup("–") if value is None else percent(value)


def times(value: float, digits: int = 2) -> Markup:
    """Return a ratio."""
    return _mark(value, f"{value:.{digits}f}×")


def tiny(value: float) -> Markup:
    """Return an error with the power of ten that it has."""
    return _mark(value, f"{value:.1e}")


def sizes(values: Sequence[float]) -> Markup:
    """Return sizes with crosses between them: a shape, or a window."""
    return Markup("×").join(_mark(value, f"{value:g}") for value in values)


def path(text: str) -> Markup:
    """Return a module's path that may break after its dots and underscores, and in camelCase."""
    return Markup("<wbr>").join(filter(None, BREAKS.split(in_line(text))))


BREAKS = re.compile(r"(?<=[._])|(?<=[a-z0-9])(?=[A-Z])")


FILTERS = {
    f.__name__: f for f in (number, duration, units, percent, share, times, tiny, sizes, path)
}


def _rounded(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    return f"<{10**-digits:.{digits}f}" if value > 0 and not float(text.replace(",", "")) else text


def _mark(value: float, text: str) -> Markup:
    return Markup('<data value="{}">{}</data>').format(repr(value), escape(text))
