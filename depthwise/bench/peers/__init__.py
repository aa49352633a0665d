"""The runtimes that we are compared with: a module each, imported only by the process that runs it.

Each module has `open_network(case, threads) -> RunOnce`: it converts and loads what is in the
`case`, on `threads` threads, in float32 alone, to answer one input as soon as it can. For
throughput a process opens it several times, and calls all of them at once (`ways`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    package alone. `cc` is the C compiler of a library of ours that another than usual makes. One
    that `schedules` shares a batch among its threads itself.
    """

    name: str
    module: str
    packages: tuple[str, ...]  # by the names that pip knows
    forms: tuple[Form, ...]
    install: str = ""
    cc: str | None = None
    schedules: bool = False

    def takes(self, way: "BatchWay", batch: int) -> bool:
        """Tell whether it gets a batch so: one is not parted for what does that itself."""
        return not self.schedules or way.images in (1, batch)


@dataclass(frozen=True)
class BatchWay:
    """How a batch is given to a runtime: it is opened `copies` times, each for `images` at once.

    The copies share the threads and run at the same time, each until its part of the batch is done.
    """

    copies: int
    images: int

    def said(self, batch: int) -> str:
        """Return the way in words, empty for the whole batch at once."""
        if (self.copies, self.images) == (1, batch):
            return ""
        times = f"{self.copies} x " if self.copies > 1 else ""
        return f"{times}{'1 image' if self.images == 1 else f'{self.images} images'}"


def ways(batch: int, threads: int) -> tuple[BatchWay, ...]:
    """Return the ways to give a batch to a runtime on some threads.

    All at once to one copy, or to a copy a thread its part at once, or image by image. Raises
    ValueError for a batch that threads cannot share evenly.
    """
    if batch % threads:
        raise ValueError(
            f"--batch {batch}: {threads} threads cannot have as many images each; give a multiple "
            f"of {threads}"
        )
    found = (BatchWay(1, batch), BatchWay(threads, batch // threads), BatchWay(threads, 1))
    return tuple(dict.fromkeys(found))


OURS = Runtime("depthwise", f"{__name__}.ours", (), ("library",), schedules=True)
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

# What takes one image a request and has many of them under way, by its own scheduling.
THROUGHPUT = (
    Runtime(
        "openvino, requests",
        f"{__name__}.openvino_requests",
        ("openvino",),
        ("onnx",),
        schedules=True,
    ),
)


def compiled_by(names: str | None) -> tuple[Runtime, ...]:
    """Return our own library as each C compiler makes it, as in "gcc,clang"; none where None."""
    wanted = dict.fromkeys(name for name in (names or "").split(",") if name)
    return tuple(replace(OURS, name=f"{OURS.name}, {Path(cc).name}", cc=cc) for cc in wanted)


def find_peers(names: str | None, throughput: bool = False) -> tuple[Runtime, ...]:
    """Return the peers named, as in "OpenVINO,ncnn"; all where None. Raises ValueError.

    With `throughput` also those of the same packages that are made for it.
    """
    known = {peer.name: peer for peer in PEERS}
    wanted = [name for name in names.split(",") if name] if names is not None else list(known)
    for name in wanted:
        if name.lower() not in known:
            raise ValueError(f"--peers {names}: no peer {name!r}; there are {', '.join(known)}")
    found = tuple(known[name] for name in dict.fromkeys(map(str.lower, wanted)))
    packages = {peer.packages for peer in found}
    return found + tuple(peer for peer in THROUGHPUT if throughput and peer.packages in packages)
