"""Networks compiled for each target, against PyTorch: here where the CPU can, else emulated."""

import numpy as np
import pytest
import torch
from foreign import run_foreign
from generator import Generator
from test_compile import TOLERANCE, draw, settle

import depthwise as dw
from depthwise.families import construct
from depthwise.runtime.target import cpu_features, find_target

NETWORKS = {
    "mobilenet_v3_small": (lambda: construct("mobilenet_v3_small", num_classes=10), (1, 3, 64, 64)),
    "ghostnet": (lambda: construct("ghostnet", num_classes=10), (1, 3, 64, 67)),
    "generator": (Generator, (2, 5, 9, 7)),
}


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "aarch64", "wasm32"])
@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", pytest.param("ghostnet", marks=pytest.mark.slow), "generator"]
)
def test_targets_agree_with_pytorch(name, target, tmp_path):
    build, shape = NETWORKS[name]
    net, (x,) = build().eval(), draw(shape)
    settle(net)
    with torch.no_grad():
        expected = net(x).numpy()
    library = dw.compile(net, shape, target=target)
    chosen = find_target(target)
    if chosen.foreign:
        assert library.manifest.verification is None
        library.save(tmp_path / "out")
        (found,) = run_foreign(tmp_path / "out", [x.numpy()])
    elif chosen.requires <= cpu_features():
        found = library(x.numpy())
    else:
        pytest.skip(f"NOT TESTED for {target}: this CPU cannot run it")
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
