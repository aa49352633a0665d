"""ncnn, converted by pnnx; half precision, which it takes where it can, is off."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import subprocess
from pathlib import Path

import ncnn
import numpy as np
import pnnx

from depthwise.bench.peers import FILES, INPUT, RunOnce


def open_network(case: Path, threads: int) -> RunOnce:
    """Return a function that runs an extractor, which keeps nothing between runs, on the input."""
    x = np.load(case / INPUT)
    shape = f"inputshape=[{','.join(map(str, x.shape))}]"
    command = (pnnx.EXEC_PATH, FILES["torchscript"], shape, "fp16=0")
    done = subprocess.run(command, cwd=case, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pnnx: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = net.opt.use_bf16_packed = False
    stem = case / Path(FILES["torchscript"]).stem
    if net.load_param(f"{stem}.ncnn.param") or net.load_model(f"{stem}.ncnn.bin"):
        raise RuntimeError("ncnn cannot load what pnnx made of the network")
    image = ncnn.Mat(x[0]).clone()  # else it shares the memory of x, which is freed

    def run() -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in0", image)
        failed, out = extractor.extract("out0")
        if failed:
            raise RuntimeError(f"ncnn's extractor returned {failed}")
        return np.array(out)

    return run
