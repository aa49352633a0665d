"""Training: from labelled images to a small network that is right."""

from depthwise.training.recipe import Recipe
from depthwise.training.run import Run
from depthwise.training.train import resume, train

__all__ = ["Recipe", "Run", "resume", "train"]
