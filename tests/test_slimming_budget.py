"""Budgets: what a text means, and what is no budget."""

import pytest

from depthwise.report.slimming_record import say_cost
from depthwise.slimming.budget import Budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("2ms", Budget(milliseconds=2.0)),
        ("350 us", Budget(milliseconds=0.35)),
        ("0.5s", Budget(milliseconds=500.0)),
        ("150M", Budget(macs=150e6)),
        ("1.5G MACs", Budget(macs=1.5e9)),
        ("1.5M parameters", Budget(parameters=1.5e6)),
        ("5000 params", Budget(parameters=5000.0)),
        ("3MB", Budget(weight_bytes=3e6)),
        ("2 MiB weights", Budget(weight_bytes=2.0**21)),
        ("200kB arena", Budget(arena_bytes=200e3)),
        ("25%", Budget(macs=0.25, relative=True)),
        ("25% ms", Budget(milliseconds=0.25, relative=True)),
        ("12.5 % parameters", Budget(parameters=0.125, relative=True)),
        (".5% arena", Budget(arena_bytes=0.005, relative=True)),
    ],
)
def test_texts_mean_budgets(text, budget):
    read = Budget.read(text)
    assert (read.measure, read.relative) == (budget.measure, budget.relative)
    assert read.value == pytest.approx(budget.value)


@pytest.mark.parametrize(
    "text", ["", "fast", "2", "2 hours", "3MB ms", "2ms MACs", "-3M", "1e400", "3M arena", "25% of"]
)
def test_other_texts_are_refused_with_all_that_is_accepted(text):
    with pytest.raises(ValueError, match=r'"150M".*"200kB arena".*"25% ms"'):
        Budget.read(text)


def test_flops_are_told_from_macs():
    with pytest.raises(ValueError, match="2 x MACs"):
        Budget.read("300M FLOPs")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, "of nothing"),
        ({"macs": 1e6, "milliseconds": 2.0}, "macs and milliseconds"),
        ({"macs": 0.0}, "above 0"),
        ({"macs": float("inf")}, "above 0"),
        ({"macs": float("nan")}, "above 0"),
        ({"macs": "150M"}, "above 0"),
        ({"macs": 1.0, "relative": True}, "met already"),
    ],
)
def test_what_is_no_budget(given, fault):
    with pytest.raises(ValueError, match=fault):
        Budget(**given)


def test_limits_and_words():
    assert Budget.read("25%").limit(200e6) == 50e6
    assert Budget.read("150M").limit(200e6) == 150e6
    assert str(Budget.read("25% ms")) == "25 % of the time"
    assert str(Budget.read("3MB")) == "3.00 MB of weights"
    assert say_cost("macs", 62.742e6) == "62.74 M MACs"
    assert say_cost("milliseconds", 0.35) == "350.00 us"
