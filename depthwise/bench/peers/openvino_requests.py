"""OpenVINO on the CPU, asked for throughput: a request an image, as many streams as it chooses."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from pathlib import Path

import numpy as np
import openvino

from depthwise.bench.peers import EXPECTED, FILES, Opened
from depthwise.bench.peers.openvino import HINTS


def open_network(case: Path, threads: int, precision: str) -> Opened:
    """Return what has all images of the input under way at once.

    The network is that of the neighbouring case, which takes a single image.
    """
    options = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    compiled = openvino.Core().compile_model(case.parent / "1" / FILES["onnx"], "CPU", options)
    found = np.empty_like(np.load(case / EXPECTED))
    images: list[openvino.Tensor] = []
    queue = openvino.AsyncInferQueue(compiled)  # of the best number of requests

    def keep(request: "openvino.InferRequest", image: int) -> None:
        found[image] = request.get_output_tensor().data[0]

    queue.set_callback(keep)

    def give(x: np.ndarray) -> None:
        images[:] = [openvino.Tensor(image[None].copy()) for image in x]

    def run() -> np.ndarray:
        for number, image in enumerate(images):
            queue.start_async({0: image}, number, share_inputs=True)
        queue.wait_all()
        return found

    return Opened(give, run)
