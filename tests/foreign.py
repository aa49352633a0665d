"""Runs a saved library that was compiled for another architecture, under an emulator."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import wasmtime

from depthwise.runtime.manifest import Manifest, read_saved
from depthwise.runtime.target import OPTIMISE, Target, find_target
from depthwise.toolchain.build import find_compiler


def run_foreign(directory: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of the library saved in `directory`; skips the test without emulator."""
    manifest = read_saved(directory).manifest
    target = find_target(manifest.build.target)
    if target.runner == "wasmtime":
        return run_wasm(directory / "net.wasm", manifest, inputs)
    assert target.runner, f"{target.name} runs here: load it"
    if shutil.which(target.runner) is None:
        pytest.skip(f"NOT TESTED for {target.name}: no {target.runner}, apt-get install qemu-user")
    return run_emulated(directory, manifest, target, inputs)


def run_emulated(
    directory: Path, manifest: Manifest, target: Target, inputs: list[np.ndarray]
) -> list[np.ndarray]:
    """Link net.c and example.c statically for the target, and run that under qemu."""
    with tempfile.TemporaryDirectory() as folder:
        values, program = Path(folder, "input"), Path(folder, "example")
        values.write_bytes(b"".join(np.ascontiguousarray(x).tobytes() for x in inputs))
        flags = (*OPTIMISE, "-target", f"{target.architecture}-linux-musl", f"-mcpu={target.mcpu}")
        sources = [str(directory / name) for name in ("net.c", "example.c")]
        zig = find_compiler().command
        subprocess.run([*zig, *flags, "-static", *sources, "-lm", "-o", program], check=True)
        command = [target.runner, program, directory / "net.weights", values]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return split_outputs(np.array(printed.split(), np.float32), manifest)


def run_wasm(path: Path, manifest: Manifest, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Run a saved WebAssembly module once."""
    net = WasmNet(
        path, (path.parent / "net.weights").read_bytes(),
        [x.nbytes for x in inputs], [4 * y.size for y in manifest.network.outputs],
    )  # fmt: skip
    assert net.weights_bytes == manifest.memory.weights_bytes
    return split_outputs(np.concatenate(net(inputs)), manifest)


class WasmNet:
    """A WebAssembly module of a network, and its memory.

    Weights, tensors and arena lie behind __heap_base, as net.h says.
    """

    def __init__(self, path: Path, weights: bytes, inputs: list[int], outputs: list[int]):
        self._store = wasmtime.Store()
        module = wasmtime.Module.from_file(self._store.engine, str(path))
        assert not module.imports
        self._exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._memory = self._exports["memory"]
        self._top = self._exports["__heap_base"].value(self._store)
        self.weights_bytes = self._exports["net_weights_bytes"](self._store)
        at = self._place(weights)
        self._inputs = [self._allocate(size) for size in inputs]
        self._outputs = [(self._allocate(size), size) for size in outputs]
        arena = self._allocate(self._exports["net_arena_bytes"](self._store))
        given, results = (
            self._pointers(each) for each in (self._inputs, [y for y, _ in self._outputs])
        )
        self._arguments = at, given, results, arena

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs, flat."""
        for x, at in zip(inputs, self._inputs, strict=True):
            self._memory.write(self._store, np.ascontiguousarray(x).tobytes(), at)
        assert self._exports["net_run"](self._store, *self._arguments) == 0
        return [
            np.frombuffer(self._memory.read(self._store, at, at + size), np.float32)
            for at, size in self._outputs
        ]

    def _allocate(self, size: int) -> int:
        start = -(-self._top // 64) * 64
        self._top = start + size
        missing = self._top - self._memory.data_len(self._store)
        if missing > 0:
            self._memory.grow(self._store, -(-missing // 65536))
        return start

    def _place(self, data: bytes) -> int:
        start = self._allocate(len(data))
        self._memory.write(self._store, data, start)
        return start

    def _pointers(self, addresses: list[int]) -> int:
        """Return where the addresses of several tensors lie, of one itself."""
        if len(addresses) == 1:
            return addresses[0]
        return self._place(np.array(addresses, np.uint32).tobytes())


def split_outputs(values: np.ndarray, manifest: Manifest) -> list[np.ndarray]:
    """Cut one row of numbers into the network's outputs."""
    outputs = manifest.network.outputs
    ends = np.cumsum([y.size for y in outputs])
    assert values.size == ends[-1]
    return [v.reshape(y.shape) for v, y in zip(np.split(values, ends[:-1]), outputs, strict=True)]
