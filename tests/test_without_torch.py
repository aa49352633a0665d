"""A saved graph is opened, computed and compiled where there is no PyTorch, to the same C."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import depthwise as dw
from depthwise.graph import capture, interpret

WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
"""

# what needs no PyTorch, but for the modules in these places
ROOMS = ("graph", "analysis", "files", "runtime", "compiler", "hardware")
BUT = (
    "depthwise.graph.frontends.torch.", "depthwise.graph.exporters.torch.",
    "depthwise.compiler.verification.references.pytorch",
)  # fmt: skip

IMPORT_ALL = f"""
import importlib, pkgutil
import depthwise

for room in {ROOMS}:
    package = importlib.import_module(f"depthwise.{{room}}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not (module.name + ".").startswith({BUT}):
            importlib.import_module(module.name)
"""

COMPILE = """
import numpy as np
import depthwise as dw
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import compile_graph
from depthwise.compiler.verification.references.interpreter import InterpreterReference
from depthwise.graph import interpret

source, x, y, out = sys.argv[1:]
graph = dw.open_graph(source)
np.save(y, interpret(graph, np.load(x))[graph.outputs[0].value])
options = CompileOptions(tune=False)
compile_graph(graph, InterpreterReference(graph), options).save(out)
print(graph)
"""


def run(code: str, *arguments: Path) -> str:
    """Run a program in a process in which nothing can import torch; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code, *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_cannot_be_imported_there():
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        run("import torch")


def test_what_needs_no_torch_does_not_import_it():
    run(IMPORT_ALL)


def test_a_saved_graph_is_compiled_to_the_same_c(tmp_path):
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.Hardswish(),
        nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    ).eval()  # fmt: skip
    graph = capture(net, (1, 3, 32, 32))
    dw.save_graph(graph, tmp_path / "net.safetensors")
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    np.save(tmp_path / "x.npy", x)
    paths = [tmp_path / name for name in ("net.safetensors", "x.npy", "y.npy", "without")]
    assert run(COMPILE, *paths) == f"{graph}\n"
    y = interpret(graph, x)[graph.outputs[0].value]
    assert np.array_equal(np.load(tmp_path / "y.npy"), y)
    library = dw.compile(net, (1, 3, 32, 32), tune=False)
    library.save(tmp_path / "with")
    for name in ("net.c", "net.weights"):
        found = [(tmp_path / folder / name).read_bytes() for folder in ("with", "without")]
        assert found[0] == found[1], name
    again = dw.load(tmp_path / "without")
    assert np.array_equal(again(x), library(x))
    assert again.manifest.verification
