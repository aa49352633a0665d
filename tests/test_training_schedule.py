"""Rates against closed forms and PyTorch's own; steps fitted to the time of a played clock."""

import json
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from depthwise.training.schedule import (
    Decision,
    TimeFit,
    Timeline,
    cosine,
    momentum_cycle,
    one_cycle,
)


def test_one_cycle_is_that_of_pytorch():
    """PyTorch's phases end one step early: 0.3 of 100 steps is step 29 of 0 to 99."""
    steps, warmup = 100, 29 / 99
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 0.1, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, steps)
    for step in range(steps):
        progress = step / (steps - 1)
        assert one_cycle(progress, 0.5, warmup) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        momentum = optimizer.param_groups[0]["momentum"]
        assert momentum_cycle(progress, warmup=warmup) == pytest.approx(momentum, rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


def test_cosine_has_its_closed_form():
    assert cosine(0.0, 2.0, 0.1, start=0.25) == pytest.approx(0.5)
    assert cosine(0.05, 2.0, 0.1, start=0.25) == pytest.approx(1.25)
    assert cosine(0.1, 2.0, 0.1) == pytest.approx(2.0)
    third = 2.0 * (0.1 + 0.9 * (1 + math.cos(math.pi / 3)) / 2)
    assert cosine(0.4, 2.0, 0.1, final=0.1) == pytest.approx(third)
    assert cosine(1.0, 2.0, 0.1, final=0.1) == pytest.approx(0.2)
    assert cosine(0.0, 2.0, 0.0) == 2.0  # no warm-up


@pytest.mark.parametrize("rate", [one_cycle, cosine])
@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_that_leaves_nothing_is_refused(rate: Callable, warmup: float):
    with pytest.raises(ValueError, match="share of the training"):
        rate(0.5, 1.0, warmup)


def test_course_of_known_steps():
    timeline = Timeline.of_steps(8)
    assert [timeline.progress(step) for step in range(9)] == [step / 8 for step in range(9)]
    assert timeline.total(0) == timeline.total(8) == 8


def test_course_bends_where_something_is_decided():
    timeline = Timeline((Decision(10, 110), Decision(60, 70)))
    assert timeline.progress(5) == timeline.progress(10) == 0.0
    assert timeline.progress(35) == pytest.approx(0.25)  # a quarter of 100 steps
    assert timeline.progress(60) == pytest.approx(0.5)
    assert timeline.progress(65) == pytest.approx(0.75)  # half of what was left, in 5 of 10 steps
    assert timeline.progress(70) == timeline.progress(71) == 1.0
    twice = Timeline((*timeline.decisions[:1], Decision(60, 100), Decision(80, 90)))
    assert twice.progress(80) == pytest.approx(0.75)
    assert twice.progress(85) == pytest.approx(0.875)
    assert [timeline.total(step) for step in (9, 10, 59, 60)] == [None, 110, 110, 70]


class Played:
    """A training whose steps take what `seconds` says of each, on a clock that is played."""

    def __init__(self, fit: TimeFit, seconds: Callable[[int], float], elapsed: float = 0.0):
        self.elapsed, self.progress, step = elapsed, [], 0
        while (done := fit.timeline.progress(step)) < 1:
            self.progress.append(done)
            last = seconds(step)
            self.elapsed += last
            step += 1
            fit.update(step, last, self.elapsed)
        self.steps, self.decisions = step, fit.timeline.decisions

    def largest_rise(self) -> float:
        ends = [*self.progress, 1.0]
        return max(after - before for before, after in pairwise(ends))


def even(step: int) -> float:  # noqa: ARG001
    return 0.1


def slow_start(step: int) -> float:
    return (20.0, 3.0, 0.5)[step] if step < 3 else 0.1


def pause(step: int) -> float:
    return 15.0 if step == 200 else 0.1


def bursts(step: int) -> float:
    return 0.82 if step % 8 == 7 else 0.02


def slower(step: int) -> float:
    return 0.1 if step < 300 else 0.2


@pytest.mark.parametrize("seconds", [even, slow_start, pause, bursts, slower])
def test_steps_fill_the_time(seconds: Callable[[int], float]):
    """But for the longest of the last steps; and progress rises at every step, by little."""
    played = Played(TimeFit(60.0), seconds)
    assert abs(played.elapsed - 60) <= max(seconds(step) for step in range(400, 408)) + 1e-6
    decided = played.decisions[0].step
    assert played.progress[: decided + 1] == [0.0] * (decided + 1)
    rising = played.progress[decided:]
    assert all(before < after for before, after in pairwise(rising))
    assert decided <= 9
    assert played.largest_rise() < 4 * (1 / played.steps)


def test_few_steps_that_take_long():
    """Where there is time for six, the first two are timed, and four are left."""
    played = Played(TimeFit(60.0), lambda step: 10.0)  # noqa: ARG005
    assert played.steps == 6
    assert played.progress == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75])


def test_a_step_longer_than_the_limit_is_the_only_one():
    assert Played(TimeFit(1.0), lambda step: 5.0).steps == 1  # noqa: ARG005


def test_time_for_something_else_is_kept():
    fit = TimeFit(60.0)
    for step in range(1, 6):
        fit.update(step, 0.1, 0.1 * step, ahead=30.0)
    assert fit.timeline.decisions == ((5, 5 + 295),)


def test_the_schedule_ends_with_the_last_epoch_where_time_is_left():
    played = Played(TimeFit(60.0, most=100), even)
    assert played.steps == 100
    assert played.progress[50] == pytest.approx(0.5, abs=0.03)


def test_a_run_repeats_what_was_decided():
    """Also on a machine of another speed; after the last decision it fits to its own."""
    first = Played(TimeFit(60.0), slow_start)
    recorded = json.loads(json.dumps(first.decisions))
    again = Played(TimeFit(60.0, recorded), lambda step: slow_start(step) / 2)
    assert again.progress == first.progress
    assert again.decisions == first.decisions
    half = [decision for decision in recorded if decision[0] <= 200]
    longer = Played(TimeFit(60.0, half), lambda step: slow_start(step) / 2)
    assert longer.progress[: half[-1][0]] == first.progress[: half[-1][0]]
    assert longer.steps > first.steps
    assert 59.8 <= longer.elapsed <= 60


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_a_limit_that_is_none_is_refused(limit: float):
    with pytest.raises(ValueError, match="positive number of seconds"):
        TimeFit(limit)
