"""A compiled network to call from Python, with NumPy alone: this module never imports PyTorch."""

import ctypes
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np

from depthwise.errors import RunError
from depthwise.escaping import kind_of
from depthwise.files.given import as_path
from depthwise.graph.dtypes import FLOAT32, find_dtype
from depthwise.graph.structure import bind, fill
from depthwise.runtime.aligned import ALIGNMENT, aligned_bytes
from depthwise.runtime.artifact import (
    Artifact,
    read_artefact,
    write_artefact,
)
from depthwise.runtime.manifest import Manifest, PrecisionChoice, TensorRecord
from depthwise.runtime.opening import open_content
from depthwise.runtime.target import check_runs_here

Arrays = Sequence[np.ndarray]

# what a library asks of its CPU as it is opened, and why it cannot be where that says no
REFUSED = {
    "net_tiles": "computes in AMX, which this CPU lacks or the system does not lend to this "
    "process: on Linux it takes a kernel from 5.16 on that permits it; else compile for another "
    "target",
    "net_halves": "computes in float16, which this CPU does not: compile for another target",
}


class Code:
    """An opened shared library, from its file or its bytes. Raises ValueError for one not ours.

    `level` is that of a library for a family of CPUs whose code is run; 0 leaves it to the library.
    """

    def __init__(self, shared: Path | bytes, level: int = 0):
        name = "the shared library" if isinstance(shared, bytes) else str(shared)
        try:
            content = shared if isinstance(shared, bytes) else shared.read_bytes()
            self.opened = open_content(content)
            self._run = _entry(self.opened, "net_run", level, pointers=4)
            self.arena_bytes, self.weights_bytes = (
                self._ask(name) for name in ("net_arena_bytes", "net_weights_bytes")
            )
        except (OSError, AttributeError) as error:
            raise ValueError(f"{name} cannot be opened as a compiled network: {error}") from None
        for function, refused in REFUSED.items():
            if hasattr(self.opened, function) and not self._ask(function, ctypes.c_int):
                raise ValueError(f"{name} {refused}, or with precision='float32'")
        has_threads = hasattr(self.opened, "net_pool_start")
        self._pool = Pool(self.opened, level) if has_threads else None

    def run(self, weights: np.ndarray, inputs: Arrays, outputs: Arrays, arena: np.ndarray) -> None:
        """Call net_run: contiguous arrays of the compiled types, weights and arena aligned."""
        tensors = weights.ctypes.data, _address(inputs), _address(outputs), arena.ctypes.data
        status = self._pool.run(*tensors) if self._pool else self._run(*tensors)
        if status:
            raise RunError(f"net_run failed with status {status}")

    def check(self, manifest: Manifest) -> None:
        """Raise ValueError where a manifest says other sizes than the code was compiled for."""
        memory, network = manifest.memory, manifest.network
        found: dict[str, object] = {"arena": self.arena_bytes, "weights": self.weights_bytes}
        said: dict[str, object] = {"arena": memory.arena_bytes, "weights": memory.weights_bytes}
        if hasattr(self.opened, "net_inputs"):  # those of earlier versions say no more
            found |= {"threads": self._ask("net_threads", ctypes.c_int)}
            said |= {"threads": manifest.build.threads}
            for kind, tensors in (("input", network.inputs), ("output", network.outputs)):
                found[f"{kind}s"] = self._tensors(kind)
                said[f"{kind}s"] = [(find_dtype(e.dtype).code, e.bytes) for e in tensors]
        for what in found:
            if found[what] != said[what]:
                raise ValueError(
                    f"the shared library has {what} {found[what]} where its manifest says "
                    f"{said[what]}: one of them was altered or belongs to another library; save "
                    "it again"
                )

    def _tensors(self, kind: str) -> list[tuple[int, int]]:
        """Return the type, as net.h tells it, and the bytes of each input or output."""
        count = self._ask(f"net_{kind}s", ctypes.c_int)
        return [
            (
                self._ask(f"net_{kind}_type", ctypes.c_int, index),
                self._ask(f"net_{kind}_bytes", ctypes.c_size_t, index),
            )
            for index in range(count)
        ]

    def _ask(self, name: str, returned: Any = ctypes.c_size_t, *arguments: int) -> int:
        function = getattr(self.opened, name)
        function.restype = returned
        return function(*arguments)


