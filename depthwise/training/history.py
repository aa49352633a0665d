"""What happened in each epoch of a run: a line of JSON each."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from depthwise.files.record import first_fault
from depthwise.sources.run_folder import damaged

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
        """Take what was written up to `length` bytes: what follows belongs to a killed session.

        Raises ValueError where that is not there.
        """
        self._path = directory / FILE
        self.epochs = read_history(directory, length)
        with self._path.open("ab") as file:
            file.truncate(length)

    def add(self, record: EpochRecord) -> int:
        """Write a line; return how long the file is then, in bytes."""
        self.epochs.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
            return file.tell()


def read_history(directory: Path, length: int | None = None) -> list[EpochRecord]:
    """Return the epochs that a run's directory records, in the first `length` bytes or in all.

    Raises ValueError where they are not there.
    """
    path = directory / FILE
    if not length and not path.exists():
        return []
    try:
        content = path.read_bytes()
        if len(content) < (length or 0):
            raise damaged(path, f"it has {len(content)} bytes of {length}")
        return [EpochRecord.model_validate_json(line) for line in content[:length].splitlines()]
    except OSError as error:
        raise damaged(path, str(error.strerror)) from None
    except ValidationError as error:
        raise damaged(path, first_fault(error)) from None
