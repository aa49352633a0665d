"""MNN on the CPU, converted from ONNX, at high precision (its others are half)."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import subprocess
import sys
from pathlib import Path

import MNN
import numpy as np

from depthwise.bench.peers import EXPECTED, FILES, INPUT, RunOnce

# MNN's own command, MNN.tools.mnnconvert, installs a package that reports its use over the network;
# what it calls is called here instead, in a process of its own since it ends the process on errors.
CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


def open_network(case: Path, threads: int) -> RunOnce:
    """Return a function that copies the input into a session, runs it and copies what comes out."""
    names = (
        "-f",
        "ONNX",
        "--modelFile",
        FILES["onnx"],
        "--MNNModel",
        "net.mnn",
        "--bizCode",
        "MNN",
    )
    command = (sys.executable, "-c", CONVERT, *names)
    done = subprocess.run(command, cwd=case, capture_output=True, text=True, check=False)
    if not (case / "net.mnn").is_file():
        last = (done.stdout + done.stderr).strip().splitlines()[-2:]  # what, and that it failed
        raise RuntimeError(f"mnnconvert: {' '.join(last)}")
    net = MNN.Interpreter(str(case / "net.mnn"))
    session = net.createSession({"backend": "CPU", "precision": "high", "numThread": threads})
    x, y = np.load(case / INPUT), np.empty_like(np.load(case / EXPECTED))
    given, found = (_tensor(array) for array in (x, y))
    input, output = net.getSessionInput(session), net.getSessionOutput(session)

    def run() -> np.ndarray:
        input.copyFrom(given)
        net.runSession(session)
        output.copyToHostTensor(found)
        return found.getNumpyData()

    return run


def _tensor(array: np.ndarray) -> "MNN.Tensor":
    return MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)