def _entry(library: ctypes.CDLL, name: str, level: int, pointers: int) -> Callable[..., int]:
    """Return what runs a network, given pointers alone: for a level, another function takes it."""
    function = getattr(library, f"{name}_level" if level else name)
    taken = (ctypes.c_void_p,) * pointers
    function.argtypes = (ctypes.c_int, *taken) if level else taken
    return partial(function, level) if level else function


class Pool:
    """The threads of an opened library: they start with its first run, and end with it."""

    def __init__(self, library: ctypes.CDLL, level: int = 0):
        self._library = library
        self._run = _entry(library, "net_run_parallel", level, pointers=6)
        library.net_pool_start.argtypes = library.net_pool_stop.argtypes = (ctypes.c_void_p,)
        library.net_pool_bytes.restype = ctypes.c_size_t
        self._parallel_for = ctypes.cast(library.net_pool_run, ctypes.c_void_p).value
        self._started: dict[int, np.ndarray] = {}  # by process: threads are not there after a fork
        self._lock = threading.Lock()

    def run(self, *tensors: Any) -> int:
        """Call net_run_parallel with this pool and return its status."""
        memory = self._started.get(os.getpid())
        if memory is None:
            memory = self._start()
        return self._run(*tensors, self._parallel_for, memory.ctypes.data)

    def _start(self) -> np.ndarray:
        with self._lock:
            if os.getpid() not in self._started:
                memory = aligned_bytes(self._library.net_pool_bytes())
                if status := self._library.net_pool_start(memory.ctypes.data):
                    raise RunError(f"the threads cannot be started: {os.strerror(status)}")
                weakref.finalize(self, _stop, self._library, memory, os.getpid()).atexit = False
                self._started[os.getpid()] = memory
            return self._started[os.getpid()]


def _stop(library: ctypes.CDLL, memory: np.ndarray, process: int) -> None:
    """Stop the threads that live in `memory`, in the process that started them."""
    if process == os.getpid():
        library.net_pool_stop(memory.ctypes.data)


