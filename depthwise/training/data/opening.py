"""Labelled images, whatever holds them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

from depthwise.training.data.dataset import Dataset
from depthwise.training.data.folder import open_folder
from depthwise.training.data.hub import is_hub, open_hub
from depthwise.training.data.labels_csv import is_label_file, open_labels
from depthwise.training.data.named import NAMED, open_named
from depthwise.training.data.shard_paths import is_shards
from depthwise.training.data.shards import open_shards


@dataclass(frozen=True)
class Holder:
    """A kind of thing that holds labelled images.

    Attributes:
        said: What messages call it.
        is_one: Whether a path or name is of this kind; of the first that says so it is.
        open: Gives the images, with a seed for those that are set aside for validation.
    """

    said: str
    is_one: Callable[[str], bool]
    open: Callable[[str, int], Dataset]


HOLDERS = (
    Holder(f"the name of a set ({', '.join(NAMED)})", NAMED.__contains__, open_named),
    Holder("a folder that the package datasets saved, or one of parquet files", is_hub, open_hub),
    Holder("WebDataset shards (.tar, as in train-{000..009}.tar)", is_shards, open_shards),
    Holder("a folder that has a folder of images for each class", os.path.isdir, open_folder),
    Holder("a .csv or .tsv file of path,label", is_label_file, open_labels),
)


def open_dataset(data: str | PathLike[str], *, seed: int = 0, beside: str = "") -> Dataset:
    """Open labelled images: a path, or the name of a set.

    Args:
        data: What holds the images.
        seed: Of the images that are set aside for validation, where the set has none for it.
        beside: What the caller takes as well, which a message then names, too.

    Raises ValueError for what holds no labelled images, or none that a network can be trained on.
    """
    text = os.fspath(data)
    for holder in HOLDERS:
        if holder.is_one(text):
            return holder.open(text, seed)
    found = "no such data" if os.path.exists(text) else "nothing at this path, and no set's name"
    accepted = "; ".join([*(holder.said for holder in HOLDERS), *([beside] if beside else [])])
    raise ValueError(f"{text}: {found}; accepted are {accepted}")
