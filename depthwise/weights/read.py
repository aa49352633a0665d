"""Checkpoint files to tensors: nothing in a file is ever run."""

import json
import re
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from depthwise.weights.beside import BESIDE

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
INDEX = (".safetensors.index.json", ".bin.index.json")  # of weights in several files
# first bytes of what is no checkpoint of PyTorch's -> what it is, and what to do
OTHERS = {
    b"\x1f\x8b": "is compressed by gzip: unpack it first, with gunzip or tar",
    b"BZh": "is compressed by bzip2: unpack it first, with bunzip2 or tar",
    b"\xfd7zXZ": "is compressed by xz: unpack it first, with unxz or tar",
    b"\x89HDF": "is an HDF5 file, as Keras and TensorFlow write: convert its weights to PyTorch's "
    "names and save them with torch.save or safetensors",
}
TAR = 257, b"ustar"
# how PyTorch's reader says what it does not make
REFUSED = re.compile(r"(?:GLOBAL |class |function |but got <class ')`?([\w.]+\.\w+)")


def split_key(source: str | PathLike[str]) -> tuple[Path, str]:
    """Return a checkpoint's path, and the key after a # if its name has one: last.pth#ema."""
    place, _, key = str(source).rpartition("#")
    if place.endswith((*SUFFIXES, *INDEX)):
        return Path(place), key
    return Path(source), ""


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Return what the checkpoint at `path` holds, its tensors mapped from the file where possible.

    Pickles are read with weights_only=True. Raises ValueError for a file that is missing,
    truncated, of another kind, or asks for code to be run.
    """
    if not path.exists():
        raise ValueError(f"no checkpoint file at {path}")
    if not path.is_file():
        raise ValueError(f"{path} is a folder: name the checkpoint in it")
    _check_kind(path)
    if path.name.endswith(INDEX):
        return _read_shards(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: a checkpoint ends in one of {', '.join(SUFFIXES)}")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata in the header of a safetensors file; {} for other files."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _check_kind(path: Path) -> None:
    """Raise ValueError for a file that is known to be no checkpoint of PyTorch's."""
    with path.open("rb") as file:
        head = file.read(TAR[0] + len(TAR[1]))
    for start, what in OTHERS.items():
        if head.startswith(start):
            raise ValueError(f"{path} {what}")
    if head[TAR[0] :] == TAR[1] and b"sys_info" not in head:
        raise ValueError(f"{path} is an archive of files: unpack it first, with tar -xf")
    if ".data-0000" in path.name or path.suffix in (".index", ".pb", ".h5", ".keras", ".tflite"):
        raise ValueError(
            f"{path} is a file of TensorFlow's: convert its weights to PyTorch's names and save "
            "them with torch.save or safetensors"
        )


def _read_shards(path: Path) -> dict[str, Any]:
    """Return the tensors of the files that an index names, which lie beside it."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        files = sorted(set(names))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f'{path}: expected an index of weights, {{"weight_map": {{tensor: file, ...}}}}'
        ) from None
    entries: dict[str, Any] = {}
    for name in files:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{path} names the file {name!r}: only files beside it are read")
        if not (path.parent / name).is_file():
            raise ValueError(f"{path} names {name}, and there is no such file beside it")
        entries |= read_checkpoint(path.parent / name)
    return entries


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
        with (
            warnings.catch_warnings(action="ignore"),  # the pickle's protocol is not our concern
            torch.serialization.safe_globals(BESIDE),
        ):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        if refused := REFUSED.search(str(error)):
            raise ValueError(_holds_code(path, refused[1])) from None
        if "TorchScript" in str(error):
            raise ValueError(
                f"{path} is a network in TorchScript: save its weights, "
                "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
            ) from None
        raise ValueError(_damaged(path, error)) from None
    if not isinstance(loaded, Mapping):
        raise ValueError(
            f"{path} holds an object of type {type(loaded).__name__}: expected a state_dict"
        )
    return loaded


def _holds_code(path: Path, name: str) -> str:
    """Return what to do about a pickle of more than tensors."""
    return (
        f"{path} holds more than tensors: its pickle asks for {name}, and pickled code is not run; "
        "where it was trained, save the network's state_dict() instead of the network or what is "
        "beside it: torch.save(net.state_dict(), 'weights.pth')"
    )


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
    return (
        f"{path} cannot be read as a checkpoint ({path.stat().st_size} bytes): it is truncated or "
        f"no checkpoint ({reason})"
    )
