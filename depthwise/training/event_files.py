"""A run's history as TensorBoard draws it, where its package is installed."""

import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from depthwise.training.history import EpochRecord

FOLDER = "tensorboard"
NO_CURVES = {"epoch", "step", "seconds"}  # what curves are drawn over


class EventFiles:
    """The same numbers as history.jsonl, in the folder that `tensorboard --logdir` takes.

    They are written again from the history whenever a run goes on, and those of before are emptied:
    so what a kill left out is there, and what it left over is not. Without the package nothing is
    written.
    """

    def __init__(self, directory: Path, epochs: Sequence[EpochRecord]):
        """Write what a run's history says so far. Raises OSError where that cannot be done."""
        self._writer = None
        if find_spec("tensorboard") is None:
            return
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (takes a second)

        folder = directory / FOLDER
        for old in folder.glob("events.out.tfevents.*"):
            os.truncate(old, 0)  # TensorBoard may be reading: one that is removed, it waits for
        self._writer = SummaryWriter(folder, purge_step=0)  # which makes it forget what it read
        self._began = time.time() - (epochs[-1].seconds if epochs else 0.0)
        for record in epochs:
            self.add(record)

    def add(self, record: EpochRecord) -> None:
        """Write an epoch's numbers, each under the name that it has in history.jsonl."""
        if self._writer is None:
            return
        at = self._began + record.seconds  # of training: time in which it was stopped is left out
        for name, value in record.model_dump(exclude=NO_CURVES).items():
            self._writer.add_scalar(name, value, record.step, walltime=at)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, and end the thread that writes."""
        if self._writer is not None:
            self._writer.close()
