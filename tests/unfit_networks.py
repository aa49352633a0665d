"""Networks that cannot be trained as they are, built as users' own: names say what is wrong."""

import torch
from torch import Tensor, nn


class Sound(nn.Module):
    """What the others are made of: a network with nothing wrong."""

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class ReturnsDict(Sound):
    def forward(self, x: Tensor) -> dict:  # type: ignore[override]
        return {"scores": super().forward(x)}


class ReturnsTwoWhileTraining(Sound):
    def forward(self, x: Tensor):
        scores = super().forward(x)
        return (scores, scores) if self.training else scores


class ReturnsVector(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean(1)


class ReturnsTwice(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x)] * 2, 1)


class ReturnsWholeNumbers(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).long()


class HeadOfTwoNames(Sound):
    """Its classifier has two names, and is given a new one under the first alone."""

    def __init__(self, num_classes: int = 1000):
        super().__init__(num_classes)
        self.again = self.head

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.body(x))


class TakesOneImage(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).reshape(1, 8))


class Detaches(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class NoNumbersWhenJudged(Sound):
    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return scores if self.training else scores * float("nan")


class NoNumbersLater(Sound):
    """Returns numbers for the few images of the trial, and none for a whole split when judged."""

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return scores if self.training or len(x) < 8 else scores * float("nan")


class NormalizesOneValue(Sound):
    """Its BatchNorm sees one value of a channel in each image."""

    def __init__(self, num_classes: int = 1000):
        super().__init__(num_classes)
        self.body.append(nn.BatchNorm1d(8))


class OfOneSize(nn.Module):
    """A network for images of 16 pixels alone."""

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
