"""MNN on the CPU, converted from ONNX."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import subprocess
import sys
from pathlib import Path

import MNN
import numpy as np

from depthwise.bench.peers import DEFAULT, EXPECTED, FILES, Opened

# MNN's own command, MNN.tools.mnnconvert, installs a package that reports its use over the network;
# what it calls is called here instead, in a process of its own since it ends the process on errors.
PRECISIONS = {DEFAULT: "normal", "float32": "high", "bfloat16": "low_bf16", "float16": "low"}
CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


def open_network(case: Path, threads: int, precision: str) -> Opened:
    """Return a session; a run copies the input in, and what comes out."""
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
    asked = {"backend": "CPU", "precision": PRECISIONS[precision], "numThread": threads}
    session = net.createSession(asked)
    found = _tensor(np.empty_like(np.load(case / EXPECTED)))
    given: list[MNN.Tensor] = []
    input, output = net.getSessionInput(session), net.getSessionOutput(session)

    def run() -> np.ndarray:
        input.copyFrom(given[0])
        net.runSession(session)
        output.copyToHostTensor(found)
        return found.getNumpyData()

    def give(x: np.ndarray) -> None:
        given[:] = [_tensor(x)]

    return Opened(give, run)


def _tensor(array: np.ndarray) -> "MNN.Tensor":
    return MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)
