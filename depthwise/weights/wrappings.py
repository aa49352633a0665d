"""Where in a checkpoint the weights are: under which key, and with which words before each name.

Training scripts wrap a state dict in others, beside the epoch and the optimiser, and often keep an
average of the weights (EMA) beside the last ones. The average comes first here, as it is what such
scripts evaluate; `FILE#KEY` asks for another.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

AVERAGES = (
    "state_dict_ema", "model_ema", "model_ema_state_dict", "ema_state_dict", "params_ema",
    "ema_model", "net_ema", "netG_ema", "generator_ema", "g_ema", "G_ema", "ema", "shadow",
    "ema_weights", "ema_params", "ema_net", "state_dict_swa", "swa_state_dict", "swa_model", "swa",
    "model_swa", "averaged_model",
)  # fmt: skip
LAST = (
    "state_dict", "model_state_dict", "model_state", "model", "params", "net_state_dict", "net",
    "network", "module", "weights", "model_weights", "generator", "netG", "net_g", "G",
)  # fmt: skip
KEYS = (*AVERAGES, *LAST)
# words before names: DataParallel, torch.compile, fabrics and frameworks
PREFIXES = ("module", "_orig_mod", "_forward_module", *KEYS)
DEEPEST = 5  # wrappings


class Candidate(NamedTuple):
    """A mapping of a checkpoint that may be a state dict.

    `path` are the keys and prefixes that lead there; `beside` the names left out on the way, of
    tensors under other prefixes.
    """

    path: tuple[str, ...]
    entries: Mapping[Any, Any]
    beside: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The path as it is written in FILE#KEY."""
        return ".".join(self.path)


def candidates(checkpoint: Mapping[Any, Any], key: str = "") -> list[Candidate]:
    """Return what may be a state dict, the averages first; with a key, what is under that alone."""
    found = list(_within(checkpoint, ()))
    if not key:
        return found
    inner = _under(checkpoint, key)
    if inner is not None:
        return list(_within(inner, (key,)))
    return [one for one in found if f"{one.key}.".startswith(f"{key}.")]


def _under(entries: Mapping[Any, Any], key: str) -> Mapping[Any, Any] | None:
    """Return the mapping under a key, which may lead through others: a.b is the b of the a."""
    if isinstance(inner := entries.get(key), Mapping):
        return inner
    for first, inner in entries.items():
        if isinstance(inner, Mapping) and key.startswith(f"{first}."):
            found = _under(inner, key[len(f"{first}.") :])
            if found is not None:
                return found
    return None


def holding_tensors(checkpoint: Mapping[Any, Any], path: tuple[str, ...] = ()) -> list[str]:
    """Return the keys of a checkpoint under which tensors are, whatever they are called."""
    found: list[str] = []
    for key, value in checkpoint.items():
        if not isinstance(value, Mapping) or len(path) > DEEPEST:
            continue
        inside = (*path, str(key))
        found += [".".join(inside)] if any(map(_is_array, value.values())) else (
            holding_tensors(value, inside)
        )  # fmt: skip
    return found


def holds_average(path: tuple[str, ...]) -> bool:
    """Tell whether keys and prefixes lead to averaged weights."""
    return any(word in AVERAGES for word in path)


def as_tensors(entries: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a mapping with NumPy's arrays as tensors, without plain numbers beside them."""
    return {
        key: torch.as_tensor(value) if isinstance(value, np.ndarray) else value
        for key, value in entries.items()
        if _is_array(value) or not isinstance(key, str) or "." in key
    }


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    )


def _within(
    entries: Mapping[Any, Any], path: tuple[str, ...], beside: tuple[str, ...] = ()
) -> Iterator[Candidate]:
    """Yield a mapping itself, if it holds tensors, then those in it, and those of one prefix."""
    if len(path) > DEEPEST:
        return
    inner = [key for key in KEYS if isinstance(entries.get(key), Mapping)]
    if any(map(_is_array, entries.values())):
        yield Candidate(path, entries, beside)
    for key in inner:
        yield from _within(entries[key], (*path, key))
    groups: dict[str, dict[str, Any]] = {}
    for name, value in entries.items():
        first, dot, rest = str(name).partition(".")
        if dot:
            groups.setdefault(first, {})[rest] = value
    for first in sorted(groups, key=_rank):
        others = tuple(
            name for name, value in entries.items()
            if _is_array(value) and not str(name).startswith(f"{first}.")
        )  # fmt: skip
        if first in PREFIXES or not others:
            yield from _within(groups[first], (*path, first), (*beside, *others))


def _rank(prefix: str) -> int:
    """Return the place of a prefix among those that are known."""
    order = (*AVERAGES, *PREFIXES)
    return order.index(prefix) if prefix in order else len(order)
