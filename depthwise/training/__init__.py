"""Training: from labelled images to a small network that is right.

begin (`dw.train`, `dw.resume`: what follows, put together) - data/ (images, as squares of pixels) -
adapt, defaults, trial (the network and what a recipe leaves open, fitted to them, and tried) - loop
(one screen), for each step: order, feed, mixing (which images) - augment, randaugment, draws,
resolution (how they look) - learner, losses, precision, average, optimizer (how weights change) -
pace, schedule (how many steps, and how large) - keeper, state, history, event_files (what survives
a kill) - run, result, pictures (what is left at the end).

distill, teacher - quantised (a network that learns in eight bits) - distributed, whole_batch
(several processes) - parts (what memory does not hold) - classifier, judging (`dw.evaluate`) -
tradeoff, tradeoff_points. A new field of a recipe goes into recipe and cli/train, a new kind of
data into data/ and the table of data/opening, a new loss beside losses.
"""

from depthwise.training.begin import resume, train
from depthwise.training.recipe import Recipe
from depthwise.training.run import Run

__all__ = ["Recipe", "Run", "resume", "train"]
