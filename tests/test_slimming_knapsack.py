"""The knapsack against every possible choice of small problems."""

from itertools import product

import numpy as np
import pytest

from depthwise.slimming.knapsack import Choice, Knapsack


def problem(seed: int, overlap: bool) -> tuple[list[Choice], float]:
    """Return 14 choices at 5 places, some of which share a use with the next place."""
    random = np.random.default_rng(seed)
    choices = []
    for place in range(5):
        size = random.uniform(0.5, 2)
        for level in range(1, 4 if place < 4 else 3):
            uses = {place, (place + 1) % 5} if overlap and random.random() < 0.4 else {place}
            saving = size * level * random.uniform(0.7, 1.2)
            damage = random.uniform(0.1, 1) * level ** random.uniform(1, 2)
            choices.append(Choice(saving, damage, frozenset(uses)))
    return choices, random.uniform(0.1, 0.35) * sum(choice.saving for choice in choices)


def best_of_all(choices: list[Choice], saving: float) -> float | None:
    masks = np.array(list(product((0, 1), repeat=len(choices))), bool)
    allowed = masks @ np.array([choice.saving for choice in choices]) >= saving
    for i, one in enumerate(choices):
        for j in range(i):
            if one.uses & choices[j].uses:
                allowed &= ~(masks[:, i] & masks[:, j])
    damages = masks @ np.array([choice.damage for choice in choices])
    return float(damages[allowed].min()) if allowed.any() else None


@pytest.mark.parametrize(("overlap", "worst", "usual"), [(False, 1.2, 1.005), (True, 1.5, 1.02)])
def test_the_choice_is_nearly_the_best_there_is(overlap, worst, usual):
    ratios = []
    for seed in range(60):
        choices, saving = problem(seed, overlap)
        best, taken = best_of_all(choices, saving), Knapsack(choices).solve(saving)
        if best is None:
            assert taken is None
            continue
        assert taken is not None
        uses = [use for place in taken for use in choices[place].uses]
        assert len(uses) == len(set(uses))
        assert sum(choices[place].saving for place in taken) >= saving * (1 - 1e-6)
        ratios.append(sum(choices[place].damage for place in taken) / best)
    assert len(ratios) > 40
    assert max(ratios) <= worst
    assert np.mean(ratios) <= usual


def test_what_saves_nothing_is_never_taken():
    """As 3 of 32 channels do not under a budget of time, however little damage they do."""
    choices = [Choice(0.0, 0.0, frozenset({"a"})), Choice(1.0, 5.0, frozenset({"a"}))]
    assert Knapsack(choices).solve(0.5) == [1]


def test_there_may_be_too_little_to_save():
    choices = [Choice(1.0, 1.0, frozenset({"a"})), Choice(2.0, 1.0, frozenset({"a"}))]
    assert Knapsack(choices).most == 2.0
    assert Knapsack(choices).solve(2.5) is None
    assert Knapsack([]).solve(1.0) is None
    assert Knapsack([]).frontier(3) == []


def test_the_frontier_has_every_level_of_one_place():
    """Damages that grow faster than savings leave no level dominated."""
    choices = [Choice(float(level), float(level**2), frozenset({"a"})) for level in (1, 2, 3)]
    assert Knapsack(choices).frontier(30) == [[0], [1], [2]]
    dominated = [*choices, Choice(1.5, 20.0, frozenset({"a"}))]
    assert Knapsack(dominated).frontier(30) == [[0], [1], [2]]
