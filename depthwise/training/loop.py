"""The loop: from random or pretrained weights to trained ones."""

import time

from depthwise.training.data.squares import Prepared
from depthwise.training.feed import Feed
from depthwise.training.keeper import Follower
from depthwise.training.learner import Learner
from depthwise.training.pace import Pace


def fit(learner: Learner, feed: Feed, validation: Prepared, pace: Pace, keeper: Follower) -> None:
    """Train until the schedule ends, or until somebody asks to stop.

    Args:
        learner: The network and how it learns.
        feed: What it learns from.
        validation: What epochs are compared on.
        pace: How many steps there are, and how large.
        keeper: A `Keeper` of the best weights, the last ones, and what going on needs; in processes
            beside the first its follower.
    """
    progress = keeper.progress
    for batch in feed.since(progress.step):
        start = time.perf_counter()
        rate = pace.set_rates(learner.optimizer)
        loss = learner.learn(batch, pace.moment, progress)
        seconds = time.perf_counter() - start
        pace.note_step(seconds, batch.waited)
        keeper.note_step(loss, seconds, batch.waited, pace)
        if feed.order.ends_epoch(progress.step - 1) or pace.is_over:
            keeper.end_epoch(learner, validation, rate, pace)
        if pace.is_over or keeper.is_due:
            keeper.save(learner)
        if pace.is_over or keeper.is_stopped:
            return
