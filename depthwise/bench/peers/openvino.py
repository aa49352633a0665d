"""OpenVINO on the CPU, one stream, asked for latency."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from pathlib import Path

import numpy as np
import openvino
import torch
import torchvision  # noqa: F401  (brings operators that programs may hold)

from depthwise.bench.peers import FILES, INPUT, RunOnce


def open_network(case: Path, threads: int) -> RunOnce:
    """Return a function that runs an infer request on the input, which is given to it once."""
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(_read(core, case), "CPU", options)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.load(case / INPUT)))

    def run() -> np.ndarray:
        request.infer(share_outputs=True)
        return request.get_output_tensor().data

    return run


def _read(core: "openvino.Core", case: Path) -> "openvino.Model":
    """Return the network as read from ONNX, which runs faster, or else from PyTorch.

    MobileNetV3-Small took 0.82 ms for 0.90, GhostNet 2.65 for 3.05; but operators such as
    deformable convolution are read from PyTorch alone.
    """
    try:
        return core.read_model(case / FILES["onnx"])
    except RuntimeError:
        model = openvino.convert_model(torch.export.load(case / FILES["program"]))
        model.reshape(np.load(case / INPUT).shape)
        return model
