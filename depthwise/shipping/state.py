"""What each finished stage found, cached in a hidden folder for the next run."""

import hashlib
import json
import shutil
from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from depthwise.files.atomic import replace_text
from depthwise.files.cache import hash_file
from depthwise.report.record import Found, Record, StageRecord
from depthwise.runtime.artifact import STATE


class CachedStage(Record):
    """A finished stage as it is written.

    `key` is that of all that it depended on, `found` its record as JSON, and `network` the digest
    of the network that it handed on.
    """

    key: str
    found: str
    network: str


def make_key(*parts: object) -> str:
    """Return a hash of what a stage depends on; parts are what JSON can hold."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def hash_files(paths: tuple[Path, ...]) -> list[tuple[str, str]]:
    """Return the name and the hash of each file."""
    return [(path.name, hash_file(path)) for path in paths]


def read_stage(directory: Path, key: str, kind: type[Found]) -> tuple[Found, str] | None:
    """Return a finished stage's record, and the digest of the network that it handed on.

    None where the stage has to run: it never did, its key has changed, or another version of
    depthwise wrote the file.
    """
    try:
        cached = CachedStage.model_validate_json(stage_path(directory, kind.stage).read_bytes())
        if cached.key != key:
            return None
        return kind.model_validate_json(cached.found), cached.network
    except (OSError, ValidationError):
        return None


def cache_stage(directory: Path, key: str, record: StageRecord, network: str) -> None:
    """Write what a stage found, whole or not at all. Raises OSError where it cannot be written."""
    path = stage_path(directory, record.stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    cached = CachedStage(key=key, found=record.model_dump_json(), network=network)
    replace_text(path, cached.model_dump_json())


def forget_others(directory: Path, stages: Collection[str]) -> None:
    """Remove what stages found that this version does not have; nothing reads it again."""
    for path in (directory / STATE).glob("*.json"):
        if path.stem not in stages:
            path.unlink(missing_ok=True)


def work_folder(directory: Path, name: str, key: str) -> Path:
    """Return the folder in which a stage keeps unfinished work and what it hands on.

    It is empty where the work there was begun under another key: of another network, budget or set
    of images.
    """
    folder = directory / STATE / name
    mark = directory / STATE / f"{name}.key"
    if not mark.is_file() or mark.read_text("utf-8") != key:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(mark, key)
    return folder


def stage_path(directory: Path, stage: str) -> Path:
    """Return the file that keeps what a stage found."""
    return directory / STATE / f"{stage}.json"
