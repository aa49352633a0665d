"""`--labels`: what a network's classes are called, and where that is looked up."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthwise.cli.screen import say

if TYPE_CHECKING:
    from depthwise.cli.source import Net, Shape

LabelFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="Names of the classes: a text file with a line each, JSON or CSV; else those in the "
        "checkpoint, or of the folders that images lie in.",
    ),
]


def find_labels(
    file: Path | None, weights: str | None, folder: Path | None, net: "Net",
    shapes: "tuple[Shape, ...]",
) -> tuple[str, ...]:  # fmt: skip
    """Return the names of a network's classes, () where none were given.

    From `file`, which must fit; else from the checkpoint or the folders in a folder of images,
    where they are as many as the classes. Raises ValueError.
    """
    from depthwise.runtime.labels import check_labels  # noqa: PLC0415
    from depthwise.weights.labels import (  # noqa: PLC0415
        labels_of_checkpoint,
        labels_of_folders,
        read_label_file,
    )

    if file:
        labels = read_label_file(file)
        check_labels(labels, _output_shapes(net, shapes), f"--labels {file}")
        return labels
    fits = [shape[-1] for shape in _output_shapes(net, shapes)] if weights or folder else []
    if weights and weights != "imagenet" and (labels := labels_of_checkpoint(Path(weights))):
        if [len(labels)] == fits:
            return labels
        say(f"{weights} names {len(labels)} classes, of which the network knows nothing")
    if folder and folder.is_dir() and [len(labels := labels_of_folders(folder))] == fits:
        say(f"classes are named as the folders in {folder} are")
        return labels
    return ()


def _output_shapes(net: "Net", shapes: "tuple[Shape, ...]") -> list[tuple[int, ...]]:
    """Return the shapes of what a network returns, having run it once."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415
    from torch.utils._pytree import tree_leaves  # noqa: PLC0415

    module = net if isinstance(net, nn.Module) else net.module(check_guards=False)
    with torch.inference_mode():
        outputs = tree_leaves(module(*(torch.zeros(shape) for shape in shapes)))
    return [tuple(value.shape) for value in outputs if isinstance(value, torch.Tensor)]
