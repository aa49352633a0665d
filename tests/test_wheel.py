"""The wheel: it holds every file of the package, and runs in a fresh environment."""

import os
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SITES = [path for path in sys.path if path.endswith("site-packages")]
RUNTIME = ("numpy", "pydantic")  # docs/compile.md: what running a library takes
NET = (
    "from torch import nn\ndef net(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6()).eval()\n"
)
CALL = """
import sys
import numpy as np
import depthwise as dw

print(dw.__file__)
print(dw.load(sys.argv[1])(np.ones((1, 3, 8, 8), np.float32)).shape)
"""
FIND = "import importlib.util; print(importlib.util.find_spec('torch'))"


def run(*command, folder=None):
    """Return what a program prints, which sees nothing of this checkout."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "COVERAGE_PROCESS_START"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="NOT TESTED: pip install 'depthwise[test]'")
    folder = tmp_path_factory.mktemp("wheels")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir")
    run(sys.executable, "-m", "pip", "wheel", *options, folder, ROOT, folder=folder)
    (found,) = folder.glob("*.whl")
    return found


def install(wheel, folder, *others):
    """Install a wheel alone in a new environment, which finds all else in folders of others."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, folder=folder)
    (packages_of(python) / "others.pth").write_text("\n".join(map(str, others)))
    return python


def packages_of(python):
    return next(python.parents[1].glob("lib/python3.*/site-packages"))


def top_levels(*names):
    """Return the files and folders of distributions and of all that they require."""
    found, seen, waiting = set(), set(), [*names]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = metadata.distribution(name)
        files = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        found |= {Path(distribution.locate_file(name)) for name in files}
        wanted = [Requirement(text) for text in distribution.requires or ()]
        waiting += [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    return sorted(found)


def assert_runs(python, saved):
    """Hold that the wheel's own package, not the checkout's, opens and runs a saved library."""
    found = run(python, "-c", CALL, saved, folder=saved.parent).splitlines()
    assert found == [str(packages_of(python) / "depthwise/__init__.py"), "(1, 4, 6, 6)"]


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """The Python of an environment where depthwise is the wheel's, and all else is as here."""
    return install(wheel, tmp_path_factory.mktemp("fresh"), *SITES)


@pytest.fixture(scope="module")
def saved(fresh, tmp_path_factory):
    """A library that the installed command compiled."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "net.py").write_text(NET)
    command = fresh.parent / "depthwise"
    run(
        command,
        "compile",
        "net.py:net",
        "--shape",
        "1,3,8,8",
        "--no-tune",
        "--out",
        "out",
        folder=folder,
    )
    return folder / "out"


def test_the_wheel_holds_every_file_of_the_package(wheel):
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "depthwise")
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("NOT TESTED: this is no git checkout")
    tracked = {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == tracked
    assert {Path(name).suffix for name in tracked} >= {".py", ".h", ".c", ".jinja", ".safetensors"}


def test_its_description_is_whole(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    licences = {
        "LICENSE",
        *(f"depthwise/data/LICENSE-{of}" for of in ("torchvision", "fashion-mnist")),
    }
    assert {f"{Path(name).parent}/licenses/{each}" for each in licences} <= {*archive.namelist()}
    text = archive.read(name).decode()
    version = run(
        sys.executable, "-c", "import depthwise; print(depthwise.__version__)", folder=ROOT
    )
    for line in (f"Version: {version.strip()}", "License-Expression: Apache-2.0", "Typing :: Typed",
                 "Provides-Extra: docs", "# depthwise"):  # fmt: skip
        assert line in text


def test_the_installed_command_compiles(fresh, saved):
    assert_runs(fresh, saved)


def test_a_library_runs_without_pytorch(wheel, saved, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    for path in top_levels(*RUNTIME):
        (others / path.name).symlink_to(path)
    python = install(wheel, tmp_path / "environment", others)
    assert_runs(python, saved)
    assert run(python, "-c", FIND) == "None\n"


@pytest.mark.slow
def test_the_installed_command_ships(fresh, tmp_path):
    command = ("ship", "mobilenet_v3_small", "--shape", "1,3,64,64", "--out", "shipped")
    run(fresh.parent / "depthwise", *command, folder=tmp_path)
    assert {"net.c", "libnet.so", "report.html"} <= {
        p.name for p in (tmp_path / "shipped").iterdir()
    }
