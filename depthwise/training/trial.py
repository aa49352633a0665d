"""One batch through a network before it learns: whether it is one that training is for."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from depthwise.training.augment import Appearance
from depthwise.training.data.squares import Prepared
from depthwise.training.recipe import Recipe
from depthwise.training.resolution import SMALLEST, side_at
from depthwise.users_code import describe

FEW = 2  # images of a trial: one alone would not show what mixes images up


def check_trainable(
    name: str, net: nn.Module, recipe: Recipe, look: Appearance, images: Prepared, classes: int
) -> None:
    """Let a copy of a network see a few images, at the first and at the last resolution.

    Args:
        name: What messages call it.
        net: The network, with its first weights.
        recipe: How it is to learn, with its batch.
        look: How images look to it.
        images: What it is to learn from.
        classes: How many classes they have.

    Raises:
        ValueError: It does not run on such images, or what it returns are no scores of classes that
            it could learn from.
    """
    assert recipe.batch is not None
    last = look.preprocessing.crop
    if last < SMALLEST:
        raise ValueError(
            f"resolution {last}: of so few pixels nothing can be learned: at least {SMALLEST} are "
            f"accepted, to which smaller images are enlarged (--resolution {SMALLEST})"
        )
    count = min(FEW, recipe.batch)
    squares = images.squares.take(np.arange(count))
    for side in sorted({side_at(0.0, last, recipe.progressive), last}):
        smaller = torch.nn.functional.interpolate(look.judged(squares), side, mode="bilinear")
        for training in (True, False):
            _check(f"{name}, {_said(smaller, training)},", net, smaller, training, classes)


def _said(images: Tensor, training: bool) -> str:
    mode = "training" if training else "evaluation"
    return f"given {tuple(images.shape)} in {mode} mode"


def _check(what: str, net: nn.Module, images: Tensor, training: bool, classes: int) -> None:
    """Raise ValueError where a network's output is nothing that it can learn from."""
    trial = copy.deepcopy(net).train(training)
    wanted = f"training is for networks that return {(len(images), classes)}, scores of classes"
    try:
        scores = trial(images.clone())
    except torch.OutOfMemoryError:  # learning takes fewer at a time, or says that it cannot
        return
    except Exception as error:
        larger = "--resolution" if len(images) > 1 else "--batch or --resolution"
        raise ValueError(
            f"{what} does not run: {describe(error)}; {wanted}; where it needs more, give a larger "
            f"{larger}"
        ) from error
    if not isinstance(scores, Tensor):
        raise ValueError(f"{what} returns a {type(scores).__name__}, and no tensor: {wanted}")
    if scores.shape != (len(images), classes) or not scores.is_floating_point():
        raise ValueError(f"{what} returns {tuple(scores.shape)} of {scores.dtype}: {wanted}")
    if not scores.isfinite().all():
        raise ValueError(
            f"{what} returns scores that are infinite or no numbers, before it has learned "
            "anything: look at its first weights, and at what it computes of them"
        )
    if training and not scores.requires_grad:
        raise ValueError(
            f"{what} returns scores through which nothing learns: let its weights require "
            "gradients, and detach none of what it computes"
        )
