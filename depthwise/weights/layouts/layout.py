"""What a foreign checkpoint's names become in our networks."""

import re
from collections.abc import Iterable
from typing import NamedTuple


class CheckpointLayout(NamedTuple):
    """How another project names the tensors of one of our networks in its checkpoints.

    `rename` holds (pattern, replacement) pairs, applied in order with re.sub; `ignore` holds
    patterns of keys that our network has no place for (auxiliary heads, counters).
    `batchnorm_eps` is the eps the checkpoint was trained with, where it is not our network's.
    """

    name: str
    rename: tuple[tuple[str, str], ...]
    ignore: tuple[str, ...] = ()
    batchnorm_eps: float | None = None

    def translate(self, keys: Iterable[str]) -> dict[str, str]:
        """Return their name -> our name, without the ignored ones."""
        translated = {}
        for key in keys:
            if any(re.search(pattern, key) for pattern in self.ignore):
                continue
            name = key
            for pattern, replacement in self.rename:
                name = re.sub(pattern, replacement, name)
            translated[key] = name
        return translated


def flatten_stages(prefix: str, stages: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    """Return renames from prefix.stage.index to prefix.index, for stages of the given lengths."""
    pairs = []
    flat = 0
    for stage, length in enumerate(stages):
        for index in range(length):
            pairs.append((rf"^{prefix}\.{stage}\.{index}\.", f"{prefix}.{flat}."))
            flat += 1
    return tuple(pairs)
