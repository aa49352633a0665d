"""What was tried for each layer, and how long it took: decided on, and kept in the cache."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from depthwise.compiler.codegen.emit import header_text, needed_headers
from depthwise.compiler.kernels import KERNELS
from depthwise.compiler.lowering.algorithms import Algorithm, ConvWorkload
from depthwise.compiler.schedule.partition import Bands
from depthwise.files.cache import cache_directory, keep_text
from depthwise.runtime.target import Target, cpu_features, cpu_name
from depthwise.toolchain.build import find_compiler

MARGIN = 0.02  # faster than the default by more than that, or the default stays: less is noise


@dataclass(frozen=True)
class Segment:
    """Neighbouring steps that may be streamed: each call, but for where its values lie."""

    calls: tuple[str, ...]


Way = Algorithm | Bands
Part = ConvWorkload | Segment


class Measurement(BaseModel):
    """The ways that were tried for a layer or piece, the default first.

    `seconds` are medians over rounds; `ratios` the medians of a round's time to the default's, for
    a machine is slower in one round than in another.
    """

    model_config = ConfigDict(frozen=True)

    tried: tuple[Way, ...]
    seconds: tuple[float, ...]
    ratios: tuple[float, ...]

    @classmethod
    def of_rounds(cls, tried: Sequence[Way], rounds: np.ndarray) -> Self:
        """Return the trial from the seconds that each took in each round: (rounds, tried)."""
        seconds, ratios = np.median(rounds, axis=0), np.median(rounds / rounds[:, :1], axis=0)
        return cls(tried=tuple(tried), seconds=seconds.tolist(), ratios=ratios.tolist())

    def is_of(self, tried: Sequence[Way]) -> bool:
        """Tell whether it is of these very ways, with numbers that can be decided on."""
        numbers = (self.seconds, self.ratios)
        whole = all(len(each) == len(tried) for each in numbers)
        return whole and self.tried == tuple(tried) and all(0 < x < math.inf for x in self.ratios)

    def decide(self) -> Way:
        """Return the fastest, or the default where it is within noise, and the next as a remark."""
        ratios = dict(zip(self.tried, self.ratios, strict=True))
        best = min(self.tried, key=ratios.__getitem__)
        if ratios[best] >= 1 - MARGIN:
            best = self.tried[0]
        others = [each for each in self.tried if each != best]
        if not others:
            return best
        second = min(others, key=ratios.__getitem__)
        longer = 100 * (ratios[second] / ratios[best] - 1)
        more = "more" if longer >= 0 else "less, within noise"
        return replace(best, remark=f"; {second} takes {abs(longer):.0f} % {more}")


@dataclass(frozen=True)
class MeasurementCache:
    """Trials by all that they depend on: the part, the target, this CPU, the compiler, the C."""

    target: Target
    cc: str | None

    def path(self, part: Part) -> Path:
        """Return where the cache keeps the trial of a part."""
        headers = [header_text(name) for name in needed_headers(KERNELS)]
        machine = [cpu_name(), *sorted(cpu_features())]
        key = [asdict(part), self.target.name, machine, find_compiler(self.cc).identity, headers]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
        return cache_directory() / "trials" / f"{digest}.json"

    def find(self, part: Part, tried: Sequence[Way]) -> Measurement | None:
        """Return the trial of a part, None where there is none of these very ways to read."""
        path = self.path(part)
        try:
            trial = Measurement.model_validate_json(path.read_bytes()) if path.is_file() else None
        except (ValidationError, OSError):
            return None
        return trial if trial and trial.is_of(tried) else None

    def keep(self, part: Part, trial: Measurement) -> None:
        """Write the trial of a part. Raises BuildError where that fails."""
        keep_text(self.path(part), trial.model_dump_json(indent=1) + "\n")
