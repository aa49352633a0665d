"""The runtimes that we are compared with: a module each, imported only by the process that runs it.

Each module has `open_network(case, threads) -> RunOnce`: it converts and loads what is in the
`case`, on `threads` threads, in float32 alone, to answer one image as soon as it can.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

RunOnce = Callable[[], np.ndarray]  # the input was given when the network was opened
Form = Literal["library", "direct", "program", "onnx", "torchscript"]

# What each form of a network is called in the folder that all runtimes read.
FILES: dict[Form, str] = {
    "library": "library",
    "direct": "direct",
    "program": "net.pt2",
    "onnx": "net.onnx",
    "torchscript": "net.pt",
}
INPUT, EXPECTED = "input.npy", "expected.npy"


@dataclass(frozen=True)
class Runtime:
    """A runtime: its name, the module that drives it, its packages, the forms that it can read.

    It is opened where any of these could be written. `install` says what to install in place of a
    package alone. `cc` is the C compiler of a library of ours that another than usual makes.
    """

    name: str
    module: str
    packages: tuple[str, ...]  # by the names that pip knows
    forms: tuple[Form, ...]
    install: str = ""
    cc: str | None = None


OURS = Runtime("depthwise", f"{__name__}.ours", (), ("library",))
# Our own without Winograd: what the multiply-adds that are counted take, one for one.
DIRECT = Runtime("depthwise, direct", f"{__name__}.direct", (), ("direct",))
PEERS = (
    Runtime("pytorch", f"{__name__}.eager", ("torch",), ("program",)),
    Runtime("torch.compile", f"{__name__}.inductor", ("torch",), ("program",)),
    Runtime("onnxruntime", f"{__name__}.onnxruntime", ("onnxruntime",), ("onnx",)),
    Runtime("openvino", f"{__name__}.openvino", ("openvino",), ("onnx", "program")),
    Runtime("ncnn", f"{__name__}.ncnn", ("ncnn", "pnnx"), ("torchscript",)),
    Runtime("mnn", f"{__name__}.mnn", ("mnn",), ("onnx",)),
    Runtime(
        "litert", f"{__name__}.litert", ("ai-edge-litert", "litert-torch"), ("program",),
        "'depthwise[litert]', in an environment of its own, for it replaces packages by older ones",
    ),
)  # fmt: skip


def compiled_by(names: str | None) -> tuple[Runtime, ...]:
    """Return our own library as each C compiler makes it, as in "gcc,clang"; none where None."""
    wanted = dict.fromkeys(name for name in (names or "").split(",") if name)
    return tuple(
        Runtime(f"{OURS.name}, {Path(cc).name}", OURS.module, (), OURS.forms, cc=cc)
        for cc in wanted
    )


def find_peers(names: str | None) -> tuple[Runtime, ...]:
    """Return the peers named, as in "openvino,ncnn"; all where None. Raises ValueError."""
    if names is None:
        return PEERS
    known = {peer.name: peer for peer in PEERS}
    wanted = [name for name in names.split(",") if name]
    for name in wanted:
        if name not in known:
            raise ValueError(f"--peers {names}: no peer {name!r}; there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(wanted))
