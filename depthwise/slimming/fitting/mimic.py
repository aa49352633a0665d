"""Training a slimmed network to give what the original gives, on images without labels.

Both its scores and the features that its classifier reads are learned (Hinton et al.,
arXiv:1503.02531; Romero et al., arXiv:1412.6550), by two cycles of the learning rate, the second
lower: a network that reconstruction left close to the original is led away from it by large rates.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.calibration.images import as_tensor, held_out, resized, returning
from depthwise.calibration.scores import scores_of
from depthwise.graph import Graph
from depthwise.graph.exporters.torch import to_module, with_weights_of
from depthwise.graph.layers import is_layer
from depthwise.progress import report_progress
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.goals import kept_channels
from depthwise.sources.slimmed_folder import freeze
from depthwise.training.distill import softened, unlike
from depthwise.training.precision import MixedPrecision, fastest, step_times
from depthwise.training.schedule import one_cycle

EVERY = 8  # image is held out
BATCH = 64
RATES = (0.01, 0.003)  # of SGD with momentum, at the peak of each cycle
TEMPERATURE = 2.0
CLIP = 1.0  # the longest gradient
FEW = 8  # images, on which a precision is timed first
VIEWS = 8  # of each image, at most: the original answers each of them once
ANSWERING = 0.25  # of the time, at most, is for its answers
SHIFT = 8  # of the side, the farthest that a view is shifted


@dataclass(frozen=True, eq=False)
class Mimicked:
    """What mimicking made of a draft.

    Attributes:
        draft: The trained network, or what it was before where that is better.
        before: How far its scores were from the original's on held-out images, as the mean
            divergence (Kullback-Leibler) in nats an image.
        after: The same after training.
        held_out: How many images that was found on.
        seen: How many images were learned from, each as often as it was seen.
    """

    draft: Draft
    before: float
    after: float
    held_out: int
    seen: int

    def __str__(self) -> str:
        """Say what came of it: "0.012 to 0.008 nats an image on 125 held-out images"."""
        found = f"{self.before:.2g} to {self.after:.2g} nats an image on {self.held_out} held-out"
        kept = "" if self.after < self.before else ": no better, so it stays as it was"
        return f"{found} images, {self.seen:,} seen{kept}"


def mimic(
    draft: Draft,
    original: Graph,
    images: np.ndarray | Tensor,
    seconds: float,
    mirror: bool = True,
    stops: Callable[[], bool] = lambda: False,
    seed: int = 0,
) -> Mimicked:
    """Return the draft, trained on unlabelled images to give the original's features and scores.

    Every eighth image is held out and decides, after each of two cycles, whether what was learned
    is taken. BatchNorms keep their statistics, which `reconstruct` has estimated: batches of few
    images know less.

    Args:
        draft: The slimmed network, which may take smaller images.
        original: The network that it was made of.
        images: As the original takes them, (N, C, H, W), eight or more.
        seconds: What all of it may take, about.
        mirror: Whether images may be mirrored: not where left and right differ.
        stops: Asked after each step whether to end now, with what there is.
        seed: Of what is drawn.

    Raises:
        ValueError: The images do not fit or are fewer than eight, or no vector of scores is
            returned.
    """
    start = time.perf_counter()
    x = as_tensor(original, images)
    if len(x) < EVERY:
        raise ValueError(f"there are {len(x)} images: {EVERY} are needed, of which one is held out")
    held = held_out(len(x), EVERY)
    pair = _Pair.of(draft, original)
    judged = x[held]
    wanted = pair.answers(judged)
    before = pair.distance(judged, wanted)
    views = _Views(x[~held], mirror, seed)
    lesson = _answered(pair, views, lambda: time.perf_counter() - start > ANSWERING * seconds)
    left = start + seconds - time.perf_counter()
    best, after, seen = pair.weights(), math.inf, 0
    if left > 0:
        course = _Course(pair, views, lesson, seed)
        for rate in RATES:
            seen += course.cycle(rate, left / len(RATES), stops)
            found = pair.distance(judged, wanted)
            best = pair.weights() if found < min(before, after) else best
            after = min(found, after)
            pair.learner.load_state_dict(best)
    better = after < before
    taken = replace(draft, graph=with_weights_of(draft.graph, pair.learner)) if better else draft
    return Mimicked(taken, before, after if seen else before, len(judged), seen)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network says of images: features (N, C), none where they do not compare; scores."""

    features: Tensor
    scores: Tensor

    def __getitem__(self, places: Tensor) -> "Answers":
        """Return those of some images."""
        return Answers(self.features[places], self.scores[places])

    def loss(self, own: "Answers") -> Tensor:
        """Return how far a network's own answers are from these."""
        loss = softened(own.scores, self.scores, TEMPERATURE)
        if not self.features.shape[1]:
            return loss
        return loss + unlike(own.features[..., None, None], self.features[..., None, None])


