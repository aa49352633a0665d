"""A run: the directory that training leaves, and all that is read from it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from depthwise.files.atomic import WRITING, only_one, replace_text
from depthwise.files.cache import hash_bytes
from depthwise.graph import Graph, save_graph
from depthwise.sources.quantized_folder import write_quantized
from depthwise.sources.run_folder import (
    BEGUN,
    BEST,
    GRAPH,
    LAST,
    RunRecord,
    build_again,
    damaged,
    integers_of_run,
    integers_record,
    load_trained,
    read_run,
)
from depthwise.sources.source import torch_source
from depthwise.sources.spec import RECORD, is_run, run_directory
from depthwise.training.adapt import copy_for
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.opening import open_dataset
from depthwise.training.event_files import FOLDER as EVENTS
from depthwise.training.history import FILE as HISTORY
from depthwise.training.history import read_history
from depthwise.training.recipe import Recipe
from depthwise.training.result import RunResult, read_result
from depthwise.training.state import FILE as STATE
from depthwise.training.state import Progress, check_weights, read_state

RECIPE = "recipe.toml"
INTEGERS = "int8"  # the folder of the network in eight bits, of a run that learns so


class Run:
    """A directory with a trained network, how it was trained and how well.

    Attributes:
        directory: Where it is.
        record: What it is of.
        recipe: How it was trained.
    """

    def __init__(self, directory: Path, record: RunRecord, recipe: Recipe):
        self.directory, self.record, self.recipe = directory, record, recipe
        self._given: nn.Module | None = None
        self._graph: Graph | None = None

    @classmethod
    def open(cls, directory: str | PathLike[str]) -> Self:
        """Open the run in a directory. Raises ValueError where there is none, or a damaged one."""
        folder = run_directory(directory)
        record, path = read_run(folder), folder / RECIPE
        try:
            recipe = Recipe.read(path)
        except ValueError as error:
            raise damaged(path, str(error).removeprefix(f"recipe {path}: ")) from None
        if record.recipe not in ("", hash_bytes(path.read_bytes())):
            raise damaged(path, "it is not what the run began with")
        return cls(folder, record, recipe)

    @staticmethod
    def check_free(directory: Path) -> None:
        """Raise ValueError where a new run cannot be in a directory."""
        if (directory / RECORD).exists():
            raise ValueError(
                f"{directory} holds a run already: go on with it (--resume), or choose "
                "another directory"
            )
        if directory.exists() and not directory.is_dir():
            raise ValueError(f"{directory} is a file, and no directory for a run")
        names = {each.name for each in directory.iterdir()} if directory.exists() else set()
        killed = {STATE, LAST, HISTORY, EVENTS, *([RECIPE, BEGUN] if STATE in names else [])}
        others = sorted(name for name in names - killed if not name.startswith(WRITING))
        if others:
            raise ValueError(
                f"{directory} holds other things than a run, which a run might replace: "
                f"{', '.join(others[:3])}; choose a directory that is new or empty"
            )

    def images(self, data: str | PathLike[str] | Dataset | None = None) -> Dataset:
        """Open the images that the run learned from.

        Args:
            data: Where they are now, or themselves; left out, where they were.

        Raises ValueError where they are not there.
        """
        if isinstance(data, Dataset):
            return data
        path = self.record.data if data is None else data
        try:
            return open_dataset(path, seed=self.recipe.seed)
        except ValueError as error:
            if data is not None or os.path.exists(path):
                raise
            raise ValueError(
                f"{error}. {self.directory} learned from these images: where they have been moved, "
                f"say where they are (depthwise train DATA --resume {self.directory}, depthwise "
                f"evaluate {self.directory} DATA)"
            ) from None

    def check_images(self, classes: tuple[str, ...], counts: dict[str, int]) -> None:
        """Raise ValueError where images are not those that the run began with."""
        if classes != self.record.classes:
            raise ValueError(
                f"{self.directory} learned the classes {', '.join(self.record.classes)}, and "
                f"{self.record.data} has {', '.join(classes)} now"
            )
        if counts != self.record.images:
            raise ValueError(
                f"{self.directory} began with {_said(self.record.images)}, and {self.record.data} "
                f"has {_said(counts)} now: train again from its weights, with --weights "
                f"{self.directory / BEST}"
            )

    @classmethod
    def begin(
        cls, directory: Path, record: RunRecord, recipe: Recipe, graph: Graph | None = None
    ) -> Self:
        """Return a new run, whose directory is no run's before `enter` is called.

        It keeps the graph that its network is made of, where that is one. Raises OSError where it
        cannot be made.
        """
        directory.mkdir(parents=True, exist_ok=True)
        kept = hash_bytes(recipe.toml().encode())
        run = cls(directory, record.model_copy(update={"recipe": kept}), recipe)
        run._graph = graph
        return run

    def enter(self) -> None:
        """Make the directory this run's: its first state is there. Raises OSError."""
        replace_text(self.directory / RECIPE, self.recipe.toml())
        if self._graph is not None:
            save_graph(self._graph, self.directory / BEGUN)
        replace_text(self.directory / RECORD, self.record.model_dump_json(indent=1) + "\n")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training in the directory.

        Raises ValueError where one does.
        """
        with only_one(self.directory) as is_alone:
            if not is_alone:
                raise ValueError(
                    f"{self.directory}: another process is training here: let it end, or choose "
                    "another directory"
                )
            yield

    def read_state(self) -> tuple[Progress, dict[str, Tensor]]:
        """Return how far the run is, and all tensors that going on needs.

        Raises ValueError where any file that is needed until the end is missing or damaged.
        """
        found = read_state(self.directory)
        if found is None:
            raise damaged(self.directory / STATE, "it is not there")
        if found[0].best_epoch:
            check_weights(self.directory / BEST)
        read_history(self.directory, found[0].history_bytes)
        return found

    @property
    def exists(self) -> bool:
        """Whether there is something to go on with."""
        return is_run(self.directory)

    @property
    def result(self) -> RunResult | None:
        """How well it did; None where it is not finished."""
        return read_result(self.directory)

    def holding(self, net: nn.Module | None) -> Self:
        """Take the module that the run began with, where it began with one; return the run.

        Raises ValueError for a module of a run that began with a name.
        """
        if net is not None and not self.record.module:
            raise ValueError(f"{self.directory} is of {self.record.network}: leave out net")
        self._given = net
        return self

    def begun(self) -> nn.Module:
        """Return the network that is trained, with its first weights or others.

        Raises ValueError where the run began with a module that is not at hand.
        """
        if self._given is None:
            return build_again(self.record, self.directory)
        return copy_for(self._given, len(self.record.classes))

    def keep_graph(self) -> None:
        """Keep the best network as a graph, which is opened without the class of its module."""
        side = self.record.preprocessing.crop
        source = torch_source(self.network().cpu(), [(1, 3, side, side)])
        save_graph(source.graph, self.directory / GRAPH)

    def keep_integers(self) -> None:
        """Keep the best network of a run in eight bits, to be opened as quantized:DIRECTORY/int8.

        Raises OSError where it cannot be written.
        """
        graph = integers_of_run(self.directory, self.record)
        write_quantized(self.directory / INTEGERS, graph, integers_record(self.record))

    def network(self, weights: str = BEST) -> nn.Module:
        """Return the trained network, in evaluation mode.

        Args:
            weights: The file of its weights; left out, the best ones.

        Raises ValueError where the run has no weights yet, and where it began with a module that is
        not at hand: see `holding`.
        """
        return load_trained(self.directory, self.begun(), weights)


def _said(counts: dict[str, int]) -> str:
    return " and ".join(f"{number} images of {name}" for name, number in counts.items())
