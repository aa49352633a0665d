"""A network that learns: one step of it, and what it says of images that it is judged on."""

import numpy as np
import torch
from torch import Tensor, nn

from depthwise.layers import fold_branches
from depthwise.sources.heads import find_head
from depthwise.training.augment import Appearance
from depthwise.training.average import Average, fitted_decay
from depthwise.training.data.squares import Prepared, fetch
from depthwise.training.distributed import Replicas
from depthwise.training.divergence import check_judged, finite_mean
from depthwise.training.evaluation import Evaluation
from depthwise.training.feed import Batch
from depthwise.training.losses import Loss
from depthwise.training.mixing import Mixing, Targets
from depthwise.training.optimizer import train_mode
from depthwise.training.parts import halve, refuse_several
from depthwise.training.precision import MixedPrecision
from depthwise.training.recipe import Recipe
from depthwise.training.resolution import side_at
from depthwise.training.schedule import Moment
from depthwise.training.state import Progress

JUDGED = 256  # images that are judged at once


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
        precision: MixedPrecision, look: Appearance, recipe: Recipe, loss: Loss,
    ):  # fmt: skip
        self.net, self.model, self.optimizer, self.precision = net, model, optimizer, precision
        self.look, self.recipe, self.loss = look, recipe, loss
        self.average = Average(net)
        self._mixing = Mixing.of(recipe)
        self._body = _body(net) if recipe.frozen else []
        self._mode: tuple[bool, bool] | None = None  # of the last step: see `_set_mode`

    def learn(self, batch: Batch, moment: Moment, progress: Progress) -> float:
        """Change the weights by the gradients of one batch.

        A batch that does not fit the device's memory is learned in parts, whose gradients add up;
        and of several processes each learns from its share.

        Args:
            batch: What to learn from: this process's share.
            moment: Where in the training it is.
            progress: Where the run stands.

        Returns:
            The mean loss of all processes' shares.

        Raises:
            Diverged: The loss is no number.
            TooLarge: Not even a few images fit the device's memory.
        """
        self._set_mode(moment.done)
        buffers = [*self.net.buffers()] if self.precision.may_overflow else []
        before = [each.clone() for each in buffers]
        while (loss := self._add_gradients(batch, moment, progress)) is None:
            self.optimizer.zero_grad()
        if self.precision.step(self.learning, self.optimizer, self.recipe.clip):
            chosen = self.recipe.average
            self.average.decay = fitted_decay(moment.total) if chosen is None else chosen
            self.average.update(self.net)
        else:  # as if the step had not been: BatchNorms forget the batch, too
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        return loss

    def _set_mode(self, done: float) -> None:
        """Let learn what is to learn: the body after a while, BatchNorms' statistics until then."""
        thawed, share = done >= self.recipe.frozen, self.recipe.frozen_norms
        mode = (thawed, bool(share) and done >= 1 - (share or 0.0))
        if mode == self._mode and self.net.training:  # it takes a millisecond, or several
            return
        for parameter in self._body:
            parameter.requires_grad_(thawed)
        train_mode(self.net, freeze_norms=mode[1])
        self._mode = mode

    def _add_gradients(self, batch: Batch, moment: Moment, progress: Progress) -> float | None:
        """Return the mean loss; None where the device's memory did not hold the parts."""
        torch.manual_seed(self.recipe.seed + progress.step)  # of dropout: the same when resumed
        total = 0.0
        world, count = self.model.world, progress.parts
        try:
            for place, part in enumerate(batch.parts(count), 1):
                images, targets = self._seen(part, moment.done)
                with self.precision.cast():
                    loss = self.loss(images, self.model(images, place == count), targets)
                share = len(part.labels) / len(batch.labels)
                total += share * finite_mean(loss.item(), self.net, images, progress.step, world)
                self.precision.backward(share * loss)
        except torch.OutOfMemoryError as error:
            refuse_several(world.size, error)
            halve(progress, len(batch.labels), error)
            return None
        if self.loss.weights is not None:
            world.average(self.loss.weights)
        return total

    @property
    def learning(self) -> nn.Module:
        """All that has weights that learn: the network, and what its loss learns."""
        if self.loss.weights is None:
            return self.net
        return nn.ModuleDict({"network": self.net, "loss": self.loss.weights})

    @property
    def judged(self) -> nn.Module:
        """The network that is judged and kept: the average where there is one, branches folded."""
        kept = self.net if self.recipe.average == 0 else self.average.net
        return fold_branches(kept) if self.recipe.branches > 1 else kept

    def judge(self, data: Prepared, classes: tuple[str, ...]) -> Evaluation:
        """Return what the network, as it would be kept, says of each image of a split.

        Raises Diverged where that is no number.
        """
        net = self.judged
        found = judge(net, self.look, data, classes)

        def see(place: int) -> Tensor:
            device = next(net.parameters()).device
            return self.look.judged(data.squares.take(np.array([place])).to(device))

        check_judged(found, net, see)
        return found

    def side(self, done: float) -> int:
        """Return the resolution that images have: it grows until three quarters are done."""
        return side_at(done, self.look.preprocessing.crop, self.recipe.progressive)

    def _seen(self, part: Batch, done: float) -> tuple[Tensor, Targets]:
        """Return images as the network sees them, and what they are of."""
        side = self.side(done)
        images = self.look.trained(part.squares, part.seen, side)
        if self._mixing is None or part.partners is None:
            return images, Targets(part.labels)
        others = self.look.trained(part.partners.squares, part.partners.seen, side)
        images, shares = self._mixing.mix(images, others, part.seen)
        return images, Targets(part.labels, part.partners.labels, shares)


def _body(net: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that learn, but those of the classifier."""
    head = {id(parameter) for parameter in find_head(net)[1].parameters()}
    return [each for each in net.parameters() if each.requires_grad and id(each) not in head]


@torch.inference_mode()
def judge(net: nn.Module, look: Appearance, data: Prepared, classes: tuple[str, ...]) -> Evaluation:
    """Return what a network says of each image of a split. It is left in evaluation mode."""
    device, labels = next(net.eval().parameters()).device, data.labels
    places = np.array_split(np.arange(len(labels)), -(-len(labels) // JUDGED))
    scores = [
        _scores(net, look.judged(squares.to(device))) for squares in fetch(data.squares, places)
    ]
    return Evaluation(classes, labels, torch.cat(scores).float().cpu().numpy(), data.names)


def _scores(net: nn.Module, images: Tensor) -> Tensor:
    """Return what a network says of images, of fewer at a time where memory does not hold it."""
    try:
        return net(images)
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise
    return torch.cat([_scores(net, half) for half in images.chunk(2)])
