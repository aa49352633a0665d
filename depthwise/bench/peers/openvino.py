"""OpenVINO on the CPU, one stream, asked for latency."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from pathlib import Path

import numpy as np
import openvino

from depthwise.bench.peers import FILES, INPUT, Run


def open_network(case: Path, threads: int) -> Run:
    """Return a function that runs an infer request on the input, which is given to it once."""
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(case / FILES["onnx"]), "CPU", options)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.load(case / INPUT)))
    output = request.get_output_tensor().data  # a view: every run writes it anew

    def run() -> np.ndarray:
        request.infer(share_outputs=True)
        return output

    return run
