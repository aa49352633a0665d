"""Networks to learn from: wherever they come from, for the images of another network's run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.sources.opening import open
from depthwise.sources.slimmed_folder import open_slimmed
from depthwise.sources.source import TorchSource
from depthwise.sources.spec import is_run, is_slimmed, run_directory
from depthwise.training.recipe import Recipe
from depthwise.training.run import Run
from depthwise.weights import IMAGENET, Preprocessing, imagenet_preprocessing, load_weights
from depthwise.weights.bundled import read_record
from depthwise.weights.classes import usual_names
from depthwise.weights.labels import labels_of_checkpoint
from depthwise.weights.read import split_key

CALLED = 5  # classes that an error names


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network that has learned.

    Attributes:
        net: The network.
        preprocessing: What it was shown.
        classes: What its scores are of; empty where that is not known.
    """

    net: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]

    def lacks(self, classes: Sequence[str]) -> list[str]:
        """Return those of some classes that its scores are not of."""
        return [name for name in classes if name not in self.classes]


def open_teacher(recipe: Recipe, classes: Sequence[str]) -> TrainedNetwork | None:
    """Return the network that a recipe lets another one learn from, if any.

    Raises ValueError where it cannot be used, or its scores are to be learned and it does not know
    all of the `classes`.
    """
    if recipe.teacher is None:
        return None
    known = open_trained(recipe.teacher)
    if recipe.teacher_share and (lacking := known.lacks(classes)):
        told = ", ".join(known.classes[:CALLED]) or "classes without names"
        raise ValueError(
            f"teacher {recipe.teacher} does not know the classes {', '.join(lacking[:CALLED])}: "
            f"its own are {told}{' and more' if len(known.classes) > CALLED else ''}. Train it on "
            "these images first, or learn from its feature maps alone, with --teacher-share 0 and "
            "a --feature-share"
        )
    return known


def open_trained(text: str) -> TrainedNetwork:
    """Open a network that has learned.

    Args:
        text: The directory of a run or of a slimmed network; "imagenet" for the bundled
            MobileNetV2; timm:NAME with the weights that timm has of it; NETWORK@CHECKPOINT. A
            checkpoint that records neither classes nor preprocessing is taken to be of ImageNet, if
            it has a thousand classes.

    Raises:
        ValueError: It is none of these, or cannot be used.
    """
    network, at, checkpoint = text.partition("@")
    directory = run_directory(text)
    if is_run(directory):
        run = Run.open(directory)
        return TrainedNetwork(run.network(), run.record.preprocessing, run.record.classes)
    if is_slimmed(directory):
        return _of_slimmed(directory)
    if text == "imagenet":
        name, weights = next(iter(IMAGENET.items()))
        return _of_checkpoint(name, str(weights))
    if at and network and checkpoint:
        return _of_checkpoint(network, checkpoint)
    if text.startswith("timm:"):
        return _of_timm(text)
    raise ValueError(
        f"teacher {text!r}: the directory of a run or of a slimmed network, imagenet, timm:NAME or "
        f"NETWORK@CHECKPOINT is accepted, and {directory} is no run"
    )


def _of_slimmed(directory: Path) -> TrainedNetwork:
    source = open_slimmed(directory)
    assert isinstance(source, TorchSource)
    how = (
        source.known.preprocessing if source.known else imagenet_preprocessing(source.shapes[0][-1])
    )
    count = _outputs(str(directory), source.module, how)
    names = source.known.class_names if source.known else _usual(count)
    return TrainedNetwork(source.module, how, names)


def _of_checkpoint(network: str, checkpoint: str) -> TrainedNetwork:
    path = split_key(checkpoint)[0]
    record = read_record(path) if path.suffix == ".safetensors" and path.is_file() else None
    names = record.class_names if record else labels_of_checkpoint(path)
    settings = {"num_classes": len(names)} if names and len(names) != 1000 else {}
    net, side = _built(network, settings)
    load_weights(net, checkpoint)
    how = record.preprocessing if record else imagenet_preprocessing(side)
    count = _outputs(network, net, how)
    return TrainedNetwork(net, how, names or _usual(count))


def _of_timm(text: str) -> TrainedNetwork:
    net, side = _built(text, {"pretrained": True})
    config: dict[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
    mean, std, share = config["mean"], config["std"], config["crop_pct"]
    how = Preprocessing(
        resize=round(side / share), crop=side, interpolation="bilinear", mean=mean, std=std
    )
    return TrainedNetwork(net, how, _usual(_outputs(text, net, how)))


def _built(network: str, settings: dict) -> tuple[nn.Module, int]:
    """Return a network and the pixels along the images that it is usually fed."""
    source = open(network, settings=settings)
    if not isinstance(source, TorchSource) or source.exported is None:
        raise ValueError(f"teacher {network}: a program cannot be one, give the module")
    return source.exported.eval(), source.shapes[0][-1]


def _outputs(name: str, net: nn.Module, how: Preprocessing) -> int:
    """Return how many classes a network gives scores of. Raises ValueError where it gives none."""
    with torch.no_grad():
        scores = net(torch.zeros(1, 3, how.crop, how.crop))
    if not isinstance(scores, Tensor) or scores.shape[:-1] != (1,):
        found = tuple(scores.shape) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise ValueError(
            f"teacher {name} returns {found} for an image of {how.crop} pixels: scores of classes, "
            "(1, CLASSES), are accepted"
        )
    return scores.shape[-1]


def _usual(count: int) -> tuple[str, ...]:
    """Return the names of ImageNet's classes where there are as many."""
    return usual_names(count) if count == 1000 else ()


class Teacher(nn.Module):
    """A network that has learned, shown the very images that another network is shown.

    They have the crops, the mirroring and the mixtures that they have for the other one (Beyer et
    al., arXiv:2106.05237), and then this network's own resolution and normalisation.
    """

    scale: Tensor
    shift: Tensor
    columns: Tensor

    def __init__(self, known: TrainedNetwork, look: Preprocessing, classes: Sequence[str]):
        """Take images that look as `look` says; answer in the order of `classes`.

        A network that does not know them all answers in its own.
        """
        super().__init__()
        self.net = known.net.eval().requires_grad_(False)
        self.side = known.preprocessing.crop
        self.knows = not known.lacks(classes)
        theirs, ours = (
            torch.tensor([how.mean, how.std]).view(2, 3, 1, 1)
            for how in (known.preprocessing, look)
        )
        self.register_buffer("scale", ours[1] / theirs[1], persistent=False)
        self.register_buffer("shift", (ours[0] - theirs[0]) / theirs[1], persistent=False)
        columns = [known.classes.index(name) for name in classes] if self.knows else []
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return what it says of images (B, 3, H, W): logits of the classes that it was given."""
        if images.shape[-1] != self.side:
            images = F.interpolate(images, self.side, mode="bilinear", antialias=True)
        scores = self.net(images * self.scale + self.shift)
        return scores[:, self.columns] if self.knows else scores
