"""The runtimes that we are compared with: a module each, imported only by the process that runs it.

Each module has `open_network(case, threads, precision) -> Opened`: it converts and loads what is in
the `case`, on `threads` threads, to compute in that precision alone, to answer one input as soon as
it can. For throughput a process opens it several times, and calls all of them at once (`ways`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from depthwise.graph.dtypes import FLOAT32

RunOnce = Callable[[], np.ndarray]  # computes the output of the input that was given last
Form = Literal["library", "direct", "program", "onnx", "torchscript", "quantised"]

INT8 = "int8"  # as the runtime's own quantiser makes it
INT8_OF_OURS = "int8 by depthwise"  # the same network as ours, written as ONNX
DEFAULT = "default"  # what the runtime takes where nothing is asked of it
FLOATS = (FLOAT32.name, "bfloat16", "float16")

# What each form of a network is called in the folder that all runtimes read.
FILES: dict[Form, str] = {
    "library": "library",
    "direct": "direct",
    "program": "net.pt2",
    "onnx": "net.onnx",
    "torchscript": "net.pt",
    "quantised": "net-int8.onnx",
}
INPUT, EXPECTED = "input.npy", "expected.npy"
# Images that precisions are judged on, with what float32 says of them, and images to quantise with.
IMAGES, EXPECTED_OF_IMAGES, CALIBRATION = "images.npy", "expected-images.npy", "calibration.npy"


def library_path(case: Path, precision: str) -> Path:
    """Return where a case holds our library of a precision."""
    return case / f"{FILES['library']}-{precision}"


@dataclass(frozen=True)
class Opened:
    """A network that a runtime has loaded.

    Attributes:
        give: Takes an input, of the shape that the network was opened for.
        run: Computes the output of what was given last.
        how: What was done to the network, in words, where precision alone does not tell.
    """

    give: Callable[[np.ndarray], None]
    run: RunOnce
    how: str = ""


@dataclass(frozen=True)
class Runtime:
    """A runtime: its name, the module that drives it, its packages, the forms that it can read.

    It is opened where any of these could be written. `install` says what to install in place of a
    package alone. `cc` is the C compiler of a library of ours that another than usual makes. One
    that `schedules` shares a batch among its threads itself. It is run in `precision`, one of
    `precisions`: DEFAULT is among these where that may be another than float32, INT8 where it has a
    quantiser, which needs the packages of `quantiser`, and INT8_OF_OURS where it reads ours.
    """

    name: str
    module: str
    packages: tuple[str, ...]  # by the names that pip knows
    forms: tuple[Form, ...]
    install: str = ""
    cc: str | None = None
    schedules: bool = False
    precision: str = FLOAT32.name
    precisions: tuple[str, ...] = (FLOAT32.name,)
    quantiser: tuple[str, ...] = ()

    def at(self, precision: str) -> "Runtime":
        """Return the same runtime in another precision."""
        if precision == INT8:
            packages = (*self.packages, *self.quantiser)
            return replace(self, precision=precision, packages=packages)
        forms: tuple[Form, ...] = ("quantised",) if precision == INT8_OF_OURS else self.forms
        return replace(self, precision=precision, forms=forms)

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
    Runtime("pytorch", f"{__name__}.eager", ("torch",), ("program",), precisions=FLOATS),
    Runtime("torch.compile", f"{__name__}.inductor", ("torch",), ("program",), precisions=FLOATS),
    Runtime(
        "onnxruntime", f"{__name__}.onnxruntime", ("onnxruntime",), ("onnx",),
        precisions=(FLOAT32.name, INT8, INT8_OF_OURS), quantiser=("onnx",),
    ),
    Runtime(
        "openvino", f"{__name__}.openvino", ("openvino",), ("onnx", "program"),
        precisions=(DEFAULT, *FLOATS, INT8, INT8_OF_OURS), quantiser=("nncf",),
    ),
    Runtime(
        "ncnn", f"{__name__}.ncnn", ("ncnn", "pnnx"), ("torchscript",),
        precisions=(DEFAULT, *FLOATS),
    ),
    Runtime("mnn", f"{__name__}.mnn", ("mnn",), ("onnx",), precisions=(DEFAULT, *FLOATS)),
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


def at_precisions(
    peers: Sequence[Runtime], precisions: Sequence[str], calibrated: bool
) -> tuple[Runtime, ...]:
    """Return peers in each precision that they have, and as they come, where that may be another.

    With int8 each quantises the network itself where there are images to do it with
    (`calibrated`), and takes ours as well.
    """
    wanted = [DEFAULT, *precisions]
    if INT8 in precisions:
        wanted = [each for each in wanted if each != INT8 or calibrated] + [INT8_OF_OURS]
    return tuple(
        peer.at(precision) for peer in peers for precision in wanted if precision in peer.precisions
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
