"""A file that torch.jit.save wrote, looked through before and after PyTorch opens it."""

import warnings
import zipfile
from pathlib import Path

import torch

from depthwise.escaping import in_line
from depthwise.graph.frontends.torch.quiet import quiet
from depthwise.graph.frontends.torch.torchscript import check_operators

RESTORING = b"__setstate__"  # a method that runs while a file is opened


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Return the scripted or traced network in a file, in main memory; nothing of it has run.

    Raises ValueError for a file that is missing, damaged, holds weights alone or code that would
    run when it is opened; Unsupported for operators that are not PyTorch's, or that touch files.
    """
    if not path.is_file():
        raise ValueError(f"no file at {path}: give a .pt file that torch.jit.save wrote")
    if not is_torchscript(path):
        raise ValueError(
            f"{path} holds no network in TorchScript (torch.jit.save), or is truncated: where it "
            "holds weights, name the network and give the file as its weights (--weights FILE)"
        )
    damaged = f"{path} is a damaged network in TorchScript: save it again"
    try:
        with zipfile.ZipFile(path) as archive:
            code = [name for name in archive.namelist() if name.endswith(".py")]
            found = next((name for name in code if RESTORING in archive.read(name)), "")
    except Exception:  # damaged bytes make the readers raise nearly anything
        raise ValueError(damaged) from None
    if found:
        raise ValueError(
            f"{path} holds code that runs when it is opened, in {in_line(found)}, as networks that "
            "were quantised have: save the network as it was before"
        )
    try:
        with quiet(), warnings.catch_warnings(action="ignore"):  # that TorchScript is old
            net = torch.jit.load(str(path), map_location="cpu")
    except Exception:
        raise ValueError(damaged) from None
    check_operators("", net)
    return net


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is an archive as torch.jit.save writes them."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
