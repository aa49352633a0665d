"""ONNX Runtime on the CPU, with every graph optimisation; int8 by its quantiser, or by ours."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from pathlib import Path

import numpy as np
import onnxruntime

from depthwise.bench.peers import CALIBRATION, FILES, INPUT, INT8, INT8_OF_OURS, Opened


def open_network(case: Path, threads: int, precision: str) -> Opened:
    """Return a session; an input is bound to it when it is given."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    path, how = case / FILES["onnx"], ""
    if precision == INT8:
        path, how = _quantise(case)
    elif precision == INT8_OF_OURS:
        path = case / FILES["quantised"]
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    input = session.get_inputs()[0].name
    binding.bind_output(session.get_outputs()[0].name, "cpu")
    given: list[np.ndarray] = []  # whose memory may be bound, not copied

    def give(x: np.ndarray) -> None:
        given[:] = [x]
        binding.bind_cpu_input(input, x)

    def run() -> np.ndarray:
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]

    return Opened(give, run, how)


def _quantise(case: Path) -> tuple[Path, str]:
    """Write the network as ONNX Runtime's static quantiser makes it; return where, and how.

    As its documentation advises for x86 with VNNI: uint8 activations, int8 weights by channel, QDQ.
    """
    from onnxruntime import quantization  # noqa: PLC0415

    class Images(quantization.CalibrationDataReader):
        def __init__(self):
            images, name = np.load(case / CALIBRATION), _input(prepared)
            batch = np.load(case / INPUT, mmap_mode="r").shape[0]
            starts = range(0, len(images) - batch + 1, batch)
            self._given = iter([{name: images[i : i + batch]} for i in starts])

        def get_next(self) -> dict[str, np.ndarray]:
            return next(self._given, None)  # pyright: ignore  (None ends them, which it does not say)

    prepared, made = case / "net-prepared.onnx", case / "net-onnxruntime.onnx"
    quantization.quant_pre_process(
        str(case / FILES["onnx"]), str(prepared), skip_symbolic_shape=True
    )
    quantization.quantize_static(
        prepared, made, Images(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    return made, "quantize_static, min/max, weights by channel"


def _input(path: Path) -> str:
    """Return the name of the input of a network in a file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.get_inputs()[0].name
