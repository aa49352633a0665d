"""LiteRT, whose kernels are XNNPACK's, converted from the exported program by litert-torch."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from pathlib import Path

import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter

from depthwise.bench.peers import INPUT, Opened
from depthwise.bench.peers.eager import load_module


def open_network(case: Path, threads: int, precision: str) -> Opened:
    """Return an interpreter; an input is copied in when it is given."""
    x = np.load(case / INPUT)
    converted = litert_torch.convert(load_module(case, threads, precision), (torch.from_numpy(x),))
    converted.export(str(case / "net.tflite"))
    interpreter = Interpreter(str(case / "net.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    input = interpreter.get_input_details()[0]["index"]
    output = interpreter.get_output_details()[0]["index"]

    def run() -> np.ndarray:
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return Opened(lambda x: interpreter.set_tensor(input, x), run)
