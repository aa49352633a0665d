"""A compiled network to call from Python, with NumPy alone: this module never imports PyTorch."""

import ctypes
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from depthwise.compiler.artefact import Artefact, read_artefact, write_artefact
from depthwise.compiler.manifest import Manifest, TensorRecord
from depthwise.compiler.target import check_runs_here, find_target

ALIGNMENT = 64  # bytes, of the arena and of the weights

Arrays = Sequence[np.ndarray]


class Code:
    """An opened shared library. Raises ValueError where it is not one of ours."""

    def __init__(self, path: Path):
        try:
            self._library = ctypes.CDLL(str(path))
            self._run = self._library.net_run
            self.arena_bytes, self.weights_bytes = (
                self._ask(name) for name in ("net_arena_bytes", "net_weights_bytes")
            )
        except (OSError, AttributeError) as error:
            raise ValueError(f"{path} cannot be opened as a compiled network: {error}") from None
        self._run.argtypes = (ctypes.c_void_p,) * 4
        self._pool = Pool(self._library) if hasattr(self._library, "net_pool_start") else None

    def run(self, weights: np.ndarray, inputs: Arrays, outputs: Arrays, arena: np.ndarray) -> None:
        """Call net_run: contiguous arrays of the compiled types, weights and arena aligned."""
        tensors = weights.ctypes.data, _address(inputs), _address(outputs), arena.ctypes.data
        status = self._pool.run(*tensors) if self._pool else self._run(*tensors)
        if status:
            raise RuntimeError(f"net_run failed with status {status}")

    def _ask(self, name: str) -> int:
        function = getattr(self._library, name)
        function.restype = ctypes.c_size_t
        return function()


class Pool:
    """The threads of an opened library: they start with its first run, and end with it."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        self._run = library.net_run_parallel
        self._run.argtypes = (ctypes.c_void_p,) * 6
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
                    raise RuntimeError(f"the threads cannot be started: {os.strerror(status)}")
                weakref.finalize(self, _stop, self._library, memory, os.getpid()).atexit = False
                self._started[os.getpid()] = memory
            return self._started[os.getpid()]


def _stop(library: ctypes.CDLL, memory: np.ndarray, process: int) -> None:
    """Stop the threads that live in `memory`, in the process that started them."""
    if process == os.getpid():
        library.net_pool_stop(memory.ctypes.data)


class Library:
    """A compiled network: call it with arrays or tensors, get what the network returns.

    Threads may call one library at once. `save` writes all that a C program needs.
    """

    def __init__(self, artefact: Artefact):
        self._artefact = artefact
        self._weights = align_copy(artefact.weights)
        self._arenas: deque[np.ndarray] = deque()  # those that no call is using

    @property
    def manifest(self) -> Manifest:
        """Shapes, target, compiler, cost, memory and verification."""
        return self._artefact.manifest

    def __call__(self, *inputs: Any) -> Any:
        """Run the network on NumPy arrays, or on PyTorch tensors, and return the same kind.

        One input of the compiled shape and type (float32, but uint8 where a preparation says so)
        for each of the network's; returns one output, a tuple or a dict as the network does.
        Raises ValueError for inputs that do not fit.
        """
        network = self.manifest.network
        if len(inputs) != len(network.inputs):
            raise ValueError(
                f"{network.name} takes {_count(len(network.inputs))}, found {len(inputs)}"
            )
        arrays = [_as_array(x, e) for x, e in zip(inputs, network.inputs, strict=True)]
        results: list[Any] = list(self.run(arrays))
        if any(_is_tensor(x) for x in inputs):
            results = [sys.modules["torch"].from_numpy(y) for y in results]
        return _structured(results, [output.name for output in network.outputs])

    def run(self, inputs: Arrays) -> tuple[np.ndarray, ...]:
        """Run on contiguous arrays of the right shapes and types; return the outputs in order."""
        outputs = tuple(np.empty(e.shape, np.float32) for e in self.manifest.network.outputs)
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = aligned_bytes(self._code.arena_bytes)
        self._code.run(self._weights, inputs, outputs, arena)
        self._arenas.append(arena)
        return outputs

    def save(self, directory: str | PathLike[str]) -> None:
        """Write net.c, net.h, net.weights, the shared library, manifest.json and two examples.

        All files or none. Raises ValueError where the directory holds anything but a library that
        was saved there before, OSError where it cannot be written.
        """
        write_artefact(self._artefact, Path(directory))

    @cached_property
    def _code(self) -> Code:
        """The shared library, opened; raises ValueError where this CPU cannot run it."""
        memory = self.manifest.memory
        check_runs_here(find_target(self.manifest.build.target))
        code = Code(self._artefact.shared.resolve())
        expected = memory.arena_bytes, memory.weights_bytes
        if (code.arena_bytes, code.weights_bytes) != expected:
            raise ValueError(
                f"{self._artefact.shared} wants {code.arena_bytes} bytes of arena and "
                f"{code.weights_bytes} of weights, its manifest says {expected[0]} and "
                f"{expected[1]}: it belongs to another library; save it again"
            )
        return code


def load(directory: str | PathLike[str]) -> Library:
    """Open a library that `Library.save` wrote; PyTorch is not imported.

    Raises ValueError for a directory that is no saved library, files that are not those that were
    saved, or a library for another CPU than this machine's.
    """
    library = Library(read_artefact(Path(directory)))
    _ = library._code
    return library


def aligned_bytes(size: int) -> np.ndarray:
    """Return `size` bytes, not set to anything, that start where a vector may."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


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
    torch = sys.modules.get("torch")  # nobody has a tensor who has not imported it
    return torch is not None and isinstance(x, torch.Tensor)


def _as_array(x: Any, expected: TensorRecord) -> np.ndarray:
    """Return a contiguous array, x's own memory where it can be. Raises ValueError."""
    where = f"input {expected.name!r}"
    if _is_tensor(x):
        if x.device.type != "cpu":
            raise ValueError(f"{where} is on {x.device}: a library takes tensors on the CPU")
        x = x.detach()
    elif not isinstance(x, np.ndarray):
        raise ValueError(f"{where} is a {type(x).__name__}: give a NumPy array or a tensor")
    shape, dtype = tuple(x.shape), str(x.dtype).removeprefix("torch.")
    if shape != expected.shape:
        raise ValueError(f"{where} has shape {shape}: the library takes {expected.shape} only")
    if dtype != expected.dtype:
        raise ValueError(f"{where} is {dtype}: the library takes {expected.dtype}, convert it")
    return np.ascontiguousarray(x)


def _structured(results: list[Any], names: list[str]) -> Any:
    """Return one result, a tuple or a dict: outputs are named "", by position, or by key."""
    if names == [""]:
        return results[0]
    if names == [str(i) for i in range(len(names))]:
        return tuple(results)
    return dict(zip(names, results, strict=True))


def _count(inputs: int) -> str:
    return "1 input" if inputs == 1 else f"{inputs} inputs"
