"""Finished rounds, kept in a hidden folder, so that a search that was killed goes on after them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from depthwise.files.atomic import replace_text
from depthwise.files.record import Record
from depthwise.graph import Graph, open_graph, save_graph, show
from depthwise.report.slimming_record import RoundRecord
from depthwise.slimming.draft import Draft

FOLDER = ".slimming"
KEPT = 2  # drafts: the last one, and the one that its round began with


class KeptRound(Record):
    """A finished round as it is written; `kept` and `parts` are its draft's, `line` of times."""

    key: str
    round: RoundRecord
    kept: dict[str, tuple[int, ...]]
    parts: dict[str, str]
    line: tuple[float, float]


@dataclass(frozen=True)
class SearchProgress:
    """Where a search stands.

    Attributes:
        rounds: Those that are finished.
        draft: What the last one left.
        before: What it began with.
        line: The scale of the estimates of times, and what is added to them.
    """

    rounds: tuple[RoundRecord, ...]
    draft: Draft
    before: Draft
    line: tuple[float, float] = (1.0, 0.0)

    def then(self, draft: Draft, found: RoundRecord, line: tuple[float, float]) -> "SearchProgress":
        """Return it after another round."""
        return SearchProgress((*self.rounds, found), draft, self.draft, line)


def make_key(*parts: object) -> str:
    """Return a hash of what a search depends on; parts are what JSON can hold."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def digest(graph: Graph) -> str:
    """Return a hash of a graph's operators, shapes and weights."""
    found = hashlib.sha256(show(graph).encode())
    for name, constant in graph.constants.items():
        found.update(f"{name} {constant.type}".encode(errors="surrogatepass"))
        if constant.data is not None:
            found.update(np.ascontiguousarray(constant.data).tobytes())
    return found.hexdigest()


def keep(directory: Path, key: str, progress: SearchProgress) -> None:
    """Keep the last round, whole or not at all. Raises OSError where it cannot be written."""
    folder, number = directory / FOLDER, len(progress.rounds)
    folder.mkdir(parents=True, exist_ok=True)
    save_graph(progress.draft.graph, _graph_file(folder, number))
    kept = {name: tuple(map(int, places)) for name, places in progress.draft.kept.items()}
    record = KeptRound(
        key=key, round=progress.rounds[-1], kept=kept, parts=dict(progress.draft.parts),
        line=progress.line,
    )  # fmt: skip
    replace_text(_record_file(folder, number), record.model_dump_json())
    _graph_file(folder, number - KEPT).unlink(missing_ok=True)


def read(directory: Path, key: str, original: Draft) -> SearchProgress | None:
    """Return where a search of the same key stands; None where it has to begin.

    A round whose files are missing or damaged is made again.
    """
    found: list[KeptRound] = []
    while (kept := _read_round(directory / FOLDER, len(found) + 1, key)) is not None:
        found.append(kept)
    while found:
        draft = _read_draft(directory / FOLDER, found, original)
        before = _read_draft(directory / FOLDER, found[:-1], original) if found[1:] else original
        if draft and before:
            return SearchProgress(
                tuple(each.round for each in found), draft, before, found[-1].line
            )
        found.pop()
    return None


def forget(directory: Path) -> None:
    """Remove the rounds of a search whose result is saved. Raises OSError."""
    folder = directory / FOLDER
    for path in folder.glob("*") if folder.is_dir() else ():
        path.unlink()
    if folder.is_dir():
        folder.rmdir()


def _read_round(folder: Path, number: int, key: str) -> KeptRound | None:
    try:
        found = KeptRound.model_validate_json(_record_file(folder, number).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.key == key else None


def _read_draft(folder: Path, rounds: Sequence[KeptRound], original: Draft) -> Draft | None:
    try:
        graph = open_graph(_graph_file(folder, len(rounds)))
    except ValueError:
        return None
    kept = {name: np.array(places) for name, places in rounds[-1].kept.items()}
    return replace(original, graph=graph, kept=kept, parts=rounds[-1].parts)


def _graph_file(folder: Path, number: int) -> Path:
    return folder / f"{number:03}.safetensors"


def _record_file(folder: Path, number: int) -> Path:
    return folder / f"{number:03}.json"
