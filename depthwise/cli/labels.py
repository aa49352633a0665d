"""`--labels`: what a network's classes are called, and where that is looked up."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthwise.cli.screen import say

if TYPE_CHECKING:
    from depthwise.sources.source import Source

LabelFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="Names of the classes: a text file with a line each, JSON or CSV; else those in the "
        "checkpoint, or of the folders that images lie in.",
    ),
]


def find_labels(
    file: Path | None, weights: str | None, folder: Path | None, source: "Source"
) -> tuple[str, ...]:
    """Return the names of a network's classes, () where none were given.

    From `file`, which must fit; else from the checkpoint or the folders in a folder of images,
    where they are as many as the classes. Raises ValueError.
    """
    from depthwise.runtime.labels import check_labels, find_scores  # noqa: PLC0415
    from depthwise.weights.labels import (  # noqa: PLC0415
        labels_of_checkpoint,
        labels_of_folders,
        read_label_file,
    )
    from depthwise.weights.read import split_key  # noqa: PLC0415

    if file:
        labels = read_label_file(file)
        check_labels(labels, source.output_shapes, f"--labels {file}")
        return labels
    if source.known:  # a run's own names: those of folders may be in another order
        return ()
    shapes = source.output_shapes if weights or folder else []
    if (
        weights
        and weights != "imagenet"
        and (labels := labels_of_checkpoint(split_key(weights)[0]))
    ):
        if find_scores(shapes, len(labels)) is not None:
            return labels
        say(f"{weights} names {len(labels)} classes, of which the network knows nothing")
    if folder and folder.is_dir():
        labels = labels_of_folders(folder)
        if find_scores(shapes, len(labels)) is not None:
            say(f"classes are named as the folders in {folder} are")
            return labels
    return ()