@dataclass(frozen=True, eq=False)
class _Pair:
    """The network that learns and the one it learns from, as modules."""

    learner: nn.Module
    teacher: nn.Module
    channels: Tensor | None  # of the teacher's features, those that the learner has
    side: tuple[int, ...]  # of the learner's images

    @classmethod
    def of(cls, draft: Draft, original: Graph) -> "_Pair":
        features, scores = _answering(original)
        channels = kept_channels(draft, original, features)
        own = scores_of(draft.graph)
        learner = to_module(returning(draft.graph, (own if channels is None else features, own)))
        freeze(learner, draft.frozen)
        teacher = to_module(returning(original, (features, scores)))
        (taken,) = draft.graph.inputs.values()
        kept = None if channels is None else torch.as_tensor(channels)
        return cls(learner.eval(), teacher.eval().requires_grad_(False), kept, taken.shape[2:])

    def says(self, images: Tensor) -> Answers:
        """Return what the learner says of images, which are made as small as it takes them."""
        said = self.learner(resized(images, self.side))
        features, scores = (each.flatten(1) for each in said)
        return Answers(features if self.channels is not None else features[:, :0], scores)

    def answers(self, images: Tensor) -> Answers:
        """Return what the teacher says, of those features alone that the learner has."""
        with torch.no_grad():
            parts = [[each.flatten(1) for each in self.teacher(p)] for p in images.split(BATCH)]
        features, scores = (torch.cat(each) for each in zip(*parts, strict=True))
        kept = self.channels
        return Answers(features[:, :0] if kept is None else features[:, kept], scores)

    def distance(self, images: Tensor, wanted: Answers) -> float:
        """Return the mean divergence of the learner's scores, in nats an image."""
        with torch.no_grad():
            own = torch.cat([self.says(part).scores for part in images.split(BATCH)])
        # rounding may leave that of equal scores a little below zero
        return max(0.0, float(softened(own, wanted.scores, 1.0)))

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the learner's weights."""
        return {name: each.clone() for name, each in self.learner.state_dict().items()}


def _answering(graph: Graph) -> tuple[str, str]:
    """Return the values that hold the last features, which the classifier reads, and the scores."""
    value = scores = scores_of(graph)
    nodes = {node.name: node for node in graph}
    while value in nodes and len(graph.activations(nodes[value])) == 1:
        node, (value,) = nodes[value], graph.activations(nodes[value])
        if is_layer(graph, node):
            return value, scores
    return scores, scores


class _Views:
    """Images as they are learned from: as they are first, else shifted and mirrored at random."""

    def __init__(self, images: Tensor, mirror: bool, seed: int):
        self.images = images
        shape = (VIEWS, len(images))
        draws = np.random.default_rng(seed)
        self._mirrored = draws.random(shape) < (0.5 if mirror else 0.0)
        self._reach = tuple(side // SHIFT for side in images.shape[2:])
        self._starts = np.stack([draws.integers(0, 2 * r + 1, shape) for r in self._reach], -1)

    def see(self, view: int, places: np.ndarray) -> Tensor:
        """Return a view of some images."""
        images = self.images[torch.as_tensor(places)]
        if not view:
            return images
        down, right = self._reach
        padded = F.pad(images, (right, right, down, down), mode="replicate")
        height, width = images.shape[2:]
        shifted = [
            each[:, y : y + height, x : x + width].flip(-1) if mirrored
            else each[:, y : y + height, x : x + width]
            for each, (y, x), mirrored in zip(
                padded, self._starts[view, places], self._mirrored[view, places], strict=True
            )
        ]  # fmt: skip
        return torch.stack(shifted).contiguous(memory_format=torch.channels_last)


def _answered(pair: _Pair, views: _Views, is_late: Callable[[], bool]) -> list[Answers]:
    """Return the teacher's answers to as many views as there is time for, to one at least."""
    everything = np.arange(len(views.images))
    found: list[Answers] = []
    for view in range(VIEWS):
        parts = [pair.answers(views.see(view, part)) for part in _batches(everything)]
        found.append(
            Answers(torch.cat([p.features for p in parts]), torch.cat([p.scores for p in parts]))
        )
        if is_late():
            break
    return found


def _batches(places: np.ndarray) -> list[np.ndarray]:
    return np.array_split(places, math.ceil(len(places) / BATCH))


class _Course:
    """Training, in the precision that takes least time here."""

    def __init__(self, pair: _Pair, views: _Views, lesson: list[Answers], seed: int):
        self._pair, self._views, self._lesson = pair, views, lesson
        self._draws = np.random.default_rng(seed)
        self._weights = [each for each in pair.learner.parameters() if each.requires_grad]
        name = fastest(step_times(self._timed, ("bf16",)))
        self._precision = MixedPrecision(name, torch.device("cpu"))

    def cycle(self, rate: float, seconds: float, stops: Callable[[], bool]) -> int:
        """Train for one cycle of the learning rate; return how many images were seen."""
        optimizer = torch.optim.SGD(self._weights, rate, momentum=0.9, nesterov=True)
        start, seen, shown = time.perf_counter(), 0, 0
        with report_progress("mimicking", 100, seconds) as advance:
            for view, places in self._lessons():
                done = (time.perf_counter() - start) / seconds
                if done >= 1 or stops():
                    break
                advance(int(100 * done) - shown)
                shown = int(100 * done)
                for group in optimizer.param_groups:
                    group["lr"] = one_cycle(done, rate)
                self._go_back(self._precision, view, places)
                nn.utils.clip_grad_norm_(self._weights, CLIP)
                optimizer.step()
                seen += len(places)
        return seen

    def _lessons(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield a view and some images, endlessly: all images in turn, each time of one view."""
        while True:
            view = int(self._draws.integers(len(self._lesson)))
            for places in _batches(self._draws.permutation(len(self._views.images))):
                yield view, places

    def _go_back(self, precision: MixedPrecision, view: int, places: np.ndarray) -> None:
        """Leave the gradients of a view of some images in the weights."""
        self._pair.learner.zero_grad()
        with precision.cast():
            own = self._pair.says(self._views.see(view, places))
        self._lesson[view][torch.as_tensor(places)].loss(own).backward()

    def _timed(self, name: str, few: bool) -> Callable[[], object]:
        precision = MixedPrecision(name, torch.device("cpu"))
        places = np.arange(min(len(self._views.images), FEW if few else BATCH))
        return lambda: self._go_back(precision, 0, places)
