"""Which parameters of a test wait for the slow tier."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def slow_where(waits: Callable[[Any], bool], values: Iterable) -> list:
    """Return the values as parameters of a test, those that wait in the slow tier."""
    return [pytest.param(v, marks=pytest.mark.slow) if waits(v) else v for v in values]
