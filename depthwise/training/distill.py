"""Distillation: learning from what a larger network says, besides labels.

Its scores, softened (Hinton et al., arXiv:1503.02531), and its last feature maps, which the
network's own are to resemble through a 1x1 convolution that is thrown away afterwards (FitNets,
Romero et al., arXiv:1412.6550).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.training.feature_maps import FeatureMaps
from depthwise.training.losses import CrossEntropy
from depthwise.training.mixing import Targets
from depthwise.training.recipe import Recipe
from depthwise.training.teacher import Teacher


class Distillation:
    """A loss of three parts, each with its share: labels, the teacher's scores, its feature maps.

    Attributes:
        teacher: The network to learn from.
        weights: The 1x1 convolution from the network's feature maps to the teacher's, if any.
    """

    def __init__(self, teacher: Teacher, net: nn.Module, side: int, recipe: Recipe):
        """Let a network for images of `side` pixels learn from a teacher."""
        device = next(net.parameters()).device
        self.teacher, self._recipe = teacher.to(device).eval(), recipe
        self._labels = CrossEntropy(recipe.label_smoothing)
        self.weights: nn.Module | None = None
        if recipe.feature_share:
            self._own, self._wanted = FeatureMaps(net, side), FeatureMaps(teacher.net, teacher.side)
            torch.manual_seed(recipe.seed)
            self.weights = nn.Conv2d(self._own.channels, self._wanted.channels, 1).to(device)

    def __call__(self, images: Tensor, scores: Tensor, targets: Targets) -> Tensor:
        """Return the loss of scores (B, classes)."""
        said, features = self._recipe.teacher_share, self._recipe.feature_share
        with torch.no_grad():
            taught = self.teacher(images)
        loss = (1 - said - features) * self._labels(images, scores, targets)
        if said:
            loss = loss + said * softened(scores, taught, self._recipe.temperature)
        if self.weights is not None:
            loss = loss + features * unlike(self.weights(self._own.take()), self._wanted.take())
        return loss


def softened(scores: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return T² · KL(teacher || network), both softened, in nats: the mean over images.

    T² keeps the size of the gradients, which otherwise fall as 1 / T².
    """
    own, wanted = ((each.float() / temperature).log_softmax(1) for each in (scores, taught))
    return temperature**2 * F.kl_div(own, wanted, reduction="batchmean", log_target=True)


def unlike(maps: Tensor, wanted: Tensor) -> Tensor:
    """Return how far feature maps are from those that are wanted: 0 for the same, 1 for zeros.

    The mean square of the difference, as a share of theirs. Maps of different sizes are averaged
    to the smaller one.
    """
    rows, columns = (min(pair) for pair in zip(maps.shape[2:], wanted.shape[2:], strict=True))
    maps, wanted = (F.adaptive_avg_pool2d(each.float(), (rows, columns)) for each in (maps, wanted))
    return (maps - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12)
