"""ncnn, converted by pnnx; half precision, which it takes where it can, is off unless asked for."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import subprocess
from pathlib import Path

import ncnn
import numpy as np
import pnnx

from depthwise.bench.peers import DEFAULT, FILES, INPUT, Opened


def open_network(case: Path, threads: int, precision: str) -> Opened:
    """Return a network; a run makes an extractor, which keeps nothing between runs."""
    x = np.load(case / INPUT)
    shape = f"inputshape=[{','.join(map(str, x.shape))}]"
    command = (pnnx.EXEC_PATH, FILES["torchscript"], shape, "fp16=0")
    done = subprocess.run(command, cwd=case, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pnnx: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    if precision != DEFAULT:
        half, brain = precision == "float16", precision == "bfloat16"
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
        net.opt.use_bf16_storage = net.opt.use_bf16_packed = brain
    stem = case / Path(FILES["torchscript"]).stem
    if net.load_param(f"{stem}.ncnn.param") or net.load_model(f"{stem}.ncnn.bin"):
        raise RuntimeError("ncnn cannot load what pnnx made of the network")
    given: list[ncnn.Mat] = []

    def give(new: np.ndarray) -> None:
        given[:] = [ncnn.Mat(new[0]).clone()]  # else it shares the memory, which may be freed

    def run() -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in0", given[0])
        failed, out = extractor.extract("out0")
        if failed:
            raise RuntimeError(f"ncnn's extractor returned {failed}")
        return np.array(out)

    return Opened(give, run)
