"""What each finished stage found, kept in a hidden folder until the same is asked again."""

import hashlib
import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from depthwise.files.atomic import replace_text
from depthwise.files.cache import hash_file
from depthwise.files.record import Record
from depthwise.runtime.artifact import STATE

Part = TypeVar("Part", bound=BaseModel)


class Kept(Record):
    """A finished stage: the key of all that it depended on, and what it found as JSON."""

    key: str
    found: str


def make_key(*parts: object) -> str:
    """Return a hash of what a stage depends on; parts are what JSON can hold."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def hash_files(paths: tuple[Path, ...]) -> list[tuple[str, str]]:
    """Return the name and the hash of each file."""
    return [(path.name, hash_file(path)) for path in paths]


def read_stage(directory: Path, stage: str, key: str, kind: type[Part]) -> Part | None:
    """Return what a stage found under this key; None where it has to run, or to run again."""
    path = stage_path(directory, stage)
    try:
        kept = Kept.model_validate_json(path.read_bytes())
        return kind.model_validate_json(kept.found) if kept.key == key else None
    except (OSError, ValidationError):  # never done, or by another version
        return None


def keep_stage(directory: Path, stage: str, key: str, found: BaseModel) -> None:
    """Keep what a stage found, whole or not at all. Raises OSError where it cannot be written."""
    path = stage_path(directory, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, Kept(key=key, found=found.model_dump_json()).model_dump_json())


def stage_path(directory: Path, stage: str) -> Path:
    """Return the file that keeps what a stage found."""
    return directory / STATE / f"{stage}.json"
