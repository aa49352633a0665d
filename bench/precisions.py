"""Libraries of each precision beside OpenVINO in float32 and at its default, on one core, in turns.

    depthwise compile mobilenet_v2 --precision bfloat16 --out half
    depthwise export mobilenet_v2 --out net.onnx
    python bench/precisions.py net.onnx half ...

Each line is the median, and the least, of rounds in which all take their turn; the first is what
the others are held against. `pip install openvino`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import openvino  # type: ignore[import-not-found]

import depthwise as dw

ROUNDS, RUNS, WARM = 15, 10, 10


def openvino_runner(path: Path, x: np.ndarray, precision: str | None) -> Callable[[], object]:
    """Return a function that runs an ONNX file once, by default in what OpenVINO prefers here."""
    given = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    asked = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    request = openvino.Core().compile_model(path, "CPU", given | asked).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x))
    return request.infer


def milliseconds(run: Callable[[], object]) -> float:
    """Return the mean time of some runs, the caches being warm."""
    run()
    start = time.perf_counter()
    for _ in range(RUNS):
        run()
    return (time.perf_counter() - start) / RUNS * 1e3


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(
        description="Libraries of each precision beside OpenVINO, on one core."
    )
    parser.add_argument("onnx", type=Path, help="the network, for OpenVINO")
    parser.add_argument("libraries", type=Path, nargs="+", help="what depthwise compile wrote")
    options = parser.parse_args()
    opened = {path.name: dw.load(path) for path in options.libraries}
    (given,) = next(iter(opened.values())).manifest.network.inputs
    x = np.random.default_rng(0).standard_normal(given.shape, np.float32)
    runs: dict[str, Callable[[], object]] = {
        "OpenVINO, default": openvino_runner(options.onnx, x, None),
        "OpenVINO, float32": openvino_runner(options.onnx, x, "f32"),
    }
    runs |= {name: lambda library=library: library(x) for name, library in opened.items()}
    for run in runs.values():
        for _ in range(WARM):
            run()
    rounds = [{name: milliseconds(run) for name, run in runs.items()} for _ in range(ROUNDS)]
    first = next(iter(runs))
    for name in runs:
        times = [each[name] for each in rounds]
        ratio = median(each[first] / each[name] for each in rounds)
        print(f"{name:<24} {median(times):8.3f} ms  best {min(times):8.3f}  {ratio:5.2f}x")


if __name__ == "__main__":
    main()
