"""Runs a saved library that was compiled for another architecture, under an emulator."""

import shutil
import subprocess
import tempfile
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
    """Lay weights, tensors and arena behind __heap_base, as net.h says, and call net_run."""
    store = wasmtime.Store()
    module = wasmtime.Module.from_file(store.engine, str(path))
    assert not module.imports
    exports = wasmtime.Instance(store, module, []).exports(store)
    memory, top = exports["memory"], exports["__heap_base"].value(store)

    def allocate(size: int) -> int:
        nonlocal top
        start = -(-top // 64) * 64
        top = start + size
        missing = top - memory.data_len(store)
        if missing > 0:
            memory.grow(store, -(-missing // 65536))
        return start

    def place(data: bytes) -> int:
        start = allocate(len(data))
        memory.write(store, data, start)
        return start

    def pointers(addresses: list[int]) -> int:
        if len(addresses) == 1:
            return addresses[0]
        return place(np.array(addresses, np.uint32).tobytes())

    weights = place((path.parent / "net.weights").read_bytes())
    given = pointers([place(np.ascontiguousarray(x).tobytes()) for x in inputs])
    results = [(allocate(4 * y.size), 4 * y.size) for y in manifest.network.outputs]
    arena = allocate(exports["net_arena_bytes"](store))
    assert exports["net_weights_bytes"](store) == manifest.memory.weights_bytes
    assert exports["net_run"](store, weights, given, pointers([y for y, _ in results]), arena) == 0
    raw = b"".join(memory.read(store, start, start + size) for start, size in results)
    return split_outputs(np.frombuffer(raw, np.float32), manifest)


def split_outputs(values: np.ndarray, manifest: Manifest) -> list[np.ndarray]:
    """Cut one row of numbers into the network's outputs."""
    outputs = manifest.network.outputs
    ends = np.cumsum([y.size for y in outputs])
    assert values.size == ends[-1]
    return [v.reshape(y.shape) for v, y in zip(np.split(values, ends[:-1]), outputs, strict=True)]
