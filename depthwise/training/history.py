"""What happened in each epoch of a run: a line of JSON each."""

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

FILE = "history.jsonl"


class EpochRecord(BaseModel):
    """What one epoch came to. Accuracies are shares, losses nats, rates images a second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    resolution: int
    loss: float
    validation_loss: float
    validation_accuracy: float
    images_per_second: float
    waiting: float
    """The share of time in which the network waited for images."""


class History:
    """The epochs of a run so far, each written as soon as it is over."""

    def __init__(self, directory: Path, length: int = 0):
        """Take what was written up to `length` bytes: what follows belongs to a killed session."""
        self._path = directory / FILE
        with self._path.open("ab") as file:
            file.truncate(length)
        self.epochs = read_history(directory)

    def add(self, record: EpochRecord) -> int:
        """Write a line; return how long the file is then, in bytes."""
        self.epochs.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
            return file.tell()


def read_history(directory: Path) -> list[EpochRecord]:
    """Return the epochs that a run's directory records."""
    path = directory / FILE
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [EpochRecord.model_validate(row) for row in rows]
