"""NNCF's and ONNX Runtime's int8 of a network: run by compare.py in an environment that has both.

    python rivals.py DIRECTORY

DIRECTORY has network.onnx, and images.npz with `images` to calibrate on and `held`; into it go
nncf.npy and onnxruntime.npy, the scores of the held-out images. Both quantise as they do where
nothing else is asked for, but for weights by channel in ONNX Runtime, which are no default there.
"""

import sys
from pathlib import Path

import nncf
import numpy as np
import onnxruntime as ort
import openvino as ov
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


def by_nncf(network: Path, images: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Return scores by NNCF 8 bits in OpenVINO."""
    core = ov.Core()
    model = core.read_model(network)
    data = nncf.Dataset([image[None] for image in images])
    quantized = nncf.quantize(model, data, subset_size=len(images))
    compiled = core.compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(image[None])[0] for image in held])


def by_onnxruntime(network: Path, images: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Return scores by ONNX Runtime's static quantisation to QDQ."""
    name = ort.InferenceSession(str(network)).get_inputs()[0].name

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = iter(images)

        def get_next(self):
            image = next(self.left, None)
            return None if image is None else {name: image[None]}

    prepared, made = network.with_name("prepared.onnx"), network.with_name("onnxruntime.onnx")
    quant_pre_process(str(network), str(prepared))
    quantize_static(
        str(prepared), str(made), Reader(), quant_format=QuantFormat.QDQ, per_channel=True
    )
    session = ort.InferenceSession(str(made))
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in held])


def main(directory: Path) -> None:
    """Write what both say."""
    given = np.load(directory / "images.npz")
    for name, run in (("nncf", by_nncf), ("onnxruntime", by_onnxruntime)):
        found = run(directory / "network.onnx", given["images"], given["held"])
        np.save(directory / f"{name}.npy", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
