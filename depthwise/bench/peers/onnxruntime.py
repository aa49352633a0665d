"""ONNX Runtime on the CPU, with every graph optimisation."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from pathlib import Path

import numpy as np
import onnxruntime

from depthwise.bench.peers import FILES, INPUT, RunOnce


def open_network(case: Path, threads: int) -> RunOnce:
    """Return a function that runs a session on the input, which is bound to it once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        case / FILES["onnx"], options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, np.load(case / INPUT))
    binding.bind_output(session.get_outputs()[0].name, "cpu")

    def run() -> np.ndarray:
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]

    return run
