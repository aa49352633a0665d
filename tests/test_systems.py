"""Libraries for Windows and macOS, built here: what they export, and what Windows' computes."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from binaries import exported
from test_compile import settle
from torch import nn

import depthwise as dw
from depthwise.layers import conv_norm_act
from depthwise.runtime.target import OPTIMISE, find_target, host_system
from depthwise.toolchain.build import find_compiler

SHAPE = (1, 3, 20, 17)
# What PE and Mach-O call an architecture: IMAGE_FILE_MACHINE_..., CPU_TYPE_...
MACHINES = {
    ("windows", "x86_64"): 0x8664, ("windows", "aarch64"): 0xAA64,
    ("macos", "x86_64"): 0x01000007, ("macos", "aarch64"): 0x0100000C,
}  # fmt: skip

LINKERS = {"__dso_handle", "_mh_dylib_header"}  # which every dylib has


def make_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        conv_norm_act(3, 24, 3, 2), nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5),
    ).eval()  # fmt: skip
    settle(net)
    return net


def declared(directory) -> set[str]:
    """Return the functions that net.h declares."""
    return set(re.findall(r"\b(net_\w+)\((?!\))", (directory / "net.h").read_text())) - {"net_task"}


@pytest.mark.parametrize(
    ("target", "system", "threads"),
    [
        ("aarch64", "macos", 2),
        pytest.param("x86-64", "macos", 1, marks=pytest.mark.slow),
        # the first one builds Windows' C library, which takes a minute
        pytest.param("x86-64-v3", "windows", 2, marks=pytest.mark.slow),
        pytest.param("x86-64", "windows", 1, marks=pytest.mark.slow),
        pytest.param("aarch64", "windows", 1, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_what_net_h_declares_is_exported_and_nothing_else(tmp_path, target, system, threads):
    library = dw.compile(
        make_net(), SHAPE, target=target, system=system, threads=threads, check_plan=False
    )
    library.save(tmp_path / "out")
    chosen = find_target(target, system)
    (shared,) = (tmp_path / "out").glob(f"*{chosen.suffix}")
    names, machine = exported(shared.read_bytes())
    assert machine == MACHINES[system, chosen.architecture]
    assert len(declared(tmp_path / "out")) == 11 + 6 * (threads > 1) + 2 * bool(chosen.members)
    assert names - LINKERS == declared(tmp_path / "out")
    if system != host_system():
        with pytest.raises(
            ValueError, match=f"for {system}, and this machine runs {host_system()}"
        ):
            dw.load(tmp_path / "out")
    assert (library.manifest.build.system, library.manifest.build.target) == (system, target)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "threads"), [("x86-64", 1), ("x86-64-v3", 2)])
def test_windows_computes_the_same_bits(tmp_path, target, threads):
    """The example of net.h, linked with net.dll and run by Wine, beside Linux' library."""
    wine = shutil.which("wine64") or shutil.which("/usr/lib/wine/wine64")
    if wine is None:
        pytest.skip("NOT TESTED on Windows: no wine64, apt-get install wine64")
    here = dw.compile(make_net(), SHAPE, target=target, threads=threads)
    there = dw.compile(
        make_net(), SHAPE, target=target, threads=threads, system="windows", check_plan=False
    )
    there.save(tmp_path / "out")
    x = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    x.tofile(tmp_path / "out" / "input")
    zig = [*find_compiler().command, *OPTIMISE, "-target", find_target(target, "windows").triple]
    program = ["example.c", "net.dll", "-s", "-o", "example.exe"]
    subprocess.run([*zig, *program], cwd=tmp_path / "out", check=True)
    done = subprocess.run(
        [wine, "example.exe", "net.weights", "input"], cwd=tmp_path / "out", capture_output=True,
        text=True, check=True, env={**os.environ, "WINEPREFIX": str(tmp_path / "wine"),
                                    "WINEDEBUG": "-all"},
    )  # fmt: skip
    found = np.array(done.stdout.split(), np.float32)
    np.testing.assert_array_equal(found, here(x).reshape(-1))
