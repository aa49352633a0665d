"""A network that learns: one step of it, and what it says of images that it is judged on."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.training.augment import Appearance
from depthwise.training.average import Average
from depthwise.training.data.squares import Prepared, fetch
from depthwise.training.distributed import Replicas
from depthwise.training.divergence import finite_mean
from depthwise.training.evaluation import Evaluation
from depthwise.training.feed import Batch
from depthwise.training.optimizer import train_mode
from depthwise.training.order import Seen
from depthwise.training.precision import Precision
from depthwise.training.recipe import Recipe
from depthwise.training.state import Progress

EVEN = 32  # what the lower resolutions of progressive training are multiples of
JUDGED = 256  # images that are judged at once

Loss = Callable[[Tensor, Tensor, Batch], Tensor]  # of images, their scores, and what they are of


class Learner:
    """A network, how images look to it, and how its weights change.

    Attributes:
        net: The network, with the weights that learn.
        model: What computes it, in this process and those beside it.
        optimizer, precision: How weights change, and in what is computed.
        average: Of the weights over the steps; what is judged and kept.
        look: How images look.
        loss: What is to become small.
    """

    def __init__(
        self, net: nn.Module, model: Replicas, optimizer: torch.optim.Optimizer,
        precision: Precision, look: Appearance, recipe: Recipe, loss: Loss | None = None,
    ):  # fmt: skip
        self.net, self.model, self.optimizer, self.precision = net, model, optimizer, precision
        self.look, self.recipe, self.loss = look, recipe, loss or self._cross_entropy
        self.average = Average(net, recipe.average)

    def learn(self, batch: Batch, done: float, progress: Progress) -> float:
        """Change the weights by the gradients of one batch.

        A batch that does not fit the device's memory is learned in parts, whose gradients add up;
        and of several processes each learns from its share.

        Args:
            batch: What to learn from: this process's share.
            done: The share of the training that is done.
            progress: Where it stands.

        Returns:
            The mean loss of all processes' shares.

        Raises:
            Diverged: The loss is no number.
        """
        train_mode(self.net)
        torch.manual_seed(self.recipe.seed + progress.step)  # of dropout: the same when resumed
        total = 0.0
        for part in (parts := _parts(batch, progress.parts)):
            images, share = self._images(part, done), len(part.labels) / len(batch.labels)
            with self.precision.cast():
                loss = self.loss(images, self.model(images, part is parts[-1]), part)
            world = self.model.world
            total += share * finite_mean(loss.item(), self.net, images, progress.step, world)
            self.precision.backward(share * loss)
        self.precision.step(self.net, self.optimizer, self.recipe.clip)
        self.average.update(self.net)
        return total

    @property
    def judged(self) -> nn.Module:
        """The network that is judged and kept: the average where there is one."""
        return self.average.net if self.recipe.average else self.net

    def judge(self, data: Prepared, classes: tuple[str, ...]) -> Evaluation:
        """Return what the network, as it would be kept, says of each image of a split."""
        return judge(self.judged, self.look, data, classes)

    def side(self, done: float) -> int:
        """Return the resolution that images have: it grows until three quarters are done."""
        last = self.look.preprocessing.crop
        share = self.recipe.progressive + (1 - self.recipe.progressive) * min(1, done / 0.75)
        return last if share == 1 else min(last, round(last * share / EVEN) * EVEN)

    def _images(self, part: Batch, done: float) -> Tensor:
        return _laid_out(self.look.trained(part.squares, part.seen, self.side(done)))

    def _cross_entropy(self, _images: Tensor, scores: Tensor, part: Batch) -> Tensor:
        smoothing = self.recipe.label_smoothing
        return F.cross_entropy(scores.float(), part.labels, label_smoothing=smoothing)


@torch.inference_mode()
def judge(net: nn.Module, look: Appearance, data: Prepared, classes: tuple[str, ...]) -> Evaluation:
    """Return what a network says of each image of a split. It is left in evaluation mode."""
    device, labels = next(net.eval().parameters()).device, data.labels
    places = np.array_split(np.arange(len(labels)), -(-len(labels) // JUDGED))
    scores = [
        net(_laid_out(look.judged(squares.to(device)))) for squares in fetch(data.squares, places)
    ]
    return Evaluation(classes, labels, torch.cat(scores).float().cpu().numpy(), data.names)


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _parts(batch: Batch, count: int) -> list[Batch]:
    """Divide a batch into so many parts of nearly one size."""
    if count == 1:
        return [batch]
    parts = []
    for place in np.array_split(np.arange(len(batch.labels)), count):
        first, end = place[0], place[-1] + 1
        seen = Seen(batch.seen.indices[first:end], batch.seen.epochs[first:end])
        parts.append(Batch(batch.squares[first:end], batch.labels[first:end], seen, 0.0))
    return parts
