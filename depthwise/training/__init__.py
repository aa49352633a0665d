"""Training: from labelled images to a small network that is right."""

from depthwise.training.begin import resume, train
from depthwise.training.recipe import Recipe
from depthwise.training.run import Run

__all__ = ["Recipe", "Run", "resume", "train"]
