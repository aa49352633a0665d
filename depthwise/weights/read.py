"""Checkpoint files to tensors: nothing in a file is ever run."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, training frameworks


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Return what the checkpoint at `path` holds, its tensors mapped from the file where possible.

    Pickles are read with weights_only=True. Raises ValueError for a file that is missing,
    truncated, of another kind, or asks for code to be run.
    """
    if not path.is_file():
        raise ValueError(f"no checkpoint file at {path}")
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: a checkpoint ends in one of {', '.join(SUFFIXES)}")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata in the header of a safetensors file; {} for other files."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def unwrap(checkpoint: Mapping[str, Any], names: set[str]) -> Mapping[str, Any]:
    """Take the state_dict out of its wrappings; a prefix that all of `names` bear is left on."""
    for wrapper in WRAPPERS:
        if isinstance(inner := checkpoint.get(wrapper), Mapping):
            return unwrap(inner, names)
    for prefix in PREFIXES:
        ours = all(name.startswith(prefix) for name in names)
        if checkpoint and not ours and all(str(key).startswith(prefix) for key in checkpoint):
            return unwrap({k.removeprefix(prefix): v for k, v in checkpoint.items()}, names)
    return checkpoint


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(_damaged(path, error)) from None


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            archive = file.read(2) == b"PK"  # the older format has no archive to map
        with warnings.catch_warnings(action="ignore"):  # the pickle's protocol is not our concern
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ValueError(
                f"{path} holds more than tensors: its pickle asks for {refused[1]}, and pickled "
                "code is not run; save net.state_dict() instead of the network, best as "
                ".safetensors"
            ) from None
        raise ValueError(_damaged(path, error)) from None
    if not isinstance(loaded, Mapping):
        raise ValueError(
            f"{path} holds an object of type {type(loaded).__name__}: expected a state_dict"
        )
    return loaded


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
    return (
        f"{path} cannot be read as a checkpoint ({path.stat().st_size} bytes): it is truncated or "
        f"no checkpoint ({reason})"
    )