class Library:
    """A compiled network, which `compile` and `load` return.

    Of a library for a family of CPUs `level` is the one whose code is run; 0 leaves that to it.
    Several threads may call it at the same time. It can be pickled and copied.
    """

    def __init__(self, artifact: Artifact, level: int = 0):
        self._artefact, self._level = artifact, level
        self._weights = align_copy(artifact.weights)
        self._arenas: deque[np.ndarray] = deque()  # those that no call is using

    def __reduce__(self) -> tuple[type[Self], tuple[Artifact, int]]:
        """Pickle and copy a library as its parts: what was opened stays with its process."""
        return type(self), (self._artefact, self._level)

    @property
    def manifest(self) -> Manifest:
        """Shapes, target, compiler, cost, memory and verification."""
        return self._artefact.manifest

    def with_choice(self, choice: PrecisionChoice) -> Self:
        """Return the same library; its manifest says how its precision was chosen."""
        manifest = self.manifest.model_copy(update={"choice": choice})
        return type(self)(replace(self._artefact, manifest=manifest), self._level)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the network.

        Args:
            *inputs: What the network's forward takes, NumPy arrays or PyTorch tensors, in lists and
                dicts where it takes them so; of the shapes it was compiled for, and of the types
                that its manifest says: float32 for all floating numbers. A network of float16,
                bfloat16 or float64 may be given these too, which are converted.
            **named: Those that are given by name. What was left out when the network was compiled
                is left out here, too, and what is no tensor may be.

        Returns:
            What the network returns, with arrays for arrays and tensors for tensors. Of a class
            that this program has not imported, an equivalent is made: a named tuple for a named
            tuple, a dataclass for a dataclass, a dict for what else was registered with PyTorch.

        Raises:
            ValueError: Inputs that do not fit.
            RunError: The threads that share a call cannot be started.
        """
        network = self.manifest.network
        signature = network.signature
        given = bind(signature.takes, inputs, named, network.name)
        also = network.precisions
        arrays = [_as_array(given[e.name], e, also) for e in network.inputs]
        results: list[Any] = list(self.run(arrays))
        if any(map(_is_tensor, given.values())):
            results = [sys.modules["torch"].from_numpy(y) for y in results]
        names = [output.name for output in network.outputs]
        return fill(signature.returns, dict(zip(names, results, strict=True)))

    def run(self, inputs: Arrays) -> tuple[np.ndarray, ...]:
        """Run on contiguous arrays of the right shapes and types; return the outputs in order."""
        network = self.manifest.network
        outputs = tuple(np.empty(e.shape, find_dtype(e.dtype).storage) for e in network.outputs)
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = aligned_bytes(self._code.arena_bytes)
        self._code.run(self._weights, inputs, outputs, arena)
        self._arenas.append(arena)
        return outputs

    def save(self, directory: str | PathLike[str]) -> None:
        """Write net.c, net.h, net.weights, the shared library, manifest.json and two examples.

        Args:
            directory: Where to: all files are written or none. A library that was saved there
                before is replaced.

        Raises:
            ValueError: The directory holds something else, or files that were edited since.
            OSError: It cannot be written.
        """
        write_artefact(self._artefact, as_path(directory, "the directory to save to"))

    @cached_property
    def _code(self) -> Code:
        """The shared library, opened; raises ValueError where this CPU cannot run it."""
        check_runs_here(self.manifest.build.chosen)
        code = Code(self._artefact.shared, self._level)
        code.check(self.manifest)
        return code


def load(directory: str | PathLike[str]) -> Library:
    """Open a saved library, without PyTorch.

    Args:
        directory: Where `Library.save` wrote it. Its code runs with your rights.

    Raises:
        ValueError: A directory that holds no saved library, files that are not those that were
            saved, or a library for another CPU than this machine's.
    """
    library = Library(read_artefact(as_path(directory, "the directory of a library")))
    _ = library._code
    return library


def align_copy(weights: np.ndarray) -> np.ndarray:
    """Return the bytes of an array, read-only: its own memory where that is aligned."""
    flat = weights.reshape(-1).view(np.uint8)
    if flat.ctypes.data % ALIGNMENT:
        copy = aligned_bytes(flat.size)
        copy[:] = flat
        flat = copy
    flat.flags.writeable = False
    return flat


def _address(arrays: Arrays) -> Any:
    """Return what net_run takes: one tensor's address, or the address of a list of several's."""
    if len(arrays) == 1:
        return arrays[0].ctypes.data
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _is_tensor(x: Any) -> bool:
    torch = sys.modules.get("torch")  # a caller with a tensor has imported it
    return torch is not None and isinstance(x, torch.Tensor)


def _as_array(x: Any, expected: TensorRecord, precisions: Collection[str]) -> np.ndarray:
    """Return a contiguous array, x's own memory where it can be. Raises ValueError.

    What the network itself has in one of `precisions` becomes float32.
    """
    where = f"input {expected.name!r}"
    if _is_tensor(x):
        if x.device.type != "cpu":
            raise ValueError(f"{where} is on {x.device}: a library takes tensors on the CPU")
        if x.layout != sys.modules["torch"].strided:
            raise ValueError(f"{where} is sparse: a library takes dense tensors, x.to_dense()")
        x = x.detach().resolve_neg()  # which NumPy cannot read
    elif not isinstance(x, np.ndarray):
        raise ValueError(f"{where} is {kind_of(x)}: give a NumPy array or a tensor")
    shape, dtype = tuple(x.shape), str(x.dtype).removeprefix("torch.")
    if shape != expected.shape:
        raise ValueError(f"{where} has shape {shape}: the library takes {expected.shape} only")
    converted = dtype in precisions and expected.dtype == FLOAT32.name
    if not converted and dtype != expected.dtype:
        raise ValueError(f"{where} is {dtype}: the library takes {expected.dtype}, convert it")
    if converted and dtype == "bfloat16":  # which NumPy cannot read
        x = sys.modules["torch"].Tensor.float(x)
    return np.ascontiguousarray(x, expected.dtype)
