"""What is to become small."""

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.training.mixing import Targets


class Loss(Protocol):
    """How wrong a batch's scores are."""

    @property
    def weights(self) -> nn.Module | None:
        """What learns with the network and is thrown away afterwards, if anything."""
        ...

    def __call__(self, images: Tensor, scores: Tensor, targets: Targets) -> Tensor:
        """Return the mean loss of images (B, 3, H, W), of which a network said `scores`."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """The mean cross entropy of scores, in nats.

    Attributes:
        smoothing: The share of each label that is spread over all classes (Szegedy et al.,
            arXiv:1512.00567, section 7).
    """

    smoothing: float

    @property
    def weights(self) -> None:
        """Nothing."""

    def __call__(self, images: Tensor, scores: Tensor, targets: Targets) -> Tensor:  # noqa: ARG002
        """Return the loss of scores (B, classes)."""
        wanted = targets.over(scores.shape[1])
        return F.cross_entropy(scores.float(), wanted, label_smoothing=self.smoothing)
