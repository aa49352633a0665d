"""OpenVINO on the CPU, one stream, asked for latency; int8 by NNCF, or by our quantiser."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from pathlib import Path

import numpy as np
import openvino
import torch
import torchvision  # noqa: F401  (brings operators that programs may hold)

from depthwise.bench.peers import CALIBRATION, FILES, INPUT, INT8, INT8_OF_OURS, Opened

# What it is asked to compute in; at its default, and of a quantised network, it chooses itself what
# stays in floating numbers.
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def open_network(case: Path, threads: int, precision: str) -> Opened:
    """Return an infer request; an input is set when it is given."""
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    if precision in HINTS:
        options["INFERENCE_PRECISION_HINT"] = HINTS[precision]
    how = ""
    if precision == INT8_OF_OURS:
        model = core.read_model(case / FILES["quantised"])
    elif precision == INT8:
        model, how = _quantise(_read(core, case), case)
    else:
        model = _read(core, case)
    compiled = core.compile_model(model, "CPU", options)
    used = compiled.get_property("INFERENCE_PRECISION_HINT")
    if not how and precision not in HINTS:
        how = f"floating numbers in {used.get_type_name()}"
    request = compiled.create_infer_request()

    def run() -> np.ndarray:
        request.infer(share_outputs=True)
        return request.get_output_tensor().data

    return Opened(lambda x: request.set_input_tensor(openvino.Tensor(x)), run, how)


def _quantise(model: "openvino.Model", case: Path) -> "tuple[openvino.Model, str]":
    """Return a network as NNCF quantises it after training, by its defaults, and how."""
    import nncf  # type: ignore[import-not-found]  # noqa: PLC0415

    images, batch = np.load(case / CALIBRATION), np.load(case / INPUT, mmap_mode="r").shape[0]
    parts = [images[i : i + batch] for i in range(0, len(images) - batch + 1, batch)]
    made = nncf.quantize(model, nncf.Dataset(parts), subset_size=len(parts))
    return made, f"by NNCF {nncf.__version__}"


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
